"""
One file of a ledger: SQLite in WAL mode, its entries chained by digests, and what it is chained to.

    <folder>/<first position>.db    segment(id, first, previous, created_at), entry(position, digest, body)

`previous` is the digest of the entry before the first one, so that files which were parted still hold each other. The digest
of an entry is SHA-256 over the digest before it and its body, keyed (HMAC) where there is a key.
"""

import hmac
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from itertools import accumulate, count
from pathlib import Path
from typing import Any, Final, NamedTuple

from receiver.room import free_bytes
from receiver.wal import commits_lost

Row = tuple[bytes, bytes]
"""Digest and body."""

BODY_BYTES_MAX: Final = 0xFFFFFF
"""An entry's length has 24 bits in `_INSERT`."""
CONNECT_TRIES, CONNECT_AGAIN_S = 10, 0.01
"""Who may write nothing cannot open a file in the moment in which a writer comes or goes."""
_PAGE_BYTES: Final = 4096
_WAL_PAGES: Final = 2000
"""The write-ahead log is 8 MB, laid out in advance: a file that grows costs each fsync twice as much (measured)."""
_WAL_SHARE: Final = 8
"""... and at most this part of the room that is free, so that a small disk holds reports rather than logs."""

_SCHEMA: Final = """
CREATE TABLE entry (position INTEGER PRIMARY KEY, digest BLOB NOT NULL, body TEXT NOT NULL);
CREATE TABLE segment (id TEXT NOT NULL, first INTEGER NOT NULL, previous BLOB NOT NULL, created_at TEXT NOT NULL);
"""
# Pages that spill into the log from a transaction that is then taken back leave nothing but its size.
_LAY_OUT: Final = """
PRAGMA cache_size = 10;
BEGIN; CREATE TABLE spill (page BLOB); INSERT INTO spill VALUES (zeroblob({pages} * {page_bytes})); ROLLBACK;
"""
# One statement for the whole batch: SQLite lets the interpreter go once, not once a row. The bodies come as one piece, and for
# each of them a number: where it begins, times 2**24, and its length.
_INSERT: Final = """
INSERT INTO entry SELECT ?1 + key, substr(?3, 1 + 32 * key, 32), CAST(substr(?4, 1 + (value >> 24), value & 0xFFFFFF) AS TEXT)
FROM json_each(?2)
"""
_HEADER: Final = "SELECT id, first, previous, created_at FROM segment"
_ENDS: Final = """
SELECT CAST(coalesce((SELECT digest FROM entry AS before WHERE before.position = entry.position - 1), ?) AS BLOB),
CAST(digest AS BLOB), CAST(body AS BLOB) FROM entry WHERE position IN (?, ?)
"""
# An altered entry need not be UTF-8.
_ROWS: Final = "SELECT position, CAST(digest AS BLOB), CAST(body AS BLOB) FROM entry WHERE position > ? ORDER BY position LIMIT ?"


def chain(digest: bytes, body: bytes, key: bytes = b"") -> bytes:
    """Return the digest of an entry: over that of the entry before it and its own body."""
    return hmac.digest(key, digest + body, "sha256") if key else sha256(digest + body).digest()


def first_digest(ledger_id: str) -> bytes:
    """Return what the first entry of all is chained to."""
    return sha256(b"arcgate journal " + ledger_id.encode()).digest()


def path_of(folder: Path, first: int) -> Path:
    """Return where the segment that begins with this position is."""
    return folder / f"{first:012d}.db"


def segments(folder: Path) -> list[tuple[int, Path]]:
    """List a ledger's files by their first positions, in order."""
    return sorted((int(path.stem), path) for path in folder.glob("*.db") if path.stem.isdecimal())


class LedgerError(Exception):
    """A ledger cannot be opened, read or written; the message says which file, why, and what to do."""

    def __init__(self, message: str, position: int | None = None) -> None:
        """position: of the first entry that is not what was written, where `verify` found one."""
        super().__init__(message)
        self.position = position


class NoRoomError(LedgerError):
    """It cannot be opened for want of room on its disk; with room it can."""


@contextmanager
def told(path: Path, position: int | None = None) -> Iterator[None]:
    """Tell what SQLite and the system say as a LedgerError that names the file."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as error:
        raise LedgerError(f"{path}: {error}", position) from error


class Header(NamedTuple):
    """What a file says of itself."""

    id: str
    first: int
    previous: bytes
    created_at: datetime


def _header(rows: list[tuple[Any, ...]]) -> Header:
    if not rows or list(map(type, rows[0])) != [str, int, bytes, str]:
        raise ValueError("what the file says of itself is lost")
    ledger_id, first, previous, created_at = rows[0]
    return Header(ledger_id, first, previous, datetime.fromisoformat(created_at).astimezone(UTC))


class Segment:
    """The file that is written. Raises sqlite3.Error, OSError, or ValueError where it was altered."""

    def __init__(self, path: Path) -> None:
        """Open it, recover it, and make its log ready."""
        self.path = path
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except BaseException:
            self._database.close()
            raise

    def _open(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")  # a copy that was put back is not in it
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA wal_autocheckpoint = 0")
        self._database.execute("PRAGMA wal_checkpoint(RESTART)")
        pages = min(_WAL_PAGES, free_bytes(self.path.parent) // _WAL_SHARE // _PAGE_BYTES)
        self._lay_out(pages)
        self._database.execute(f"PRAGMA wal_autocheckpoint = {max(1, pages)}")
        self.id, self._first, self._previous, self.created_at = _header(self._database.execute(_HEADER).fetchall())
        if self.path != path_of(self.path.parent, self._first):
            raise ValueError(f"{self.path.name} is not its name: it begins with entry {self._first}")
        head = self._database.execute("SELECT position, digest FROM entry ORDER BY position DESC LIMIT 1").fetchone()
        position, digest = head or (self._first - 1, self._previous)
        if not isinstance(digest, bytes):
            raise ValueError(f"the digest of entry {position} is lost")  # noqa: TRY004 - a value was altered
        self.position: int = position
        self.digest = digest
        self.bytes = self.path.stat().st_size

    def fits(self, key: bytes) -> bool:
        """Say whether this is the key of its entries: of the first or of the last, since one may have been altered."""
        with suppress(sqlite3.DatabaseError):  # a damaged page: `verify` tells
            ends = self._database.execute(_ENDS, (self._previous, self._first, self.position)).fetchall()
            return not ends or any(chain(before, body, key) == digest for before, digest, body in ends)
        return True

    def _lay_out(self, pages: int) -> None:
        """Lay out the log; with too little room for all of it, it grows as it is written, and free room stays free."""
        try:
            self._database.executescript(_LAY_OUT.format(pages=pages, page_bytes=_PAGE_BYTES))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self._database.rollback()
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.execute("PRAGMA cache_size = -8000")

    def insert(self, rows: list[Row]) -> None:
        """Write all of them or none; they are on disk when it returns."""
        digests, bodies = zip(*rows, strict=True)
        lengths = list(map(len, bodies))
        assert max(lengths) <= BODY_BYTES_MAX
        places = [(end - length) << 24 | length for end, length in zip(accumulate(lengths), lengths, strict=True)]
        text = b"".join(bodies)
        self._database.execute(_INSERT, (self.position + 1, str(places), b"".join(digests), text))
        self.position += len(rows)
        self.digest = digests[-1]
        self.bytes += len(text)

    def close(self) -> None:
        """Put the log into the file, so that at rest it is one file, whoever still reads it."""
        _settle(self._database)


def settle(path: Path) -> None:
    """Put the log that a killed writer left into its file."""
    _settle(sqlite3.connect(path, isolation_level=None))


def _settle(database: sqlite3.Connection) -> None:
    try:
        database.execute("PRAGMA busy_timeout = 500")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        pass  # a full disk: the log stays, and is read
    finally:
        database.close()


def create(folder: Path, ledger_id: str, first: int, previous: bytes, now: datetime) -> Path:
    """Make a segment, where it is not there yet; it is there whole or not at all."""
    path, begun = path_of(folder, first), folder / "begun"
    if not path.exists():
        for left in folder.glob("begun*"):
            left.unlink()
        begun.touch(0o644)  # the system says better than SQLite what is wrong
        with closing(sqlite3.connect(begun, isolation_level=None)) as database:
            # No log and no journal: what is not whole is thrown away, and what is renamed is in the file itself
            database.execute("PRAGMA journal_mode = OFF")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("BEGIN")
            for statement in _SCHEMA.strip().splitlines():
                database.execute(statement)
            database.execute("INSERT INTO segment VALUES (?, ?, ?, ?)", (ledger_id, first, previous, now.isoformat()))
            database.execute("COMMIT")
            database.execute("PRAGMA journal_mode = WAL")
        for left in folder.glob(f"{path.name}-*"):
            left.unlink()  # SQLite would take it for the log of the new one
        begun.rename(path)
    sync_names(folder)
    return path


def sync_names(folder: Path) -> None:
    """Put on disk which files a folder holds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SegmentReader:
    """A file that is read, beside its writer or after him. It never checkpoints. Raises sqlite3.Error, OSError and ValueError."""

    _connections = count(1)

    def __init__(self, first: int, path: Path, *, closed: bool = False) -> None:
        """Open it. closed: nobody writes it any more; then nothing is made beside it, unless its log was left."""
        self.first, self.path, self._closed = first, path, closed
        self.inode = path.stat().st_ino
        self._connect()

    def _connect(self) -> None:
        for left in reversed(range(CONNECT_TRIES)):
            try:
                return self._connect_once()
            except sqlite3.OperationalError:
                if not left:
                    raise
                time.sleep(CONNECT_AGAIN_S)
        return None

    def _connect_once(self) -> None:
        # A reader makes the log that it reads beside a writer. Where it may not, and no log is there, no writer is either
        self._still = not self._log.exists() and (self._closed or not os.access(self.path.parent, os.W_OK))
        self._written_at = self.path.stat().st_mtime_ns
        mode = "immutable=1" if self._still else "mode=ro"
        database = sqlite3.connect(f"{self.path.as_uri()}?{mode}", uri=True, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA schema_version").fetchone()  # now it has all that it reads, whoever deletes the files
        except BaseException:
            database.close()
            raise
        self._database = database
        self._connection = next(self._connections)

    @property
    def _log(self) -> Path:
        """SQLite's write-ahead log: it is there while a writer has the file open, or after it was killed."""
        return self.path.with_name(f"{self.path.name}-wal")

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - what SQLite takes
        """Return what a statement gives."""
        if self._still and (self._log.exists() or not (self._closed or self.path.stat().st_mtime_ns == self._written_at)):
            self._reconnect()  # a writer has come, or has come and gone
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.OperationalError:
            self._reconnect()  # the log may have gone between two looks
            return self._database.execute(statement, values).fetchall()

    def _reconnect(self) -> None:
        with closing(self._database):
            self._connect()

    def header(self) -> Header:
        """Return what the file says of itself."""
        return _header(self.ask(_HEADER))

    def head(self) -> int:
        """Return the last position; the one before the first where it holds none."""
        return int(self.ask("SELECT coalesce(max(position), ?) FROM entry", self.first - 1)[0][0])

    def rows(self, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Return position, digest and body of what comes behind a position."""
        return [(position, digest or b"", body or b"") for position, digest, body in self.ask(_ROWS, after, limit)]

    def changed(self) -> int:
        """Return a number that is another one after each commit of the writer, and for each reader that is opened."""
        version = int(self.ask("PRAGMA data_version")[0][0])
        return (self._connection << 32) + version

    def commits_lost(self) -> int:
        """Return how many commits of a killed writer's log cannot be read; see `receiver.wal`."""
        return commits_lost(self._log)

    def backup(self, path: Path) -> None:
        """Copy the file as it is now, beside its writer."""
        with closing(sqlite3.connect(path)) as copy:
            self._database.backup(copy)
            copy.execute("PRAGMA locking_mode = EXCLUSIVE")  # then no log is laid beside it, for which there may be no room
            copy.execute("PRAGMA journal_mode = DELETE")

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def opened(first: int, path: Path, *, closed: bool) -> SegmentReader | None:
    """Open a file to read; None where retention was faster. Raises LedgerError."""
    try:
        return SegmentReader(first, path, closed=closed)
    except (sqlite3.Error, OSError) as error:
        if os.path.lexists(path):
            raise LedgerError(f"{path}: {error}: none of its entries can be read, from {first} on", first) from error
        return None
