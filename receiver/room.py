"""Whether a disk has room, and whether it was for want of room that something failed."""

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

ROOM_BYTES: Final = 1 << 20
"""With so much, and the files of a segment, there is room."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_UNCLEAR: Final = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN})
"""A quota that is used up is an I/O error to SQLite, which knows ENOSPC alone; why a file cannot be made, it never says."""
_PROBES: Final = ("room", "room-wal", "room-shm")
"""As many files as a new segment is: where the disk has bytes, but no more names, it cannot be begun."""


def free_bytes(folder: Path) -> int:
    """Return how much room there is on a folder's disk; it knows of no quota. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def has_room(folder: Path) -> bool:
    """Say whether ROOM_BYTES and the files of a segment can be had in a folder."""
    paths = [folder / name for name in _PROBES]
    try:
        for path in paths:
            path.touch()
        with paths[0].open("wb") as probe:
            os.posix_fallocate(probe.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        return error.errno not in NO_ROOM
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
    return True


def for_want_of_room(error: Exception, folder: Path) -> bool:
    """Say whether a disk without room is why a write to a ledger in this folder failed."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    code = getattr(error, "sqlite_errorcode", 0)
    return code in _FULL or (code in _UNCLEAR and not has_room(folder))
