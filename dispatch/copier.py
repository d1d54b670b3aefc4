"""
Copy what people do from Redis to the register on disk, and tell the receiver how far its reports have come.

    p:acts -> Register.append() -> on disk -> Redis is told: copied so far        delivered.json: cursor, oldest open alarm

A disk that takes nothing is no fault of Redis: acts stay in `p:acts` and are copied when it does, and reports go on meanwhile.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog

from dispatch.alarm import Priority
from dispatch.alarm_queue import AlarmQueue, AlarmRefused
from dispatch.register import Act, Register, order
from receiver.delivered import Delivered
from receiver.ledger import LedgerError
from receiver.log import LineWriter, lines

LOOK_MS: Final = 1000
"""How often it looks, where nobody does anything."""
SAID_S: Final = 60.0
"""How often it is said again that nothing can be written."""

log = structlog.get_logger()


class Copier:
    """Copies the acts of one queue; `run` returns only by being cancelled, or by a fault of Redis."""

    def __init__(self, state_dir: Path, queue: AlarmQueue, register: Register, logged: LineWriter) -> None:
        self._state_dir, self._queue, self._register, self._lines = state_dir, queue, register, logged
        self._delivered: Delivered | None = None
        self._say_at = dict[str, float]()
        self.failing: str | None = None
        """Why nothing can be written; None where it can."""

    async def run(self, journal: str, cursor: Callable[[], int]) -> None:
        """
        Copy for ever.

        journal: its id. cursor: how far it is applied. Raises AlarmRefused (BEHIND) where Redis has lost what it had.
        """
        while True:
            copied = await self._copy(LOOK_MS)
            # In this order: what was opened behind the cursor is found from there on, and what was closed is in the register
            applied = cursor()
            oldest = await self._queue.oldest(journal)
            newest = await self._queue.last_act()
            while copied and order(self._register.last_id) < order(newest):
                copied = await self._copy(0)
            cursors = await self._queue.cursors()
            if cursors.get(journal, 0) < applied:  # else an emptied Redis would have told that nothing is open
                raise AlarmRefused("BEHIND", f"the cursor of {journal} is {cursors.get(journal, 0)}, and was {applied}")
            now = Delivered(journal, applied, oldest, *(await self._queue.heads()).get(journal, ()))
            told = await self._tell(now if copied else self._with_what_is_not_copied(now))
            if not (copied and told):
                await asyncio.sleep(LOOK_MS / 1000)
            elif self.failing:
                log.warning("register_written_again", position=self._register.position, after=self.failing)
                self.failing, self._say_at = None, {}

    async def _copy(self, block_ms: int) -> bool:
        """Copy what was done since; False where it could not be written."""
        told = await self._queue.acts(self._register.last_id, block_ms)
        acts = [Act.read(act, fields) for act, fields in told]
        if acts:
            if not await self._write("register", self._register.append, acts):
                return False
            self._lines.write(lines("info", [{"event": _ACTS.get(act.act, act.act), **_told(act)} for act in acts]))
        position, digest = self._register.head
        await self._queue.replay(self._register.id, position, [], digest.hex())
        return True

    def _with_what_is_not_copied(self, now: Delivered) -> Delivered:
        """Tell what was closed since as open: the register does not know it, and a refill must not begin behind it."""
        before = self._delivered or Delivered.read(self._state_dir)
        needed = before.needed if before and before.journal == now.journal else 1
        return Delivered(now.journal, now.cursor, max(1, min(needed, now.needed)), now.head, now.digest)

    async def _tell(self, delivered: Delivered) -> bool:
        """Tell the receiver, where that is news; False where it could not be written."""
        if delivered == self._delivered:
            return True
        if not await self._write("delivered.json", delivered.write, self._state_dir):
            return False
        self._delivered = delivered
        return True

    async def _write(self, file: str, write: Callable[..., object], *arguments: object) -> bool:
        """Write, in a thread; False where that failed, which is said now and then."""
        try:
            await asyncio.to_thread(write, *arguments)
        except (sqlite3.Error, OSError, LedgerError) as error:
            self.failing = f"{file}: {error}"
            if time.monotonic() >= self._say_at.get(file, 0):
                todo = f"see that {self._state_dir} has room and may be written; it goes on by itself"
                log.critical("register_failed", file=file, error=str(error), effect=_EFFECTS[file], todo=todo)
                self._say_at[file] = time.monotonic() + SAID_S
            return False
        return True


_EFFECTS: Final = {
    "register": "reports are dispatched all the same; what people do is in Redis alone, and is copied when it can be written",
    "delivered.json": "reports are dispatched all the same; the receiver does not learn it, and may call them undelivered",
}
_ACTS: Final = {
    "claim": "alarm_claimed",
    "release": "alarm_released",
    "close": "alarm_closed",
    "lease_expired": "alarm_returned",
}


def _told(act: Act) -> dict[str, Any]:
    """Write an act as the other lines write the same things, without its note: that is for the register, it may name people."""
    told = {"alarm": act.alarm, "site": act.site, "operator": act.operator, "fence": act.fence, "events": act.events}
    outcome = {"outcome": act.outcome} if act.outcome else {}
    return told | {"priority": Priority(act.priority).name.lower()} | outcome
