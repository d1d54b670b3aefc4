"""
A ledger: a row of files of chained entries, of which nothing is altered, dropped or cut unseen. Journal and register are ledgers.

    chain(bodies) -> rows -> insert(rows) -> on disk

A new file begins each day (UTC) and where one has grown beyond `segment_bytes`. Retention deletes whole files, the oldest
first, and leaves of each a tombstone, `<first position>.dropped`, that says what it held, so that the rest still verifies.
"""

import fcntl
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Final

from receiver.config import USUAL, Guarantees
from receiver.room import for_want_of_room, free_bytes
from receiver.segment import (
    LedgerError,
    NoRoomError,
    Row,
    Segment,
    SegmentReader,
    chain,
    create,
    first_digest,
    opened,
    path_of,
    segments,
    settle,
    sync_names,
    told,
)
from receiver.tombstone import Tombstone, tombstones
from receiver.verify import Walk

__all__ = ["Ledger", "LedgerError", "LedgerReader", "NoRoomError", "Tombstone"]

_SETTLED_NS: Final = 2_000_000_000
"""A folder's time is coarse: while it is younger than this, more may have changed within the same tick."""

_UNREAD: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_BUSY})
"""What hinders a copy where it is read from. All else is where it is written to."""


class Ledger:
    """The writing side. One process has it: the folder is locked. `chain` and `insert` may be called from one thread each."""

    def __init__(self, folder: Path, kept: Guarantees = USUAL, key: bytes = b"") -> None:
        """Open or create it; raises LedgerError."""
        self.folder, self._kept, self._key = folder.absolute(), kept, key
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._lock = _lock(self.folder / "lock")
        except OSError as error:
            raise self._refused(error) from error
        try:
            self._segment = Segment(self._last())
        except (sqlite3.Error, OSError, ValueError) as error:
            os.close(self._lock)
            raise self._refused(error, "; a damaged one is moved away and kept") from error
        if not self._segment.fits(key):
            self.close()
            todo = "put the old one back, or move the folder away and keep it with its key"
            raise LedgerError(f"{self.folder}: digest_key is not the one with which it was written: {todo}")
        self.id = self._segment.id
        self._chained = self._segment.digest
        self._following = False
        """Whether the file after this one is begun, and could not be opened yet."""

    def _refused(self, error: Exception, more: str = "") -> LedgerError:
        if for_want_of_room(error, self.folder):
            return NoRoomError(f"{self.folder}: {error}: there is no room on its disk: make some (df, df -i)")
        return LedgerError(f"{self.folder}: {error}: it needs a folder that it may write, with room{more}")

    def _last(self) -> Path:
        """Return the file to be written on, new where there is none."""
        if there := segments(self.folder):
            for _, path in there[:-1]:
                if path.with_name(f"{path.name}-wal").exists():
                    settle(path)
            return there[-1][1]
        if stones := tombstones(self.folder):
            raise ValueError(f"entries up to {stones[max(stones)].last} were here, and the files behind them are missing")
        ledger_id = f"{self._kept.node}-{secrets.token_hex(4)}"
        return create(self.folder, ledger_id, 1, first_digest(ledger_id), datetime.now(UTC))

    @property
    def position(self) -> int:
        """The last one on disk."""
        return self._segment.position

    @property
    def digest(self) -> bytes:
        """That of the last entry on disk."""
        return self._segment.digest

    def chain(self, bodies: Iterable[bytes]) -> list[Row]:
        """Chain bodies to those of the call before, and return the rows for `insert`."""
        rows, digest, key = list[Row](), self._chained, self._key
        for body in bodies:
            digest = chain(digest, body, key)
            rows.append((digest, body))
        self._chained = digest
        return rows

    def rewind(self) -> None:
        """Forget what was chained and could not be written: the next entry is chained to the last one on disk."""
        self._chained = self._segment.digest

    def insert(self, rows: Sequence[Row]) -> int:
        """Write all rows or none; they are on disk when it returns the first position. Raises sqlite3.Error and OSError."""
        now = datetime.now(UTC)
        segment = self._segment
        following = path_of(self.folder, segment.position + 1)
        due = segment.created_at.date() != now.date() or segment.bytes > self._kept.segment_bytes
        if following != segment.path and (due or self._following):
            # Once it is there, it alone is written on, whatever failed then: a position must not be in two files
            self._following = True
            self._segment = Segment(create(self.folder, self.id, segment.position + 1, segment.digest, now))
            self._following = False
            segment.close()
        first = self._segment.position + 1
        self._segment.insert(list(rows))
        return first

    def drop_old(self, days: int, needed: int, now: datetime | None = None) -> list[Tombstone]:
        """
        Delete the files whose last entry is older than so many days, but none with an entry from `needed` on.

        Returns a tombstone for each. May run in any thread: the file that is written stays. Raises LedgerError and OSError.
        """
        dropped, now = list[Tombstone](), now or datetime.now(UTC)
        with told(self.folder):
            stones = tombstones(self.folder)
        for first, following, digest in self._old(days, now):
            if first not in stones:  # else it was killed before it had deleted the file
                if following > needed:
                    break
                stone = Tombstone(self.id, first, following - 1, digest.hex(), now)
                stone.write(self.folder, self._key)
                dropped.append(stone)
            path = path_of(self.folder, first)
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                path.with_name(name).unlink(missing_ok=True)
        return dropped

    def has_old(self, days: int, now: datetime | None = None) -> bool:
        """Say whether there is a file that `drop_old` may delete, if nothing of it is needed. Raises LedgerError."""
        return any(self._old(days, now or datetime.now(UTC)))

    def _old(self, days: int, now: datetime) -> Iterator[tuple[int, int, bytes]]:
        """Give the files whose last entry is older, in order: the first position, that of the next file, the last digest."""
        there = segments(self.folder)
        for (first, _), (following, after) in pairwise(there):
            with told(after), closing(SegmentReader(following, after, closed=after != there[-1][1])) as reader:
                header = reader.header()
            if header.created_at > now - timedelta(days=days):
                break
            yield first, following, header.previous

    def close(self) -> None:
        """Close the file, and let the folder go."""
        self._segment.close()
        os.close(self._lock)


class LedgerReader:
    """The reading side, in any process and from any thread; raises LedgerError."""

    def __init__(self, folder: Path, key: bytes = b"") -> None:
        """Open it at its last file."""
        self.folder, self._key = folder.absolute(), key
        self.id = ""
        self._reading = Lock()
        self._open: SegmentReader | None = None
        self._stamp = -1
        self._files: list[tuple[int, Path]] = []
        try:
            with self._at(None) as segment:
                self.id = segment.header().id
            with self._at(0) as segment:
                self._begun = segment.first, segment.inode
        except LedgerError:
            self.close()
            raise

    def _look(self) -> None:
        """See what files there are, where the folder has changed."""
        stamp = self.folder.stat().st_mtime_ns if self.folder.exists() else 0
        if stamp != self._stamp:
            self._files = segments(self.folder)
            self._stamp = stamp if time.time_ns() - stamp > _SETTLED_NS else -1
        if not self._files:
            none = "it was taken away" if self.id else "there is none yet: `arcgate run` makes it, or `receive` and `dispatch`"
            raise LedgerError(f"{self.folder}: {none}")

    def _segment(self, position: int | None) -> SegmentReader:
        """Return the file that has this position, or would have it; without one, the last. Only one is kept open."""
        self._look()
        wanted = (file for file in reversed(self._files) if position is None or file[0] <= position)
        first, path = next(wanted, self._files[0])
        if self._open is None or self._open.path != path:
            self._let_go()
            self._open = opened(first, path, closed=path != self._files[-1][1])
            if self._open is None:
                self._stamp = -1
                return self._segment(position)
        return self._open

    def _let_go(self) -> None:
        if self._open:
            self._open.close()
        self._open = None

    @contextmanager
    def _at(self, position: int | None) -> Iterator[SegmentReader]:
        """Give a file to one thread at a time; see `_segment`."""
        with self._reading:
            path = self.folder
            try:
                segment = self._segment(position)
                path = segment.path
                yield segment
            except (sqlite3.Error, OSError, ValueError) as error:
                raise LedgerError(f"{path}: {error}") from error

    def head(self) -> int:
        """Return the last position; 0 where nothing is there."""
        with self._at(None) as last:
            return last.head()

    def first(self) -> int:
        """Return the first position that retention has left."""
        with self._reading, told(self.folder):
            self._look()
            return self._files[0][0]

    def rows(self, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Return at most `limit` rows behind a position: position, digest, body. Fewer at a file's end, none at the very end."""
        while True:
            with self._at(after + 1) as segment:
                if rows := segment.rows(after, limit):
                    return rows
                following = next((first for first, _ in self._files if first > max(after + 1, segment.first)), None)
            if following is None:
                return []
            after = following - 1

    def digest(self, position: int) -> bytes | None:
        """Return the digest of an entry; None where there is no such entry any more, or not yet."""
        rows = self.rows(position - 1, 1)
        return rows[0][1] if rows and rows[0][0] == position else None

    def changed(self) -> int:
        """Return a number that is another one after each commit of the writer; it costs some microseconds."""
        with self._at(None) as last:
            return last.changed()

    def check_place(self) -> None:
        """Raise LedgerError where another ledger has been put in the place of the one that is read here."""
        with self._reading, told(self.folder):
            self._look()
            first, path = self._files[0]
            now = first, path.stat().st_ino
            if now == self._begun:
                return
            with closing(SegmentReader(first, path, closed=len(self._files) > 1)) as reader:
                if first <= self._begun[0] or reader.header().id != self.id:
                    raise LedgerError(f"{self.folder}: another one was put in its place")
            self._begun = now

    def verify(self, anchors: Iterable[tuple[int, bytes]] = ()) -> Iterator[int]:
        """
        Check the chain from its first entry; yields the position reached, now and then, and last the head.

        anchors: positions and their digests as somebody else has kept them. Raises LedgerError that names the first entry
        that was altered, dropped or cut off. Writer and retention may go on meanwhile.
        """
        with self._reading, told(self.folder):
            self._look()
            files = dict(self._files)
        yield from Walk(self.folder, self.id, self._key, files, anchors)

    def backup(self, folder: Path) -> list[Path]:
        """Copy what is not yet in `folder`, and the file that is being written as it is now; returns what was copied."""
        with self._reading, told(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            if folder.samefile(self.folder):
                raise LedgerError(f"{folder}: this is what is to be copied: name another folder")
            self._look()
            files = list(self._files)
        copied = []
        for first, path in files:
            with told(path):
                if segment := opened(first, path, closed=path != files[-1][1]):
                    with closing(segment):
                        copied += _copy(segment, folder / path.name)
        with told(folder):
            for path in self.folder.glob("*.dropped"):
                shutil.copy2(path, folder)
            sync_names(folder)
        return copied

    def close(self) -> None:
        """Close what is open, once nobody reads it: a task that is cancelled does not wait for its thread."""
        with self._reading:
            self._let_go()


def _copy(segment: SegmentReader, to: Path) -> list[Path]:
    """Copy a file, where there is no copy yet that has all of it."""
    if to.exists():
        with suppress(sqlite3.Error, ValueError), closing(SegmentReader(segment.first, to, closed=True)) as copy:
            if copy.header() == segment.header() and copy.head() == segment.head():
                return []
    partial = to.with_suffix(".copying")
    _clear(partial)
    try:
        segment.backup(partial)
        partial.replace(to)
    except (sqlite3.Error, OSError) as error:
        _clear(partial)
        if getattr(error, "sqlite_errorcode", 0) in _UNREAD:
            raise
        need = f"{segment.path.stat().st_size} bytes are to be copied, {free_bytes(to.parent)} are free"
        raise LedgerError(f"{to}: {error}: {need}: make room there, or name another folder") from error
    return [to]


def _clear(partial: Path) -> None:
    """Delete a copy that was begun, and what SQLite laid beside it."""
    for left in partial.parent.glob(f"{partial.name}*"):
        left.unlink()


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise LedgerError(f"{path}: another arcgate writes it: stop it, or give this one its own state_dir") from error
    return descriptor
