"""What is written of an account becomes a policy; a mistake says what to do, and never the key."""

import os
from pathlib import Path

import pytest

from protocols.link import Policy
from receiver.rules import Rules, Written

KEY = "000102030405060708090A0B0C0D0E0F"


def made(home: Path, key: str | tuple[str, ...] | None, *heartbeat: str) -> tuple[Policy, list[tuple[str, str]]]:
    wrong: list[tuple[str, str]] = []
    written: Written = (key, "enforce", None, heartbeat)
    return Rules(home).policy(written, wrong), wrong


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize("kind", ["hex", "ascii", "file", "file of hex", "file of ascii"])
def test_a_key_of_each_size_in_each_notation(tmp_path: Path, size: int, kind: str) -> None:
    key = b"abcdefghijklmnopqrstuvwxyz012345"[:size]
    content = {"file": key + b"\n", "file of hex": f"hex:{key.hex()}\n".encode(), "file of ascii": b"ascii:" + key}.get(kind)
    if content:
        (tmp_path / "panel").write_bytes(content)
        (tmp_path / "panel").chmod(0o600)
    written = {"hex": f"hex:{key.hex()}", "ascii": f"ascii:{key.decode()}"}.get(kind, "credential:panel")
    assert made(tmp_path, written) == (Policy(keys=(key,)), [])


def test_thirty_two_digits_are_a_key_of_sixteen_bytes_or_of_thirty_two_as_is_said(tmp_path: Path) -> None:
    assert made(tmp_path, f"hex:{KEY}")[0].keys == (bytes.fromhex(KEY),)
    assert made(tmp_path, f"ascii:{KEY}")[0].keys == (KEY.encode(),)


def test_in_a_rotation_the_new_key_is_first(tmp_path: Path) -> None:
    policy, wrong = made(tmp_path, (f"ascii:{KEY}", f"hex:{KEY}"))
    assert (policy.keys, wrong) == ((KEY.encode(), bytes.fromhex(KEY)), [])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "must be"),
        (KEY, "must be"),
        ("hex:abc", "must be"),
        ("hex:00ff", "has 2 bytes, and AES takes 16, 24 or 32: count its characters"),
        (f"hex:{KEY[:16]}", 'write "ascii:" before them'),
        (f"hex:{KEY[:24]}", 'write "ascii:" before them'),
        ("ascii:short", "has 5 bytes, and AES takes 16, 24 or 32: count its characters"),
        (f"ascii:{KEY}{KEY}", 'these are hexadecimal digits: write "hex:" before them'),
        (f"ascii:{KEY}{KEY[:16]}", 'these are hexadecimal digits: write "hex:" before them'),
        ("credential:none", "No such file"),
    ],
)
def test_a_key_that_is_none_is_told_and_not_repeated(tmp_path: Path, key: str, message: str) -> None:
    policy, ((path, told),) = made(tmp_path, key)
    assert path == "key"
    assert message in told
    assert KEY[:16] not in told
    assert policy == Policy()


def test_a_file_that_others_may_read_or_that_holds_no_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "panel").write_text(f"hex:{KEY}0")
    (tmp_path / "panel").chmod(0o644)
    _, ((_, told),) = made(tmp_path, ("credential:panel", f"hex:{KEY}"))
    assert told == f"{tmp_path}/panel: others may read it: chmod 600"
    (tmp_path / "panel").chmod(0o600)
    _, ((path, told),) = made(tmp_path, ("credential:panel", f"hex:{KEY}"))
    assert path == "key[0]"
    assert told.startswith(f"{tmp_path}/panel: must hold ")
    assert KEY not in told
    os.truncate(tmp_path / "panel", 4)
    assert "must hold" in made(tmp_path, "credential:panel")[1][0][1]


@pytest.mark.parametrize("code", ["RP", "rp", "602", "Q9", "YY"])
def test_a_test_a_state_or_an_unknown_code_may_be_a_heartbeat(tmp_path: Path, code: str) -> None:
    assert made(tmp_path, None, code) == (Policy(heartbeat=frozenset({code.upper()})), [])


@pytest.mark.parametrize("code", ["PA", "pa", "HA", "FA", "BA", "120", "130", "OP", "401", "AT", "WA"])
def test_what_somebody_waits_for_is_no_heartbeat(tmp_path: Path, code: str) -> None:
    _, ((path, message),) = made(tmp_path, None, "RP", code)
    assert path == "heartbeat[1]"
    assert "as a link test it would reach nobody" in message


def test_a_policy_shows_no_key(tmp_path: Path) -> None:
    policy, _ = made(tmp_path, (f"hex:{KEY}", f"ascii:{KEY}"), "RP")
    for text in (repr(policy), str(policy), f"{[policy]}", repr(policy.__rich_repr__())):
        assert KEY not in text
        assert repr(bytes.fromhex(KEY))[2:-1] not in text
    assert repr(policy) == "Policy(2 keys, enforce, None, ['RP'])"
