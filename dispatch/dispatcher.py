"""
The dispatcher: from the journal to the operators' queue. What it needs is a journal it may read, the sites, and a Redis.

    Config, Sites -> EmbeddedValkey?, AlarmQueue, Follower, StatusSocket
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from shutil import disk_usage
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from dispatch import own_site
from dispatch.alarm_queue import EMBEDDED, AlarmQueue, AlarmRefused, connect, end
from dispatch.embedded import EmbeddedRefused, EmbeddedValkey
from dispatch.follow import Follower
from dispatch.refill import WrongJournal
from dispatch.register import Register
from dispatch.server import QueueRefused
from dispatch.sites import Sites
from dispatch.upkeep import Upkeep
from receiver.config import Config
from receiver.log import LineWriter
from receiver.status import StatusSocket

TICK_S: Final = 1.0
"""How often leases are looked at; a verb looks at them too."""
AWAY_SAID_S_MAX: Final = 60.0
AGAIN_S: Final = 1.0
"""After a fault that nobody thought of."""
EMBEDDED_AGAIN_S: Final = 5.0
"""How often an embedded server that was refused is tried again."""

log = structlog.get_logger()


class Dispatcher:
    """The running half that decides and queues."""

    def __init__(self, config: Config, sites: Sites, logged: LineWriter, *, alone: bool = True) -> None:
        """Nothing is opened yet. alone: no receiver is in this process, which may end where there is no Redis to be used."""
        self._config, self._sites, self._lines = config, sites, logged
        self._waited_for = (RedisError, OSError) if alone else (RedisError, OSError, QueueRefused, EmbeddedRefused)
        self._since = time.time()
        self._tasks: list[asyncio.Task[None]] = []
        self._embedded = EmbeddedValkey(config.state_dir, _say_exit) if config.redis.url == EMBEDDED else None
        self._redis = connect(config.redis.url, config.state_dir)
        self._queue = AlarmQueue(self._redis, config.redis.centre)
        self._priorities: dict[str, int] = {}
        self._disk_low = False
        self._refused: str | None = None
        """Why there is no embedded server."""
        self._stopped: str | None = None
        """Why nothing is dispatched until a restart."""

    async def start(self) -> None:
        """
        Begin. A Redis that does not answer is waited for, and beside a receiver one that must not, or cannot, be used too.

        Alone it raises EmbeddedRefused and QueueRefused; what was started is stopped again.
        """
        self._register = await asyncio.to_thread(Register, self._config.state_dir, self._config, self._config.digest_secret)
        self._follower = Follower(
            self._config.state_dir, self._sites, self._queue, self._register, self._config.node, self._lines, log
        )
        self._upkeep = Upkeep(self._config.state_dir, self._register, self._config, log)
        try:
            if self._embedded:
                await self._embedded.start()
            await self._queue.load()
        except self._waited_for as error:
            self._refused = str(error) if isinstance(error, EmbeddedRefused) else None
            log.critical("queue_away", error=str(error), effect="reports are kept and acknowledged, but wait")
        except BaseException:
            await self._close()
            raise
        self._status = StatusSocket(self._config.state_dir / "dispatch.sock", self.snapshot)
        await self._status.open()
        for work in (self._embed, self._follow, self._tick, self._upkeep.run):
            self._tasks.append(asyncio.create_task(self._keep(work)))
        log.info("dispatcher_started", sites=len(self._sites), centre=self._config.redis.centre)

    async def stop(self) -> None:
        """Stop; what was not committed is taken up at the next start."""
        await end(*self._tasks)
        await self._status.close()
        await self._close()
        self._upkeep.say_head()
        log.info("dispatcher_stopped", cursor=self._follower.cursor)

    async def _close(self) -> None:
        await self._redis.aclose()
        self._register.close()
        if self._embedded:
            await self._embedded.stop()

    def snapshot(self) -> dict[str, Any]:
        """Say how it is, for `arcgate status`."""
        return {
            "pid": os.getpid(),
            "since": self._since,
            "sites": len(self._sites),
            "cursor": self._follower.cursor,
            "lag": self._follower.lag,
            "stopped": self._stopped,
            "redis": {
                "embedded": self._embedded is not None,
                "away": self._refused or self._follower.away,
                "bringing_up_s": self._follower.bringing_up_s,
            },
            "not_copied": self._follower.not_copied,
            "events": self._follower.counts,
            "queue": self._priorities,
        }

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it until it returns; a fault that nobody thought of is told, and it begins again."""
        while True:
            try:
                return await work()
            except Exception:
                log.critical("dispatch_failed", work=work.__name__, exc_info=True, again_s=AGAIN_S)
                await asyncio.sleep(AGAIN_S)

    async def _embed(self) -> None:
        """Try an embedded server that was refused again until it runs: whoever mends it need not stop the receiver."""
        while self._embedded and self._refused:
            await asyncio.sleep(EMBEDDED_AGAIN_S)
            try:
                await self._embedded.start()
                self._refused = None
            except EmbeddedRefused as error:
                self._refused = str(error)

    async def _follow(self) -> None:
        """Follow the journal, through everything but a journal that does not belong to it."""
        try:
            await self._follower.run()
        except WrongJournal as error:
            self._stopped = str(error)
            log.critical("dispatch_stopped", error=self._stopped)

    async def _tick(self) -> None:
        """Return what dead consoles held, count the queue; while reports wait say so and why, at growing intervals."""
        since, say_at, refill_at = 0.0, 0.0, 0.0
        while True:
            await asyncio.sleep(TICK_S)
            fault = None
            try:
                await self._look_at_disk()
                await self._queue.expire()
                self._priorities = {priority.name.lower(): count for priority, count in (await self._queue.counts()).items()}
            except (RedisError, OSError, AlarmRefused) as error:
                fault = str(error) or type(error).__name__
            why = self._stopped or self._refused or self._follower.away or fault
            now, up_s = time.monotonic(), self._follower.bringing_up_s
            if why:
                since = since or now
                if now >= say_at:
                    event = "dispatch_stopped" if self._stopped else "queue_still_away"
                    log.critical(event, error=why, away_s=round(now - since), lag=self._follower.lag)
                    say_at = now + min(max(2.0, now - since), AWAY_SAID_S_MAX)
            elif up_s is not None:
                if now >= refill_at and up_s > TICK_S:
                    log.warning("refilling", seconds=round(up_s), cursor=self._follower.cursor, lag=self._follower.lag)
                    refill_at = now + min(max(2.0, up_s), AWAY_SAID_S_MAX)
            elif since:
                log.warning("queue_back", away_s=round(now - since), lag=self._follower.lag)
                since, say_at, refill_at = 0.0, 0.0, 0.0

    async def _look_at_disk(self) -> None:
        """Raise an alarm when the journal's disk has too little room, once each time."""
        low = disk_usage(self._config.state_dir).free < self._config.free_bytes_min
        if low and not self._disk_low:
            text = f"The disk of {self._config.state_dir} is full: no report is acknowledged"
            steps = ("Call the operations engineer: panels go to the other receiver, if they have one", "Make room on the disk")
            await own_site.tell(self._queue, self._follower.journal, "disk_full", text, steps, datetime.now(UTC))
        self._disk_low = low


def _say_exit(code: int, restart_s: float) -> None:
    log.critical("valkey_exited", code=code, restart_s=restart_s, effect="reports are kept and acknowledged, but wait")
