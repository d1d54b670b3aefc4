"""A centre to follow: a real journal, fed with real frames, its sites, and what the follower said."""

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from dispatch.alarm import Alarm
from dispatch.alarm_queue import AlarmQueue, connect, end
from dispatch.follow import Follower
from dispatch.register import Register, order
from dispatch.sites import Site, Sites
from protocols import dc09
from protocols.errors import FrameError, Reason
from protocols.event import Category, Event, Format, Qualifier
from protocols.link import LinkTest
from receiver.config import Guarantees
from receiver.delivered import Delivered
from receiver.journal import Journal, Report
from receiver.log import LineWriter
from tests.conftest import sia

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ENCRYPTED = dc09.Frame(id_token="*SIA-DCS", sequence="0001", account="1001", data="A" * 32)


def shops(count: int = 5) -> Sites:
    """Sites `shop0`, `shop1` ... with the accounts 1000, 1001 ..."""
    sites = Sites()
    for n in range(count):
        sites.add(Site((str(1000 + n),), f"shop{n}", f"Shop {n}"))
    return sites


def burglary(number: int, accounts: int = 5) -> dc09.Frame:
    """The nth report of many, over the accounts in turn; each is unlike all others."""
    return sia(str(1000 + number % accounts), f"Nri1/BA{number:04}", number % 9999 + 1)


class Centre:
    """A journal in a folder, and a follower of it with a queue of its own."""

    def __init__(self, folder: Path, sites: Sites, url: str, centre: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.sites, self.url, self.name = folder, sites, url, centre
        self.seconds = 0
        self.node = folder.name

    async def __aenter__(self) -> Self:
        self.journal = Journal(self.folder, kept=Guarantees(node=self.node))
        self.redis = connect(self.url, self.folder)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.journal.close()
        await self.redis.aclose()

    async def take(self, *frames: dc09.Frame) -> None:
        """Journal frames as a session does, each a second after the one before."""
        reports = []
        for frame in frames:
            at = self._next_second()
            (item,) = dc09.Dc09().link().receive(dc09.build(frame), at)
            assert not isinstance(item, LinkTest)
            error = None if type(item).__name__ == "Message" else item.error  # type: ignore[union-attr] # a Rejected has one
            reports.append(
                Report(at, "ip", "127.0.0.1:4711", item.frame.decode("latin-1"), item.events, item.identity, error=error)
            )
        await self.keep(reports)

    async def refuse(self, account: str, reason: Reason, *reported: Event, times: int = 1) -> None:
        """Journal frames that were refused, each unlike the others, each a second after the one before."""
        error = FrameError(reason, f"why: {reason}")
        text = f"Reports are being refused: {error.message}"
        told = Event(account, Format.ARCGATE, f"refused_{reason}", Qualifier.NEW, Category.GENERATED, text=text)
        await self.keep(
            [
                Report(at, "ip", "127.0.0.1:4711", "", (told, *reported), f"refused {at}", error=error)
                for at in [self._next_second() for _ in range(times)]
            ]
        )

    def _next_second(self) -> datetime:
        self.seconds += 1
        return NOW + timedelta(seconds=self.seconds)

    async def keep(self, reports: list[Report]) -> None:
        """Journal reports; they are on disk when it returns."""
        durable = asyncio.get_running_loop().create_future()
        self.journal.append(reports, lambda: durable.set_result(None))
        await durable

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[Follower]:
        """Follow for as long as the block lasts."""
        log = os.open(self.folder / "log.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        lines = LineWriter(log)
        register = Register(self.folder)
        async with connect(self.url, self.folder) as redis:
            queue = AlarmQueue(redis, self.name)
            self.follower = Follower(self.folder, self.sites, queue, register, self.node, lines, structlog.get_logger())
            task = self.following = asyncio.create_task(self.follower.run())
            try:
                yield self.follower
            finally:
                await end(task)
                register.close()
                lines.close()
                os.close(log)

    async def dispatched(self, redis: Redis) -> None:
        """Wait until the queue has the whole journal, and the follower knows it."""
        async with asyncio.timeout(20):
            while {await cursor(redis, self), self.follower.cursor} != {self.journal.durable}:  # noqa: ASYNC110 - Redis is asked, it does not tell
                await asyncio.sleep(0.005)

    async def all_dispatched(self) -> None:
        """Follow until the queue has the whole journal."""
        async with self.followed():
            await self.dispatched(self.redis)

    def id(self, position: int, number: int = 0) -> str:
        """Give an event's id."""
        return f"{self.journal.id}-{position:012d}-{number}"

    def each_once(self) -> Counter[str]:
        """Give what a queue holds that has every entry's one event once."""
        return Counter(self.id(position) for position in range(1, self.journal.durable + 1))

    def logged(self) -> list[dict[str, Any]]:
        """Give the follower's lines."""
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]


async def cursor(redis: Redis, centre: Centre) -> int:
    """How far the queue is; -1 where it gives no answer."""
    with contextlib.suppress(RedisError):
        return int(await redis.hget(f"{{arcgate:{centre.name}}}:cursors", centre.journal.id) or 0)
    return -1


def seen(alarms: list[Alarm]) -> list[tuple[object, ...]]:
    return [(a.id, a.priority, a.opened_at, a.events, a.category, a.state, a.owner, a.fence) for a in alarms]


async def copied(here: Centre, queue: AlarmQueue) -> None:
    """Wait until the register has every act, and the receiver was told how far dispatch is."""

    async def all_copied() -> bool:
        now, told = (here.journal.durable, await queue.oldest(here.journal.id)), Delivered.read(here.folder)
        all_acts = order(here.follower._register.last_id) >= order(await queue.last_act())
        return all_acts and told is not None and (told.cursor, told.oldest) == now

    async with asyncio.timeout(10):
        while not await all_copied():  # noqa: ASYNC110 - Redis and a file are asked, they do not tell
            await asyncio.sleep(0.01)
