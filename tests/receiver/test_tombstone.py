"""A tombstone is there whole or not at all, and says what it said."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from receiver.tombstone import Tombstone, tombstones

STONE = Tombstone("main-0123abcd", 1, 9, "ab" * 32, datetime(2026, 11, 22, 10, 0, 0, 123, UTC))


@pytest.mark.parametrize("key", [b"", b"key"])
def test_it_is_read_as_it_was_written_and_sealed(tmp_path: Path, key: bytes) -> None:
    (tmp_path / "000000000001.begun").write_bytes(b"torn")
    STONE.write(tmp_path, key)
    assert [path.name for path in tmp_path.iterdir()] == ["000000000001.dropped"]
    (stone,) = tombstones(tmp_path).values()
    assert (stone.first, stone.last, stone.mac) == (1, 9, stone.sealed(key))
    assert bool(stone.mac) == bool(key)
    assert stone.sealed(b"key") != stone.sealed(b"another")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("000000000001", b"{", b""),
        ("000000000001", b"abab", b"no hex"),
        ("000000000001", b'"first":1', b'"first":2'),
        ("000000000002", b"", b""),
        ("another", b"", b""),
    ],
)
def test_one_that_cannot_be_what_was_written_is_told_by_its_name(tmp_path: Path, name: str, old: bytes, new: bytes) -> None:
    STONE.write(tmp_path, b"")
    written = tmp_path / "000000000001.dropped"
    written.write_bytes(written.read_bytes().replace(old, new, 1))
    written.rename(tmp_path / f"{name}.dropped")
    with pytest.raises(ValueError, match=rf"{name}\.dropped is a tombstone that was altered: "):
        tombstones(tmp_path)
