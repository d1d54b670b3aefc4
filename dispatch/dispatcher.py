"""
The dispatcher: from the journal to the operators' queue. What it needs is a journal it may read, the sites, and a Redis.

    Config, Sites -> EmbeddedValkey?, AlarmQueue, Follower, StatusSocket
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from dispatch.alarm import Priority
from dispatch.alarm_queue import EMBEDDED, AlarmQueue, connect, end
from dispatch.embedded import EmbeddedValkey
from dispatch.follow import CursorBeyondJournal, Follower
from dispatch.sites import Sites
from receiver.config import Config
from receiver.log import LineWriter, lines
from receiver.status import StatusSocket

TICK_S: Final = 1.0
"""How often leases are looked at; a verb looks at them too."""
AWAY_SAID_S_MAX: Final = 60.0
AGAIN_S: Final = 1.0
"""After a fault that nobody thought of."""

log = structlog.get_logger()


class Dispatcher:
    """The running half that decides and queues."""

    def __init__(self, config: Config, sites: Sites, logged: LineWriter) -> None:
        """Nothing is opened yet."""
        self._config, self._sites, self._lines = config, sites, logged
        self._since = time.time()
        self._tasks: list[asyncio.Task[None]] = []
        self._embedded = EmbeddedValkey(config.state_dir, _say_exit) if config.redis.url == EMBEDDED else None
        self._redis = connect(config.redis.url, config.state_dir)
        self._queue = AlarmQueue(self._redis, config.redis.centre)
        self._follower = Follower(config.state_dir, sites, self._queue, logged, log)
        self._priorities: dict[str, int] = {}
        self._stopped: str | None = None
        """Why nothing is dispatched until a restart."""

    async def start(self) -> None:
        """
        Begin. A Redis that does not answer is waited for; raises EmbeddedRefused or QueueRefused for one that must not be used.

        What was started is stopped again.
        """
        if self._embedded:
            await self._embedded.start()
        try:
            await self._queue.load()
        except (RedisError, OSError) as error:
            log.critical("queue_away", error=str(error), effect="reports are kept and acknowledged, but wait")
        except BaseException:
            await self._close()
            raise
        self._status = StatusSocket(self._config.state_dir / "dispatch.sock", self.snapshot)
        await self._status.open()
        for work in (self._follow, self._tick, self._tell_acts):
            self._tasks.append(asyncio.create_task(self._keep(work)))
        log.info("dispatcher_started", sites=len(self._sites), centre=self._config.redis.centre)

    async def stop(self) -> None:
        """Stop; what was not committed is taken up at the next start."""
        await end(*self._tasks)
        await self._status.close()
        await self._close()
        log.info("dispatcher_stopped", cursor=self._follower.cursor)

    async def _close(self) -> None:
        await self._redis.aclose()
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
            "redis": {"embedded": self._embedded is not None, "away": self._follower.away},
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

    async def _follow(self) -> None:
        """Follow the journal, through everything but a cursor that cannot be."""
        try:
            await self._follower.run()
        except CursorBeyondJournal as error:
            self._stopped = str(error)
            log.critical("dispatch_stopped", error=self._stopped)

    async def _tick(self) -> None:
        """Return what dead consoles held, count the queue; while reports wait say so, at growing intervals."""
        since, say_at = 0.0, 0.0
        while True:
            await asyncio.sleep(TICK_S)
            why = self._stopped or self._follower.away
            try:
                await self._queue.expire()
                self._priorities = {priority.name.lower(): count for priority, count in (await self._queue.counts()).items()}
            except (RedisError, OSError) as error:
                why = why or str(error) or type(error).__name__
            now = time.monotonic()
            if why:
                since = since or now
                if now >= say_at:
                    event = "dispatch_stopped" if self._stopped else "queue_still_away"
                    log.critical(event, error=why, away_s=round(now - since), lag=self._follower.lag)
                    say_at = now + min(max(2.0, now - since), AWAY_SAID_S_MAX)
            elif since:
                log.warning("queue_back", away_s=round(now - since), lag=self._follower.lag)
                since, say_at = 0.0, 0.0

    async def _tell_acts(self) -> None:
        """Log what people do, whatever console they do it with."""
        after = ""
        while True:
            try:
                after = after or await self._queue.last_act()
                acts = await self._queue.acts(after, 2000)
            except (RedisError, OSError):
                await asyncio.sleep(TICK_S)
                continue
            if acts:
                after = acts[-1][0]
                self._lines.write(lines("info", [{"event": _ACTS.get(act["act"], act["act"]), **_told(act)} for _, act in acts]))


_ACTS: Final = {
    "claim": "alarm_claimed",
    "release": "alarm_released",
    "close": "alarm_closed",
    "lease_expired": "alarm_returned",
}
_NOT_TOLD: Final = frozenset({"act", "note", "cursors"})
"""A note is for the register: it may name people."""


def _told(fields: dict[str, str]) -> dict[str, Any]:
    """Write an act as the other lines write the same things: numbers as numbers, a priority by its name."""
    told: dict[str, Any] = {key: value for key, value in fields.items() if key not in _NOT_TOLD}
    priority = Priority(int(fields["priority"])).name.lower()
    return told | {"events": int(fields["events"]), "fence": int(fields["fence"]), "priority": priority}


def _say_exit(code: int, restart_s: float) -> None:
    log.critical("valkey_exited", code=code, restart_s=restart_s, effect="reports are kept and acknowledged, but wait")
