"""
The register (main courante), first part: what people did, durable, in order, and chained so that nothing is altered unseen.

    p:acts in Redis -> Act.read() -> Register.append() -> on disk -> RegisterReader.acts()

A ledger (`receiver.ledger`) in the folder `register` of the state folder; an entry's body is the act as JSON.
"""

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Final

import msgspec

from dispatch.alarm import Priority
from receiver.config import USUAL, Guarantees
from receiver.ledger import Ledger, LedgerError, LedgerReader, Tombstone

NO_ID: Final = "0-0"
"""Comes before the id of every act."""
_ID: Final = re.compile(r"(\d{1,14})-(\d{1,20})", re.ASCII)
FIELDS_MAX: Final = 32
TEXT_CHARS_MAX: Final = 16_384
"""Four times what a verb takes: nobody who writes to the stream by himself stops the register with more than an entry holds."""
_TEXTS: Final = ("act", "alarm", "site", "operator", "outcome", "note", "category")
_NUMBER: Final = re.compile(r"\d{1,18}", re.ASCII)
_PRIORITIES: Final = frozenset(map(int, Priority))
_decode_cursors = msgspec.json.Decoder(dict[str, int]).decode


class Act(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was done to an alarm, as the stream `p:acts` had it; its JSON is the entry's body."""

    id: str
    """The stream's: "<ms since 1970>-<number within that ms>"."""
    act: str
    """`claim`, `release`, `close` or `lease_expired`; `unreadable` where the entry is no act."""
    alarm: str
    site: str
    operator: str
    fence: int
    """0 where it was not told."""
    events: int
    """How many the alarm had; 0 where it was not told."""
    priority: int
    """A `Priority`; LOG where it was not told."""
    cursors: dict[str, int]
    """How far each journal was applied when it was done."""
    outcome: str = ""
    note: str = ""
    """Personal: for whoever reads the register, and for no log."""
    category: str = ""
    """The alarm's, as `priority` is; empty where it was not told, as in registers of before."""
    life: int = 0
    """1 where the alarm held a life-safety event."""
    opened_at: int = 0
    """When the alarm was opened, ms since 1970; 0 where it was not told."""
    needed: int = 0
    """The first position of the journal that opened the alarm without which its events would have been decided otherwise."""
    other: dict[str, str] = {}
    """What else the stream had, and what could not be read, as it was."""

    @classmethod
    def read(cls, act_id: str, fields: Mapping[str, str]) -> "Act":
        """
        Make an act of what `AlarmQueue.acts` gives.

        It never raises: what is missing or odd is not known, and kept; what no verb would have taken is cut.
        """
        other = {name[:TEXT_CHARS_MAX]: text[:TEXT_CHARS_MAX] for name, text in islice(fields.items(), FIELDS_MAX)}
        read: dict[str, Any] = {name: other.pop(name, "") for name in _TEXTS}
        read |= {"fence": 0, "events": 0, "priority": int(Priority.LOG), "life": 0, "opened_at": 0, "needed": 0, "cursors": {}}
        for name in ("fence", "events", "priority", "life", "opened_at", "needed"):
            text = other.get(name, "")
            if _NUMBER.fullmatch(text) and (name != "priority" or int(text) in _PRIORITIES):
                read[name] = int(other.pop(name))
        with suppress(msgspec.MsgspecError):
            read["cursors"] = _decode_cursors(other.get("cursors", ""))
            del other["cursors"]
        return cls(id=act_id, **read, other=other)

    @property
    def at_ms(self) -> int:
        """When it was done, ms since 1970, by the clock of Redis."""
        return order(self.id)[0]


def order(act_id: str) -> tuple[int, int]:
    """Return what an act's id is compared by: its ms and its number; zeros for what is no such id."""
    parts = _ID.fullmatch(act_id)
    return (int(parts[1]), int(parts[2])) if parts else (0, 0)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Act).decode


class Register:
    """The writing side. One process has it: the folder is locked. It blocks: for threads, which wait for each other."""

    def __init__(self, state_dir: Path, kept: Guarantees = USUAL, key: bytes = b"") -> None:
        """Open or create the register of the state folder; raises LedgerError."""
        self._ledger = Ledger(state_dir / "register", kept, key)
        self._writing = Lock()
        """A task that is cancelled does not wait for its thread; who closes the file, or writes next, does."""
        self._closed = False
        self.id = self._ledger.id
        try:
            with closing(RegisterReader(state_dir, key)) as reader:
                last = reader.last()
        except BaseException:
            self._ledger.close()
            raise
        self.last_id = last.id if last else NO_ID
        """Of the last act on disk; `NO_ID` where there is none."""
        self.head = self._ledger.position, self._ledger.digest
        """The last position on disk, and its digest: of the same entry, whichever thread asks."""

    @property
    def position(self) -> int:
        """The last one on disk."""
        return self.head[0]

    def append(self, acts: Iterable[Act]) -> int:
        """
        Write acts, all or none; they are on disk when it returns the register's position.

        Those that came before the last one, or are it, are left out: the same acts may be given again. Raises sqlite3.Error,
        OSError and LedgerError; then nothing was written, and the same may be tried again.
        """
        with self._writing:
            if self._closed:
                raise LedgerError("the register is closed")
            last, fresh = self.last_id, list[bytes]()
            for act in acts:
                if order(act.id) > order(last):
                    last = act.id
                    fresh.append(_encode(act))
            if fresh:
                self._insert(fresh)
                self.last_id = last
                self.head = self._ledger.position, self._ledger.digest
            return self.position

    def _insert(self, bodies: list[bytes]) -> None:
        try:
            self._ledger.insert(self._ledger.chain(bodies))
        except (sqlite3.Error, OSError):
            self._ledger.rewind()
            raise

    def drop_old(self, days: int, needed: Callable[[], int], now: datetime | None = None) -> list[Tombstone]:
        """
        Delete the files that are older and of which no act from position `needed()` on is in; see `Ledger.drop_old`.

        needed is asked where there is such a file: it may be much to read. Raises LedgerError and OSError.
        """
        return self._ledger.drop_old(days, needed(), now) if self._ledger.has_old(days, now) else []

    def close(self) -> None:
        """Close the file, and let the folder go."""
        with self._writing:
            self._closed = True
            self._ledger.close()


class RegisterReader(LedgerReader):
    """The reading side, in any process; raises LedgerError."""

    def __init__(self, state_dir: Path, key: bytes = b"") -> None:
        """Open the register of the state folder."""
        super().__init__(state_dir / "register", key)

    def acts(self, after: int, limit: int) -> list[tuple[int, Act]]:
        """
        Return the acts behind position `after`, each with its position, in order: `limit` of them, fewer only at the very end.

        An entry that was altered, or written by a newer arcgate, becomes an act that says so, and does nothing when replayed.
        """
        acts = list[tuple[int, Act]]()
        while len(acts) < limit and (rows := self.rows(acts[-1][0] if acts else after, limit - len(acts))):
            acts += [(position, _act(position, body)) for position, _, body in rows]
        return acts

    def last(self) -> Act | None:
        """Return the newest act that can be read; None where there is none."""
        for position in range(self.head(), self.first() - 1, -1):
            for _, act in self.acts(position - 1, 1):
                if act.id != NO_ID:
                    return act
        return None


def _act(position: int, body: bytes) -> Act:
    why: object = "it has no id"
    try:
        act = _decode(body)
        if order(act.id) > order(NO_ID):
            return act
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        why = error
    note = f"Entry {position} of the register cannot be read: {why}; run `arcgate register verify`"
    return Act(NO_ID, "unreadable", "", "", "", 0, 0, int(Priority.LOG), {}, note=note)
