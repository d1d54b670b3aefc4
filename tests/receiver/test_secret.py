"""A secret is what was written, or where it is; and no message repeats it."""

from pathlib import Path

import msgspec
import pytest

from receiver.secret import SECRET_BYTES_MAX, Secret, SecretError, reveal


def keep(folder: Path, content: bytes, mode: int = 0o600) -> None:
    (folder / "key").write_bytes(content)
    (folder / "key").chmod(mode)


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.mark.parametrize(
    ("secret", "revealed"),
    [
        ("hex:00ff7F", b"\x00\xff\x7f"),
        ("ascii:correct horse: battery", b"correct horse: battery"),
        ("ascii: ", b" "),
        ("credential:key", b"in a file"),
    ],
)
def test_it_is_revealed_as_it_is_written(tmp_path: Path, secret: str, revealed: bytes) -> None:
    keep(tmp_path, b"in a file\n")
    assert msgspec.convert(secret, Secret) == secret
    assert reveal(secret, tmp_path) == revealed


@pytest.mark.parametrize(
    "text",
    [
        *("", "hex:", "hex:0", "hex:0g", "HEX:00", "hex:00 ", "ascii:", "ascii:é", "ascii:a\n", "plain", "credential:"),
        *("credential:a/b", "credential:..", "credential:.", "credential:.hidden", "credential:../key", "credential:a\0"),
    ],
)
def test_what_is_written_otherwise_is_none(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, Secret)


def test_systemds_folder_comes_first_and_what_it_does_not_have_is_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    keep(tmp_path, b"beside")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    assert reveal("credential:key", tmp_path) == b"beside"
    keep(given, b"\x00binary\xff", 0o444)  # systemd answers for who may read there
    assert reveal("credential:key", tmp_path) == b"\x00binary\xff"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o601, 0o666])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keep(tmp_path, b"secret words", mode)
    with pytest.raises(SecretError) as told:
        reveal("credential:key", tmp_path)
    assert str(told.value) == f"{tmp_path / 'key'}: others may read it: chmod 600"


@pytest.mark.parametrize("content", [b"", b"\r\n", b"secret words" * SECRET_BYTES_MAX])
def test_a_file_without_a_secret_or_with_too_much_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    keep(tmp_path, content)
    with pytest.raises(SecretError) as told:
        reveal("credential:key", tmp_path)
    assert str(told.value) == f"{tmp_path / 'key'}: must hold 1 to {SECRET_BYTES_MAX} bytes"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file or directory"),  # noqa: ARG005 - nothing is made
        (lambda path: path.mkdir(mode=0o700), "Is a directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_what_to_do(tmp_path: Path, make: object, why: str) -> None:
    assert callable(make)
    make(tmp_path / "key")
    with pytest.raises(SecretError) as told:
        reveal("credential:key", tmp_path)
    assert str(told.value) == f"{tmp_path / 'key'}: {why}: put the secret there, with mode 0600"
