"""A disk without room is known by what fails on it, and by what can be had there."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from receiver.room import ROOM_BYTES, for_want_of_room, free_bytes, has_room
from tests.conftest import small_disk

DISK_BYTES = 4 * ROOM_BYTES


def fill(folder: Path, left: int) -> None:
    (folder / "ballast").write_bytes(b"x" * (free_bytes(folder) - left))


def test_a_disk_has_room_for_more_than_a_little(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", DISK_BYTES) as mounted:
        if not mounted:
            return
        folder = tmp_path / "disk"
        assert has_room(folder)
        fill(folder, ROOM_BYTES - 4096)
        assert not has_room(folder)
        (folder / "ballast").unlink()
        assert has_room(folder)
        assert list(folder.iterdir()) == []


def test_a_folder_that_is_not_there_does_not_lack_room(tmp_path: Path) -> None:
    """What hinders there is something else, and is told as that."""
    assert has_room(tmp_path / "none")


@pytest.mark.parametrize(
    ("number", "wanted"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False), (errno.EIO, False)]
)
def test_what_the_system_says(tmp_path: Path, number: int, *, wanted: bool) -> None:
    assert for_want_of_room(OSError(number, os.strerror(number)), tmp_path) == wanted


def test_what_sqlite_says(tmp_path: Path) -> None:
    """It says that the disk is full; or only that a file cannot be opened, which with room is for another cause."""
    with pytest.raises(sqlite3.OperationalError) as raised:
        sqlite3.connect(tmp_path / "no folder" / "x.db")
    assert not for_want_of_room(raised.value, tmp_path)
    with small_disk(tmp_path / "disk", DISK_BYTES) as mounted:
        if not mounted:
            return
        fill(tmp_path / "disk", 8192)
        assert for_want_of_room(raised.value, tmp_path / "disk")
        database = sqlite3.connect(tmp_path / "disk" / "x.db")
        with pytest.raises(sqlite3.OperationalError) as raised:
            database.execute("CREATE TABLE x AS SELECT zeroblob(100000)")
        database.close()
        assert for_want_of_room(raised.value, tmp_path / "disk")
