"""
What is done for the register now and then: the digest of its head goes to the log, and retention deletes what is old.

    Register.head -> register_head        where an empty Redis begins -> the first act it needs -> Register.drop_old()
"""

import asyncio
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from dispatch.beginning import first_act_needed
from dispatch.register import Register, RegisterReader
from receiver.config import Guarantees
from receiver.delivered import Delivered
from receiver.journal import JournalReader
from receiver.ledger import LedgerError

EACH_S: Final = 600.0
"""How often: a tail that is cut off later is seen by the digest that was said."""


class Upkeep:
    """Of one register."""

    def __init__(self, state_dir: Path, register: Register, kept: Guarantees, log: Any) -> None:  # noqa: ANN401 - a structlog logger
        self._state_dir, self._register, self._kept, self._log = state_dir, register, kept, log
        self._said = 0

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            self.say_head()
            await self.drop_old()
            await asyncio.sleep(EACH_S)

    def say_head(self) -> None:
        """Put the head's digest on record, where it is another one than was said last."""
        position, digest = self._register.head
        if position != self._said:
            self._log.info("register_head", register=self._register.id, position=position, digest=digest.hex())
            self._said = position

    async def drop_old(self, now: datetime | None = None) -> None:
        """Let retention delete what is old, where it is wanted, as far as no refill needs it any more."""
        if not self._kept.retention_days:
            return
        try:
            dropped = await asyncio.to_thread(self._register.drop_old, self._kept.retention_days, self._first_needed, now)
        except (OSError, sqlite3.Error, LedgerError) as error:
            self._log.error("retention_failed", error=str(error), todo=f"see that arcgate may delete files of {self._state_dir}")
            return
        for tombstone in dropped:
            self._log.info("segment_dropped", first=tombstone.first, last=tombstone.last, digest=tombstone.digest)

    def _first_needed(self) -> int:
        """As long as it is not known how far this journal is delivered, every act is needed."""
        with closing(JournalReader(self._state_dir)) as reader, closing(RegisterReader(self._state_dir)) as register:
            delivered = Delivered.read(self._state_dir)
            known = delivered and delivered.journal == reader.id
            return first_act_needed(self._state_dir, reader, register) if known else register.first()
