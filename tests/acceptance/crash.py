"""
The crash harness: it kills the gateway's parts at moments that a seed chooses, and checks the three promises from the outside.

    Ordeal: load -> a moment -> kill -> start again -> settle -> check, over and over on the same state

Nothing in the gateway helps it. A named moment is found by freezing the process (SIGSTOP) and looking at what the world can
see: which reports are in the journal, which were answered, how far the queue's cursor is. If it is the moment, it is killed as
it stands; else it goes on and is frozen again.
"""

import asyncio
import itertools
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from dispatch.alarm_queue import connect
from receiver.journal import JournalError
from tests.acceptance.conftest import Centre
from tests.acceptance.witness import GRACE_S, Consoles, PacedPanels, Witness
from tests.conftest import ARCGATE
from tests.valkey import Valkey

PANELS: Final = 20
CONSOLES: Final = 2
FREEZES_MAX: Final = 100
FROZEN_S: Final = 0.003
"""What a frozen process had sent is read within this time."""
BACKLOG_S: Final = 0.15
"""Reports of so long are waiting when the queue's server goes on: more than one batch of the follower."""
SETTLED_S_MAX: Final = 60.0
CARDS_IN_A_ROW: Final = 6
"""So many kills of one arrangement, then comes the other one."""


class Moment(StrEnum):
    """When it is killed."""

    ANY = "at any moment"
    STARTING = "while it starts"
    BEFORE_COMMIT = "a report was sent, and is not in the journal"
    BEFORE_ACK = "a report is in the journal, and not answered"
    BEFORE_DISPATCH = "a report is answered, and not dispatched"
    INSIDE_BATCH = "the cursor moves, and is behind"
    FLUSHED = "not killed: the queue is emptied by FLUSHALL"
    OLDER = "the queue's data are replaced by older ones"


class Arrangement(StrEnum):
    """What runs: the whole gateway with its embedded Valkey, or the halves with a Valkey of their own, on the same data."""

    TOGETHER = "together"
    APART = "apart"


Card = tuple[str, Moment]
"""Whom, and when."""

VERBS: Final = {Arrangement.TOGETHER: ("run",), Arrangement.APART: ("receive", "dispatch")}
_RECEIVING: Final = (Moment.ANY, Moment.STARTING, Moment.BEFORE_COMMIT, Moment.BEFORE_ACK)
_DISPATCHING: Final = (Moment.ANY, Moment.STARTING, Moment.BEFORE_DISPATCH, Moment.INSIDE_BATCH)
_LOSSES: Final[list[Card]] = [("valkey", Moment.FLUSHED), ("valkey", Moment.OLDER)]
CARDS: Final[dict[Arrangement, list[Card]]] = {
    Arrangement.TOGETHER: [
        *(("run", moment) for moment in dict.fromkeys(_RECEIVING + _DISPATCHING)),
        *(("valkey", moment) for moment in (Moment.ANY, Moment.INSIDE_BATCH)),
        *_LOSSES,
    ],
    Arrangement.APART: [
        *(("receive", moment) for moment in _RECEIVING),
        *(("dispatch", moment) for moment in _DISPATCHING),
        *((victim, Moment.ANY) for victim in ("valkey", "all")),
        ("valkey", Moment.INSIDE_BATCH),
        *_LOSSES,
    ],
}


class Ordeal:
    """One gateway's hard life in a folder."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home = home
        self.hit: Counter[Moment] = Counter()
        """How often a moment was met; the others were killed at whatever moment it was."""
        self._chance = random.Random(seed)  # noqa: S311 - the same kills each time
        self._valkey = Valkey(home / "state" / "valkey")
        self._older = home / "older"
        self._panels = PacedPanels(PANELS, seed)
        self._consoles = Consoles(CONSOLES, seed)
        self._arrangement = Arrangement.TOGETHER
        self._parts: dict[str, Centre] = {}
        self._url = ""
        self._witness = Witness(home / "state", self._panels, self._consoles)

    async def go(self, kills: int) -> str:
        """Kill so many times; returns what there was to see. Raises AssertionError for a promise that was broken."""
        try:
            done = 0
            for arrangement in itertools.cycle(Arrangement):
                await self._arrange(arrangement)
                for card in self._chance.sample(CARDS[arrangement], min(CARDS_IN_A_ROW, kills - done)):
                    await self._round(card)
                    done += 1
                if done == kills:
                    break
            self._stop()
            self._witness.verify_by_command(self._part.config)
        finally:
            for part in self._parts.values():
                part.stop(signal.SIGKILL)
            self._valkey.stop()
        met = ", ".join(f"{count} times {moment}" for moment, count in self.hit.items())
        return f"{kills} kills; {self._witness.told()}; met {met}"

    @property
    def _part(self) -> Centre:
        return next(iter(self._parts.values()))

    async def _arrange(self, arrangement: Arrangement) -> None:
        """Stop what runs as a machine does that is shut down, and start the other arrangement on the same data."""
        self._stop()
        self._arrangement = arrangement
        self._url = "embedded" if arrangement is Arrangement.TOGETHER else self._valkey.url
        self._parts = {verb: Centre(self.home, self._url) for verb in VERBS[arrangement]}
        for verb, part in self._parts.items():
            part.log = self.home / f"{verb}.jsonl"
        if arrangement is Arrangement.APART:
            self._parts["dispatch"].home = self.home / "dispatch"  # so that both can start at a time, and say READY
        await self._start()

    def _stop(self) -> None:
        for part in self._parts.values():
            assert part.stop() == 0
            _, trace, rest = part.log.read_text().partition("Traceback")
            assert not trace, f"{part.log}: {trace}{rest[:4000]}"
        self._valkey.stop()

    async def _start(self) -> None:
        """Start what does not run."""
        if self._arrangement is Arrangement.APART and not self._part.valkeys():
            await asyncio.to_thread(self._valkey.start)
        down = [(verb, part) for verb, part in self._parts.items() if part.process is None]
        await asyncio.gather(*(asyncio.to_thread(part.start, verb) for verb, part in down))

    async def _round(self, card: Card) -> None:
        """Kill once under load, and check. What goes wrong here names the card."""
        victim, moment = card
        try:
            async with connect(self._url, self.home / "state") as redis, asyncio.TaskGroup() as tasks:
                if moment is Moment.OLDER and not self._older.exists() and not await self._witness.fed(redis):
                    moment = Moment.FLUSHED  # there is nothing older than an empty queue
                if moment is Moment.OLDER and (not self._older.exists() or self._chance.random() < 0.5):
                    shutil.rmtree(self._older, ignore_errors=True)
                    shutil.copytree(self._valkey.folder, self._older, ignore=shutil.ignore_patterns("*.sock"))
                self._panels.hurry(moment in {Moment.INSIDE_BATCH, Moment.BEFORE_ACK})
                tasks.create_task(self._panels.report(await self._part.address()))
                tasks.create_task(self._consoles.work(self._url, self.home / "state"))
                await self._strike(victim, moment, redis)
                await asyncio.sleep(self._chance.uniform(0, 0.1))
                await self._start()
                self._consoles.going = False
                self._panels.stop()
            await self._settle_and_check()
        except BaseException as error:
            error.add_note(f"{self._arrangement}, {victim}: {moment}; {self._witness.told()}; {self.home}")
            raise

    async def _strike(self, victim: str, moment: Moment, redis: Redis) -> None:
        await asyncio.sleep(self._chance.uniform(0.02, 0.3))
        match moment:
            case Moment.BEFORE_COMMIT | Moment.BEFORE_ACK | Moment.BEFORE_DISPATCH:
                self.hit[moment] += await self._freeze(victim, moment, redis)
            case Moment.INSIDE_BATCH:
                self.hit[moment] += await self._make_backlog(redis)
            case Moment.FLUSHED:
                await asyncio.sleep(GRACE_S)
                await self._witness.flush(redis)
                return
            case Moment.OLDER:
                await asyncio.sleep(GRACE_S)
                victim = victim if self._arrangement is Arrangement.APART else "run"
            case Moment.STARTING:
                await self._kill(victim)
                await self._kill_at_start(victim)
                return
        await self._kill(victim)
        if moment is Moment.OLDER:
            await self._witness.expect_loss()
            shutil.rmtree(self._valkey.folder)
            shutil.copytree(self._older, self._valkey.folder)

    async def _kill(self, victim: str) -> None:
        """SIGKILL; returns when it is gone, and what dies with it too."""
        if victim == "valkey" and self._arrangement is Arrangement.APART:
            self._valkey.stop()
        elif victim == "valkey":
            for pid in self._part.valkeys():
                os.kill(pid, signal.SIGKILL)
        else:
            embedded = self._part.valkeys() if victim == "run" else []
            for verb in self._chance.sample(list(self._parts), len(self._parts)) if victim == "all" else [victim]:
                assert self._parts[verb].stop(signal.SIGKILL) == -signal.SIGKILL
            if victim == "all":
                self._valkey.stop()
            await self._part.gone(embedded)

    async def _kill_at_start(self, verb: str) -> None:
        part = self._parts[verb]
        with part.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(ARCGATE, verb, "--config", part.config, stdout=log, stderr=log)
        await asyncio.sleep(self._chance.uniform(0.3, 1.0))
        embedded = self._part.valkeys() if verb == "run" else []
        process.kill()
        self.hit[Moment.STARTING] += await process.wait() == -signal.SIGKILL
        await self._part.gone(embedded)

    async def _freeze(self, verb: str, moment: Moment, redis: Redis) -> bool:
        """Freeze it until it stands at this moment, and leave it so; False where it never did."""
        process = self._parts[verb].process
        assert process
        is_there = self._is_undispatched(redis) if moment is Moment.BEFORE_DISPATCH else self._is_unanswered(moment)
        for _ in range(FREEZES_MAX):
            process.send_signal(signal.SIGSTOP)
            with suppress(RedisError, JournalError):
                if await is_there():
                    return True
            process.send_signal(signal.SIGCONT)
            await asyncio.sleep(self._chance.uniform(0, 0.01))
        return False

    def _is_unanswered(self, moment: Moment) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            sent = self._panels.unanswered()
            await asyncio.sleep(FROZEN_S)
            waiting = sent & self._panels.unanswered()
            kept = self._witness.kept(waiting)
            return bool(kept if moment is Moment.BEFORE_ACK else waiting - kept)

        return look

    def _is_undispatched(self, redis: Redis) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            await asyncio.sleep(FROZEN_S)
            return await self._witness.lag(redis) > 0

        return look

    async def _make_backlog(self, redis: Redis) -> bool:
        """Hold the queue up under load; returns when it is being worked off, True if it is not done yet."""
        (pid,) = self._part.valkeys()
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(BACKLOG_S)
        os.kill(pid, signal.SIGCONT)
        before = await self._witness.lag(redis)
        for _ in range(1000):
            if 0 < await self._witness.lag(redis) < before:
                return True
            await asyncio.sleep(0)
        return False

    async def _settle_and_check(self) -> None:
        async with connect(self._url, self.home / "state") as redis, asyncio.timeout(SETTLED_S_MAX):
            while True:
                with suppress(RedisError, OSError):
                    if await self._witness.settled(redis):
                        break
                await asyncio.sleep(0.01)
            await self._witness.check(redis)
