"""
Copy what people do from Redis to the register on disk, and tell the receiver how far its reports have come.

    p:acts -> Register.append() -> on disk -> Redis is told: copied so far        delivered.json: cursor, oldest open alarm
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dispatch.alarm import Priority
from dispatch.alarm_queue import AlarmQueue, AlarmRefused
from dispatch.register import Act, Register, order
from receiver.delivered import Delivered
from receiver.log import LineWriter, lines

LOOK_MS: Final = 1000
"""How often it looks, where nobody does anything."""


class Copier:
    """Copies the acts of one queue; `run` returns only by being cancelled, or by a fault of Redis or the disk."""

    def __init__(self, state_dir: Path, queue: AlarmQueue, register: Register, logged: LineWriter) -> None:
        self._state_dir, self._queue, self._register, self._lines = state_dir, queue, register, logged
        self._delivered: Delivered | None = None

    async def run(self, journal: str, cursor: Callable[[], int]) -> None:
        """
        Copy for ever.

        journal: its id. cursor: how far it is applied. Raises AlarmRefused (BEHIND) where Redis has lost what it had.
        """
        while True:
            await self._copy(LOOK_MS)
            # In this order: what was opened behind the cursor is found from there on, and what was closed is in the register
            applied = cursor()
            oldest = await self._queue.oldest(journal)
            newest = await self._queue.last_act()
            while order(self._register.last_id) < order(newest):
                await self._copy(0)
            cursors = await self._queue.cursors()
            if cursors.get(journal, 0) < applied:  # else an emptied Redis would have told that nothing is open
                raise AlarmRefused("BEHIND", f"the cursor of {journal} is {cursors.get(journal, 0)}, and was {applied}")
            delivered = Delivered(journal, applied, oldest)
            if delivered != self._delivered:
                await asyncio.to_thread(delivered.write, self._state_dir)
                self._delivered = delivered

    async def _copy(self, block_ms: int) -> None:
        told = await self._queue.acts(self._register.last_id, block_ms)
        acts = [Act.read(act, fields) for act, fields in told]
        if acts:
            await asyncio.to_thread(self._register.append, acts)
            self._lines.write(lines("info", [{"event": _ACTS.get(act.act, act.act), **_told(act)} for act in acts]))
        position, digest = self._register.head
        await self._queue.replay(self._register.id, position, [], digest.hex())


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
