"""
The journal: every report, durable before it is acknowledged, in order, and chained so that nothing is altered unseen.

    append(reports) -> encode and chain, on the loop -> one INSERT and one fsync a batch, in a thread -> on_durable()

A ledger (`receiver.ledger`) in the folder `journal` of the state folder; an entry's body is the report as JSON. What is not
committed was never there: SQLite recovers a torn write at the next opening.

Where the disk is full, or nearly, nothing is taken until there is room again; after any other fault only a restart helps.
The disk is looked at from the opening on, each second: who only answers link tests writes nothing, and would not notice.
Any number of processes may read while one writes. A reader never checkpoints.
"""

import asyncio
import errno
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final

import msgspec

from protocols.errors import FrameError
from protocols.event import Category, Event, Format, Qualifier
from receiver.config import USUAL, Guarantees
from receiver.ledger import Ledger, LedgerError, LedgerReader, Tombstone
from receiver.room import NO_ROOM, ROOM_BYTES, for_want_of_room, free_bytes, has_room
from receiver.segment import Row

JournalError = LedgerError

BATCH_REPORTS_MAX: Final = 1024
"""A commit takes no more: what waits behind it is acknowledged soon enough."""
LOOK_FOR_ROOM_S: Final = 1.0
"""How often the disk is looked at, full or not."""
ROOM_S: Final = 0.02
"""So long there is room where there was: to ask the system lets the loop take the interpreter, and the disk waits for it."""


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


_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(Report).decode


class Journal:
    """
    The writing side. One process has it: the folder is locked.

    on_commit(first position, bodies) is called in the writing thread after each commit, with the JSON of each report.
    on_failure(error) is called on the loop, once, when a write failed; from then on nothing is taken until a restart.
    on_full(error) is called on the loop when there is no room: nothing more is taken. on_full(None): reports are taken again.
    on_given_up() is called on the loop when there was no room for what had been taken: no `on_durable` will come for it.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it needs, and whom it tells
        self,
        state_dir: Path,
        on_commit: Callable[[int, Sequence[bytes]], None] = lambda *_: None,
        on_failure: Callable[[Exception], None] = lambda _: None,
        on_full: Callable[[Exception | None], None] = lambda _: None,
        on_given_up: Callable[[], None] = lambda: None,
        kept: Guarantees = USUAL,
        key: bytes = b"",
    ) -> None:
        """Open or create it; raises JournalError."""
        self.folder = state_dir / "journal"
        self._on_commit, self._on_failure, self._on_full, self._on_given_up = on_commit, on_failure, on_full, on_given_up
        self._free_bytes_min = kept.free_bytes_min
        self._ledger = Ledger(self.folder, kept, key)
        self.id = self._ledger.id
        self.durable: int = self._ledger.position
        """The last position on disk."""
        self.appended = self.durable
        """The last position given out."""
        self.failed: Exception | None = None
        self.full: Exception | None = None
        """Why there is no room."""
        self.held: set[str] = set()
        """Why reports must not be taken, though they could be."""
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._batch: list[Report] = []
        self._room_until = 0.0
        """By the monotonic clock."""
        self._generation = 0
        """Of batches; one that was chained to what could not be written is of an older one, and is not written either."""
        self._rows: SimpleQueue[tuple[int, list[Row]] | None] = SimpleQueue()
        # The loop's first turn: no socket that is opened after this can be heard before it
        self._looking: asyncio.Handle = self._loop.call_soon(self._look_for_room)
        self._thread = Thread(target=self._write, name="journal")
        self._thread.start()

    @property
    def writable(self) -> bool:
        """Whether it takes reports; where it does not, link tests must not be answered either."""
        return not (self.failed or self.full or self.held)

    @property
    def digest(self) -> bytes:
        """That of the last entry on disk."""
        return self._ledger.digest

    def hold(self, why: str) -> None:
        """Take nothing more until `free` is called with the same reason; what was taken is still answered."""
        self.held.add(why)

    def free(self, why: str) -> None:
        """Take reports again, where nothing else speaks against it."""
        self.held.discard(why)

    def append(self, reports: Sequence[Report], on_durable: Callable[[], None]) -> bool:
        """
        Take the reports of one read; they share one commit. Returns False where none are taken, and then calls nothing.

        on_durable is called on the loop, in the order of the calls, when they and all before them are on disk; never where
        the write failed or there was no room. Without reports it waits for what was appended before.
        """
        if not self.writable:
            return False
        if not self._batch:
            self._loop.call_soon(self.hand_over)
        self._batch += reports
        self.appended += len(reports)
        self._waiting.append((self.appended, on_durable))
        return True

    def hand_over(self) -> None:
        """Give the thread what one turn of the loop brought: fewer and larger commits, and one wake-up for all of it."""
        if self._batch:
            batch, self._batch = self._batch, []
            bodies = _encoder.encode_lines(batch).split(b"\n")[:-1]
            self._rows.put((self._generation, self._ledger.chain(bodies)))
        elif self.durable >= self.appended:
            self._wake(self.durable)

    def drop_old(self, days: int, needed: int) -> list[Tombstone]:
        """Delete the files that are older and of which nothing from position `needed` on is in; see `Ledger.drop_old`."""
        return self._ledger.drop_old(days, needed)

    async def close(self) -> None:
        """Write what was taken, and close the file."""
        self._looking.cancel()
        self.hand_over()
        self._rows.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # the last on_durable calls were scheduled before the thread ended
        self._ledger.close()

    def _write(self) -> None:
        """Take what waits, commit it, say so; until None comes. Runs in its own thread."""
        spoiled, ended = -1, False
        try:
            while not ended and (taken := self._rows.get()) is not None:
                generation, rows = taken
                if generation == spoiled:
                    continue
                with suppress(Empty):
                    while len(rows) < BATCH_REPORTS_MAX:
                        more = self._rows.get_nowait()
                        if more is None:
                            ended = True
                            break
                        rows += more[1]
                try:
                    first = self._insert(rows)
                except (sqlite3.Error, OSError) as error:
                    if not for_want_of_room(error, self.folder):
                        raise
                    spoiled = generation
                    self._loop.call_soon_threadsafe(self._make_no_room, error)
                else:
                    self._loop.call_soon_threadsafe(self._wake, first + len(rows) - 1)
                    self._on_commit(first, [body for _, body in rows])
        except Exception as error:  # noqa: BLE001 - whatever it was, no ACK may follow it
            self._loop.call_soon_threadsafe(self._fail, error)

    def _insert(self, rows: list[Row]) -> int:
        now = time.monotonic()
        if now >= self._room_until:
            self._check_room()
            self._room_until = now + ROOM_S
        return self._ledger.insert(rows)

    def _check_room(self) -> None:
        """Raise OSError where too little room is left, whoever has taken it."""
        if free_bytes(self.folder) < self._free_bytes_min:
            raise OSError(errno.ENOSPC, f"fewer than free_bytes_min = {self._free_bytes_min} bytes are free")

    def _wake(self, position: int) -> None:
        self.durable = position
        while self._waiting and self._waiting[0][0] <= position:
            self._waiting.popleft()[1]()

    def _fail(self, error: Exception) -> None:
        self.failed = error
        self._waiting.clear()
        self._on_failure(error)

    def _make_no_room(self, error: Exception) -> None:
        """Give up what was chained and not written: nobody was told that it is kept."""
        self._generation += 1
        self._ledger.rewind()
        self.appended, self._batch = self.durable, []
        self._waiting.clear()
        self._take_no_more(error)
        self._on_given_up()

    def _take_no_more(self, error: Exception) -> None:
        """Until there is room; what was taken is still written, or fails by itself."""
        if not self.full:
            self.full = error
            self._on_full(error)

    def _look_for_room(self) -> None:
        """See whether there is room, each second. On the loop: the system knows it without asking the disk."""
        if self.failed:
            return
        self._looking = self._loop.call_later(LOOK_FOR_ROOM_S, self._look_for_room)
        try:
            self._check_room()
        except OSError as error:
            if error.errno in NO_ROOM:
                self._take_no_more(error)
            return
        with suppress(OSError):
            # With no more than the least it would be full again at once
            if self.full and free_bytes(self.folder) >= self._free_bytes_min + ROOM_BYTES and has_room(self.folder):
                self.full = None
                self._on_full(None)


class JournalReader(LedgerReader):
    """The reading side, in any process; raises JournalError."""

    def __init__(self, state_dir: Path, key: bytes = b"") -> None:
        """Open the journal of the state folder."""
        super().__init__(state_dir / "journal", key)

    def read(self, after: int, limit: int) -> list[Entry]:
        """
        Return at most `limit` entries behind position `after`, in order; fewer at the end of a file, none only at the very end.

        One that was altered, or written by a newer arcgate, becomes a report of just that: it is raised, and holds up nothing.
        """
        entries: list[Entry] = []
        for position, digest, body in self.rows(after, limit):
            try:
                report = _decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                report = _unreadable(position, error, entries[-1].report.received_at if entries else datetime.now(UTC))
            entries.append(Entry(position, report, digest.hex()))
        return entries


def _unreadable(position: int, error: Exception, at: datetime) -> Report:
    """Stand in for an entry that cannot be read. at: about when it was received, as the entry before it says; else now."""
    text = f"Entry {position} of the journal cannot be read: {error}; run `arcgate journal verify`"
    event = Event("(journal)", Format.ARCGATE, "unreadable_entry", Qualifier.NEW, Category.UNKNOWN, text=text)
    return Report(at, "", "", "", (event,))
