"""
The journal: every report, durable before it is acknowledged, in order, and chained so that nothing is altered unseen.

    append(reports) -> encode and chain, on the loop -> one INSERT and one fsync a batch, in a thread -> on_durable()

One SQLite file in WAL mode with synchronous=FULL, in the folder `journal` of the state folder; the file is named for its
first position, so that a journal can become a row of files. A table `entry` of position, digest and body: the body is the
report as JSON, the digest SHA-256 over the digest before it and the body, the first over the journal's id. What is not
committed was never there: SQLite recovers a torn write at the next opening.

Any number of processes may read while one writes. A reader never checkpoints.
"""

import asyncio
import fcntl
import os
import secrets
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

import msgspec

from protocols.errors import FrameError
from protocols.event import Category, Event, Format, Qualifier
from receiver.wal import commits_lost

BATCH_REPORTS_MAX: Final = 1024
"""A commit takes no more: what waits behind it is acknowledged soon enough."""
_WAL_PAGES: Final = 2000
"""The write-ahead log is 8 MB, laid out in advance: a file that grows costs each fsync twice as much (measured)."""

_SCHEMA = """
BEGIN;
CREATE TABLE entry (position INTEGER PRIMARY KEY, digest BLOB NOT NULL, body TEXT NOT NULL);
CREATE TABLE journal (id TEXT NOT NULL, created_at TEXT NOT NULL);
INSERT INTO journal VALUES (new_id(), CURRENT_TIMESTAMP);
COMMIT;
"""
# Pages that spill into the log from a transaction that is then taken back leave nothing but its size.
_LAY_OUT = """
PRAGMA cache_size = 10;
BEGIN; CREATE TABLE spill (page BLOB); INSERT INTO spill VALUES (zeroblob(8192000)); ROLLBACK;
PRAGMA cache_size = -8000;
"""
# One statement for the whole batch: SQLite lets the interpreter go once, not once a row. The bodies come as one piece, and for
# each of them a number: where it begins, times 2**24, and its length.
_INSERT = """
INSERT INTO entry SELECT ?1 + key, substr(?3, 1 + 32 * key, 32), CAST(substr(?4, 1 + (value >> 24), value & 0xFFFFFF) AS TEXT)
FROM json_each(?2)
"""

# An altered entry need not be UTF-8.
_AS_BYTES = "SELECT position, CAST(digest AS BLOB), CAST(body AS BLOB) FROM entry WHERE position > ? ORDER BY position LIMIT ?"


class Report(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the journal keeps of one frame; its JSON is the entry's body, and what the digest covers."""

    received_at: datetime
    """UTC; it orders everything."""
    listener: str
    peer: str
    frame: str
    """The raw bytes, each as the character of its number (Latin-1): JSON escapes what cannot be printed."""
    events: tuple[Event, ...]
    identity: str = ""
    """Equal for a frame and its retransmissions."""
    mark: str = ""
    """What was wrong with it, where it was taken all the same."""
    error: FrameError | None = None
    """Why it was refused, where it was. The last field: `receiver.log` tells it by the end of the JSON."""


class Entry(msgspec.Struct, frozen=True):
    """A report and its place in the journal."""

    position: int
    """1, 2, 3 ... without a gap."""
    report: Report
    digest: str
    """Hexadecimal."""


class JournalError(Exception):
    """The journal cannot be opened, read or written; the message says which file, why, and what to do."""

    def __init__(self, message: str, position: int | None = None) -> None:
        """position: of the first entry that is not what was written, where `verify` found one."""
        super().__init__(message)
        self.position = position


_Row = tuple[bytes, bytes]
"""Digest and body."""

_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(Report).decode


def chain(digest: bytes, body: bytes) -> bytes:
    """Return the digest of an entry: over that of the entry before it and its own body."""
    return sha256(digest + body).digest()


def first_digest(journal_id: str) -> bytes:
    """Return what the first entry is chained to."""
    return sha256(b"arcgate journal " + journal_id.encode()).digest()


class Journal:
    """
    The writing side. One process has it: the folder is locked.

    on_commit(first position, bodies) is called in the writing thread after each commit, with the JSON of each report.
    on_failure(error) is called on the loop, once, when a write failed; from then on nothing is taken until a restart.
    """

    def __init__(
        self,
        state_dir: Path,
        on_commit: Callable[[int, Sequence[bytes]], None] = lambda *_: None,
        on_failure: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """Open or create it; raises JournalError."""
        self.folder = state_dir / "journal"
        self._on_commit, self._on_failure = on_commit, on_failure
        needs = "the journal needs a folder it may write, with room"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._lock = _lock(self.folder / "lock")
        except OSError as error:
            raise JournalError(f"{self.folder}: {error}: {needs}") from error
        try:
            self._database = _open_for_writing(self.folder)
            self.id, position, self._digest = _read_head(self._database)
        except (sqlite3.Error, ValueError) as error:
            os.close(self._lock)
            raise JournalError(f"{self.folder}: {error}: {needs}; a damaged one is moved away and kept") from error
        self.durable: int = position
        """The last position on disk."""
        self.appended = position
        """The last position given out."""
        self.failed: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._batch: list[Report] = []
        self._rows: SimpleQueue[list[_Row] | None] = SimpleQueue()
        self._thread = Thread(target=self._write, name="journal")
        self._thread.start()

    @property
    def writable(self) -> bool:
        """Whether it takes reports; where it does not, link tests must not be answered either."""
        return self.failed is None

    def append(self, reports: Sequence[Report], on_durable: Callable[[], None]) -> None:
        """
        Take the reports of one read; they share one commit.

        on_durable is called on the loop, in the order of the calls, when they and all before them are on disk; never where
        the write failed. Without reports it waits for what was appended before.
        """
        if self.failed:
            return
        if not self._batch:
            self._loop.call_soon(self.hand_over)
        self._batch += reports
        self.appended += len(reports)
        self._waiting.append((self.appended, on_durable))

    def hand_over(self) -> None:
        """Give the thread what one turn of the loop brought: fewer and larger commits, and one wake-up for all of it."""
        if self._batch:
            batch, self._batch = self._batch, []
            rows, digest = list[_Row](), self._digest
            for body in _encoder.encode_lines(batch).split(b"\n")[:-1]:
                digest = chain(digest, body)
                rows.append((digest, body))
            self._digest = digest
            self._rows.put(rows)
        elif self.durable >= self.appended:
            self._wake(self.durable)

    async def close(self) -> None:
        """Write what was taken, and close the file."""
        self.hand_over()
        self._rows.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # the last on_durable calls were scheduled before the thread ended
        with suppress(sqlite3.Error):  # so that a journal at rest is one file, whoever still reads it
            self._database.execute("PRAGMA busy_timeout = 500")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()
        os.close(self._lock)

    def _write(self) -> None:
        """Take what waits, commit it, say so; until None comes. Runs in its own thread."""
        first = self.durable + 1
        ended = False
        try:
            while not ended and (rows := self._rows.get()) is not None:
                batch = list(rows)
                with suppress(Empty):
                    while len(batch) < BATCH_REPORTS_MAX:
                        rows = self._rows.get_nowait()
                        if rows is None:
                            ended = True
                            break
                        batch += rows
                digests, bodies = zip(*batch, strict=True)
                self._insert(first, digests, bodies)
                self._loop.call_soon_threadsafe(self._wake, first + len(batch) - 1)
                self._on_commit(first, bodies)
                first += len(batch)
        except Exception as error:  # noqa: BLE001 - whatever it was, no ACK may follow it
            self._loop.call_soon_threadsafe(self._fail, error)

    def _insert(self, first: int, digests: Iterable[bytes], bodies: Sequence[bytes]) -> None:
        lengths = list(map(len, bodies))
        places = [(end - length) << 24 | length for end, length in zip(accumulate(lengths), lengths, strict=True)]
        values = (first, str(places), b"".join(digests), b"".join(bodies))
        self._database.execute(_INSERT, values)

    def _wake(self, position: int) -> None:
        self.durable = position
        while self._waiting and self._waiting[0][0] <= position:
            self._waiting.popleft()[1]()

    def _fail(self, error: Exception) -> None:
        self.failed = error
        self._waiting.clear()
        self._on_failure(error)


class JournalReader:
    """The reading side, in any process; raises JournalError."""

    def __init__(self, state_dir: Path) -> None:
        """Open the journal of the state folder."""
        self.path = _file(state_dir / "journal")
        try:
            if not self.path.exists():
                raise JournalError(f"{self.path}: there is no journal yet; `arcgate receive` or `arcgate run` makes it")
            self._inode = self.path.stat().st_ino
            self._connect()
            row = self._database.execute("SELECT id FROM journal").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self.path}: {error}") from error
        if row is None or not isinstance(row[0], str):
            raise JournalError(f"{self.path}: the journal has no id: it was being created, try again; or it was altered")
        self.id: str = row[0]

    def _connect(self) -> None:
        # A reader makes the log that it reads beside a writer. Where it may not, and no log is there, no writer is either
        self._still = not self._log.exists() and not os.access(self.path.parent, os.W_OK)
        mode = "immutable=1" if self._still else "mode=ro"
        self._database = sqlite3.connect(f"{self.path.as_uri()}?{mode}", uri=True, isolation_level=None, check_same_thread=False)

    @property
    def _log(self) -> Path:
        """SQLite's write-ahead log: it is there while a writer has the file open, or after it was killed."""
        return self.path.with_name(f"{self.path.name}-wal")

    def head(self) -> int:
        """Return the last position; 0 where nothing is there."""
        return int(self._rows("SELECT coalesce(max(position), 0) FROM entry")[0][0])

    def read(self, after: int, limit: int) -> list[Entry]:
        """
        Return at most `limit` entries behind position `after`, in order.

        One that was altered, or written by a newer arcgate, becomes a report of just that: it is raised, and holds up nothing.
        """
        entries: list[Entry] = []
        for position, digest, body in self._rows(_AS_BYTES, after, limit):
            try:
                report = _decode(body or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                report = _unreadable(position, error, entries[-1].report.received_at if entries else datetime.now(UTC))
            entries.append(Entry(position, report, (digest or b"").hex()))
        return entries

    def verify(self) -> Iterator[int]:
        """
        Check the chain from the first entry; yields the position reached, now and then, and last the head.

        Raises JournalError that names the first entry that was altered.
        """
        digest, reached, size = first_digest(self.id), 0, 5000
        while True:
            try:
                rows = self._rows(_AS_BYTES, reached, size)
            except JournalError as error:
                if size > 1:  # a page is damaged: one entry at a time finds the first that is lost
                    size = 1
                    continue
                raise JournalError(f"entry {reached + 1} cannot be read: {error}", reached + 1) from error
            for position, written, body in rows:
                if position != reached + 1:
                    message = f"{self.path}: entry {reached + 1} is missing: entry {position} follows {reached}"
                    raise JournalError(message, reached + 1)
                digest = chain(digest, body or b"")
                if digest != written:
                    message = f"{self.path}: entry {position} was altered: its digest does not fit what it says"
                    raise JournalError(message, position)
                reached = position
            yield reached
            if not rows:
                break
        if lost := commits_lost(self._log):
            message = f"{self._log}: was altered: {lost} commits behind entry {reached} are lost"
            raise JournalError(message, reached + 1)

    def changed(self) -> int:
        """Return a number that is another one after each commit of the writer; it costs some microseconds."""
        version = int(self._rows("PRAGMA data_version")[0][0])
        return -1 if self._still else version

    def check_place(self) -> None:
        """Raise JournalError where another journal has been put in the place of the one that is read here."""
        try:
            inode = self.path.stat().st_ino
        except OSError as error:
            raise JournalError(f"{self.path}: the journal was taken away: {error.strerror}") from error
        if inode != self._inode:
            raise JournalError(f"{self.path}: another journal was put in its place")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _rows(self, statement: str, *values: int) -> list[tuple[Any, ...]]:
        try:
            if self._still and self._log.exists():
                self._database.close()
                self._connect()
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: {error}") from error


def _unreadable(position: int, error: Exception, at: datetime) -> Report:
    """Stand in for an entry that cannot be read. at: about when it was received, as the entry before it says; else now."""
    text = f"Entry {position} of the journal cannot be read: {error}; run `arcgate journal verify`"
    event = Event("(journal)", Format.ARCGATE, "unreadable_entry", Qualifier.NEW, Category.UNKNOWN, text=text)
    return Report(at, "", "", "", (event,))


def _file(folder: Path) -> Path:
    return folder.absolute() / "000000000001.db"


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise JournalError(f"{path}: another arcgate writes this journal: stop it, or give this one its own state_dir") from error
    return descriptor


def _read_head(database: sqlite3.Connection) -> tuple[str, int, bytes]:
    """Return the journal's id, its last position and that entry's digest; raises ValueError where they were altered."""
    row = database.execute("SELECT id FROM journal").fetchone()
    if row is None or not isinstance(row[0], str):
        raise ValueError("the journal's id is lost")
    head = database.execute("SELECT position, digest FROM entry ORDER BY position DESC LIMIT 1").fetchone()
    if head is None:
        return row[0], 0, first_digest(row[0])
    if not isinstance(head[1], bytes):
        raise ValueError(f"the digest of entry {head[0]} is lost")  # noqa: TRY004 - what was altered is a value
    return row[0], head[0], head[1]


def _open_for_writing(folder: Path) -> sqlite3.Connection:
    path = _file(folder)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    if not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'journal'").fetchone():
        database.create_function("new_id", 0, partial(secrets.token_hex, 4))
        database.executescript(_SCHEMA)
    database.execute("PRAGMA wal_checkpoint(RESTART)")
    database.executescript(_LAY_OUT)
    database.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    return database
