"""What the crash harness sees from the outside: panels that count ACKs, consoles that claim and close, and the three promises."""

import asyncio
import random
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from dispatch.alarm import Alarm
from dispatch.alarm_queue import AlarmQueue, AlarmRefused, connect
from dispatch.register import RegisterReader
from receiver.journal import JournalReader
from receiver.ledger import LedgerReader
from tests.acceptance.panels import Panel, Panels
from tests.conftest import run_arcgate

P: Final = "{arcgate:main}"
PAUSE_S: Final = 0.1
"""At most so long a panel thinks between two reports: what a thousand kills leave must fit on a disk."""
LEASE_S: Final = 1.0
ANSWERED_S: Final = 0.05
"""What was answered before a loss has been heard within this time after it."""
GRACE_S: Final = 1.0
"""The consoles work for so long before a loss."""
UNCOPIED_S: Final = 5.0
"""An act that is not in the register yet may be lost with the queue's data: its alarm is seen again. After so long it is in."""
VERIFIED_EVERY: Final = 5
"""Checks: what is altered stays altered, and after a kill a verification reads 8 MB of SQLite's log."""


class PacedPanel(Panel):
    """A panel that thinks between its reports."""

    pause_s = PAUSE_S
    _timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def _next(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._chance.uniform(0, self.pause_s), super()._next)


class PacedPanels(Panels):
    """Many of them."""

    def __init__(self, count: int, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - the same load each time
        self.panels: list[Panel] = [PacedPanel(number, chance) for number in range(count)]

    def hurry(self, flood: bool) -> None:  # noqa: FBT001 - it is what it is
        """Report without a pause, or with one."""
        for panel in self.panels:
            assert isinstance(panel, PacedPanel)
            panel.pause_s = 0 if flood else PAUSE_S

    def unanswered(self) -> set[str]:
        """The frames that were sent and not yet answered."""
        return {panel._frame.decode() for panel in self.panels if panel._frame}


class Consoles:
    """Operators who claim, and then close, release, or die. They remember what they were told, and what was wrong with it."""

    def __init__(self, count: int, seed: int) -> None:
        self.going = True
        self.wrong: list[str] = []
        self._count = count
        self._chance = random.Random(seed)  # noqa: S311 - the same acts each time
        self._fences: set[int] = set()
        self._held: dict[str, int] = {}
        """Who is held until when, ms since 1970 by the queue's clock."""
        self._closed: dict[str, tuple[float, list[str]]] = {}
        """The alarms that were answered to be closed: `time.monotonic` of the answer, and the ids of their events."""
        self._done: set[str] = set()
        self._lossy = False
        """Whether the queue may show what was closed, until dispatch has put back what it lost."""

    async def work(self, url: str, state_dir: Path) -> None:
        """Work until `going` ends, through every fault of the queue."""
        self.going = True
        await asyncio.gather(*(self._work(f"operator {n}", url, state_dir) for n in range(self._count)))

    @property
    def closed(self) -> set[str]:
        """The alarms that must stay closed."""
        return set(self._closed)

    @property
    def done(self) -> set[str]:
        """The events that must not be in an open alarm."""
        return self._done

    def expect_loss(self, kept: set[str]) -> None:
        """The queue has lost its data: what was closed of late and is not in `kept` is uncertain, and so is who holds what."""
        self._held.clear()
        self._lossy = True
        for alarm, (at, events) in list(self._closed.items()):
            if at > time.monotonic() - UNCOPIED_S and alarm not in kept:
                del self._closed[alarm]
                self._done.difference_update(events)

    def trust(self) -> None:
        """The queue has all again."""
        self._lossy = False

    async def _work(self, operator: str, url: str, state_dir: Path) -> None:
        async with connect(url, state_dir) as redis:
            queue = AlarmQueue(redis, "main")
            while self.going:
                try:
                    alarm = await queue.claim(operator, LEASE_S)
                    if alarm:
                        await self._handle(queue, alarm)
                except (RedisError, OSError):
                    await asyncio.sleep(0.02)
                except AlarmRefused as refused:
                    if refused.code not in {"FENCED", "NOALARM"}:  # the lease ran out; the queue was emptied
                        raise
                await asyncio.sleep(self._chance.uniform(0, 0.02))

    async def _handle(self, queue: AlarmQueue, alarm: Alarm) -> None:
        fence, until = alarm.fence or 0, alarm.lease_until or 0
        if fence in self._fences:
            self.wrong.append(f"fence {fence} was given out twice")
        if alarm.id in self._closed and not self._lossy:
            self.wrong.append(f"{alarm.id} was claimed after it was closed")
        if self._held.get(alarm.id, 0) > until - LEASE_S * 1000 and not self._lossy:
            self.wrong.append(f"{alarm.id} was claimed while another console held it")
        self._fences.add(fence)
        self._held[alarm.id] = until
        what = self._chance.random()
        if what < 0.1:  # this console dies: the lease runs out
            return
        if what < 0.2:
            self._held[alarm.id] = await queue.renew(alarm.id, fence, LEASE_S)
        elif what < 0.3:
            del self._held[alarm.id]
            await queue.release(alarm.id, fence)
            return
        await self._close(queue, alarm.id, fence)

    async def _close(self, queue: AlarmQueue, alarm: str, fence: int) -> None:
        """Close it with all events that are in it by then."""
        for _ in range(50):
            events = [str(event["id"]) for event in await queue.events(alarm, 0, -1)]
            if (again := self._done.intersection(events)) and not self._lossy:
                self.wrong.append(f"{alarm} has {again}, which were closed before")
            held = self._held.pop(alarm, 0)
            try:
                await queue.close(alarm, fence, len(events), "false_alarm", "")
            except AlarmRefused as refused:
                if refused.code not in {"CHANGED", "NOTYET"}:
                    raise
                self._held[alarm] = held
                await asyncio.sleep(0.02)
            else:
                self._closed[alarm] = time.monotonic(), events
                self._done.update(events)
                return


class _Alarm(msgspec.Struct):
    """What the queue says of one."""

    state: str
    rank: float
    repeats: int
    events: list[str]


class _Id(msgspec.Struct):
    id: str


class Witness:
    """Knows what was acknowledged and closed, and compares it with the journal and the queue."""

    def __init__(self, state_dir: Path, panels: PacedPanels, consoles: Consoles) -> None:
        self._state_dir, self._panels, self._consoles = state_dir, panels, consoles
        self._first: dict[str, int] = {}
        """Where each frame is in the journal for the first time."""
        self._head = 0
        self._checks = 0
        self._floor = 0
        """Where a queue that was emptied was refilled from: what was closed and is older need not be in it."""

    def told(self) -> str:
        """Say what there was."""
        acked = sum(len(panel.acked) for panel in self._panels.panels)
        return f"{acked} reports acknowledged, {self._head} in the journal, {len(self._consoles.closed)} alarms closed"

    def kept(self, frames: set[str]) -> set[str]:
        """Say which of the frames the end of the journal has."""
        with closing(JournalReader(self._state_dir)) as reader:
            entries = reader.read(max(0, reader.head() - 500), 1000)
        return frames & {entry.report.frame for entry in entries}

    async def lag(self, redis: Redis) -> int:
        """Count the entries that the queue's cursor has not reached."""
        with closing(JournalReader(self._state_dir)) as reader:
            return reader.head() - int(await redis.hget(f"{P}:cursors", reader.id) or 0)

    async def fed(self, redis: Redis) -> bool:
        """Say whether the queue has had anything yet."""
        return bool(await redis.exists(f"{P}:cursors"))

    async def flush(self, redis: Redis) -> None:
        """Empty the queue's server."""
        async with redis.pipeline() as pipe:
            for kind in ("waiting", "claimed"):
                pipe.zrange(f"{P}:{kind}", 0, -1)
            pipe.hgetall(f"{P}:cursors")
            pipe.flushall()
            waiting, claimed, cursors, _ = await pipe.execute()
        await self.expect_loss()
        with closing(JournalReader(self._state_dir)) as reader:
            dispatched = int(cursors[reader.id.encode()])
        opened = [int(alarm.split(b"-")[-2]) for alarm in waiting + claimed]
        self._floor = max(self._floor, min(opened, default=dispatched + 1))

    async def expect_loss(self) -> None:
        """Tell the consoles that the queue has lost its data now, but for what the register has."""
        await asyncio.sleep(ANSWERED_S)
        closed = set[str]()
        if (self._state_dir / "register").exists():
            with closing(RegisterReader(self._state_dir)) as register:
                closed = {act.alarm for _, act in register.acts(0, 1_000_000) if act.act == "close"}
        self._consoles.expect_loss(closed)

    async def settled(self, redis: Redis) -> bool:
        """Whether the queue has all of the journal, and all acts that are in the register."""
        cursors = await redis.hgetall(f"{P}:cursors")
        heads = {}
        with closing(JournalReader(self._state_dir)) as journal:
            heads[journal.id] = journal.head()
        if (self._state_dir / "register").exists():
            with closing(LedgerReader(self._state_dir / "register")) as register:
                heads[f"register:{register.id}"] = register.head()
        return all(int(cursors.get(name.encode(), 0)) >= head for name, head in heads.items())

    async def check(self, redis: Redis) -> None:
        """Hold the three promises against what the journal and the queue have now. Nothing may be on its way."""
        journal = self._read_journal()
        for panel in self._panels.panels:
            lost = {frame.decode() for _, frame in panel.acked} - self._first.keys()
            assert not lost, f"acknowledged, and not in the journal: {lost}"
        alarms = await _alarms(redis)
        listed = Counter(event for alarm in alarms.values() for event in alarm.events)
        twice = [event for event, count in listed.items() if count > 1]
        assert not twice, f"more than once in the queue: {twice[:9]}"
        needed = {f"{journal}-{position:012d}-0" for position in self._first.values() if position >= self._floor}
        assert needed <= listed.keys(), f"not in the queue: {sorted(needed - listed.keys())[:9]}"
        if not self._floor:
            assert len(listed) + sum(alarm.repeats for alarm in alarms.values()) == self._head, "a report is not counted once"
        assert not self._consoles.wrong, self._consoles.wrong
        opened = {name: alarm for name, alarm in alarms.items() if alarm.state != "closed"}
        again = self._consoles.closed & opened.keys()
        assert not again, f"closed, and open again: {sorted(again)[:9]}"
        again = self._consoles.done & {event for alarm in opened.values() for event in alarm.events}
        assert not again, f"closed, and open again in another alarm: {sorted(again)[:9]}"
        gone = [name for name in self._consoles.closed - alarms.keys() if int(name.split("-")[-2]) >= self._floor]
        assert not gone, f"closed, and not to be found: {gone[:9]}"
        await _check_ranks(redis, opened)
        self._consoles.trust()

    def _read_journal(self) -> str:
        """Take in what is new in it, and now and then verify all of it; gives its id."""
        with closing(JournalReader(self._state_dir)) as reader:
            while entries := reader.read(self._head, 10_000):
                for entry in entries:
                    self._first.setdefault(entry.report.frame, entry.position)
                self._head = entries[-1].position
            self._checks += 1
            if self._checks % VERIFIED_EVERY == 0:
                assert list(reader.verify())[-1] == self._head == reader.head()
            return reader.id

    def verify_by_command(self, config: Path) -> None:
        """Let the command line say that the chains are what was written."""
        for ledger in ("journal", "register"):
            if (self._state_dir / ledger).exists():
                done = run_arcgate(ledger, "verify", "--json", "--config", config)
                assert done.returncode == 0, done.stderr


async def _alarms(redis: Redis) -> dict[str, _Alarm]:
    """Read all alarms, open and closed."""
    keys = [key.decode() async for key in redis.scan_iter(f"{P}:alarm:*", count=5000)]
    found, decode = {}, msgspec.json.Decoder(_Id).decode
    for begin in range(0, len(keys), 500):
        ids = [key.rpartition(":")[2] for key in keys[begin : begin + 500]]
        async with redis.pipeline(transaction=False) as pipe:
            for name in ids:
                pipe.hmget(f"{P}:alarm:{name}", "state", "priority", "opened_at", "repeats", "events")
                pipe.lrange(f"{P}:events:{name}", 0, -1)
            replies = await pipe.execute()
        for name, (state, priority, opened_at, repeats, count), bodies in zip(ids, replies[::2], replies[1::2], strict=True):
            assert int(count) == len(bodies), f"{name} counts {int(count)} events and has {len(bodies)}"
            rank = int(priority) * 1e13 + int(opened_at)
            found[name] = _Alarm(state.decode(), rank, int(repeats), [decode(body).id for body in bodies])
    return found


async def _check_ranks(redis: Redis, opened: dict[str, _Alarm]) -> None:
    """Each open alarm waits at its rank or is claimed, and nothing else is."""
    async with redis.pipeline() as pipe:
        pipe.zrange(f"{P}:waiting", 0, -1, withscores=True)
        pipe.zrange(f"{P}:claimed", 0, -1)
        waiting, claimed = await pipe.execute()
    ranks = {name.decode(): rank for name, rank in waiting}
    assert ranks.keys() | {name.decode() for name in claimed} == opened.keys(), "an open alarm is in no hand and no queue"
    assert len(ranks) + len(claimed) == len(opened), "an alarm waits and is claimed"
    assert {name: rank for name, rank in ranks.items() if opened[name].rank != rank} == {}, "an alarm is not at its rank"
