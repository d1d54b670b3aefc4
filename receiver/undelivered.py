"""
Reports that are safe on disk and reach nobody: noticed here, and said on every channel that is left.

    look(now), each second: journal.durable and delivered.json -> how long the oldest undelivered report has waited
        undelivered_s reached -> reports_undelivered, alert_command, journal.hold() where the centre wants it so
        caught up             -> journal.free(), reports_delivered

When a report came is not read from the journal but remembered, a sample a look, ever more coarsely as they grow old.
"""

import asyncio
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import structlog

from receiver.alert import alert
from receiver.config import Guarantees
from receiver.delivered import Delivered
from receiver.journal import Journal

LOOK_S: Final = 1.0
CAUGHT_UP_S: Final = 5.0
"""Reports that wait no longer than this are on their way: under load some always are."""
SAID_AGAIN_S_FIRST: Final = 30.0
SAID_AGAIN_S_MAX: Final = 600.0
_HOLD: Final = "undelivered"

log = structlog.get_logger()


class Undelivered:
    """Watches one journal. Call `look` every LOOK_S, and `stop` at the end."""

    def __init__(self, journal: Journal, state_dir: Path, config: Guarantees) -> None:
        """state_dir: where delivered.json is. What waits already counts from the first look."""
        self._journal, self._state_dir, self._config = journal, state_dir, config
        self._samples: deque[tuple[float, int]] = deque()
        """(seen at, position): what is behind the position of the sample before came about then. Each is undelivered."""
        self._alerts: set[asyncio.Task[None]] = set()
        self._say_at = 0.0
        self._raised_at: float | None = None
        self.delivered: Delivered | None = None
        """What dispatch told last of this journal."""
        self.lag = 0
        """How many reports are not delivered."""
        self.waited_s = 0.0
        """How long the oldest of them has waited."""

    @property
    def raised(self) -> bool:
        """Whether it is so bad that it has been raised, and is not over."""
        return self._raised_at is not None

    def look(self, now: float) -> None:
        """See how it stands, and act on it. now: seconds of a clock that never goes back."""
        self._measure(now)
        if not self.raised:
            if self.waited_s >= self._config.undelivered_s:
                self._raise(now)
        elif self._caught_up():
            self._end(now)
        elif now >= self._say_at:
            self._say(now)

    def _measure(self, now: float) -> None:
        told = Delivered.read(self._state_dir)
        # One of another journal says nothing, nor one that is ahead: an older copy of this journal was put back
        known = told and told.journal == self._journal.id and told.cursor <= self._journal.appended
        self.delivered = told if known else None
        cursor, durable = self.delivered.cursor if self.delivered else 0, self._journal.durable
        samples = self._samples
        while samples and samples[0][1] <= cursor:
            samples.popleft()
        reached = samples[-1][1] if samples else cursor
        if durable > reached:
            grain_s = (now - samples[0][0]) / 100 if samples else 0
            if samples and now - samples[-1][0] < grain_s:
                samples[-1] = samples[-1][0], durable  # so that a week's outage is some hundred samples
            else:
                samples.append((now, durable))
        self.lag = max(0, durable - cursor)
        self.waited_s = now - samples[0][0] if samples else 0.0

    def _caught_up(self) -> bool:
        if self._config.refuse_when_undelivered:
            return not self.lag
        return self.waited_s < min(CAUGHT_UP_S, self._config.undelivered_s)

    def _raise(self, now: float) -> None:
        self._raised_at = now
        if self._config.refuse_when_undelivered:
            self._journal.hold(_HOLD)
        facts = self._say(now)
        if self._config.alert_command:
            running = asyncio.create_task(alert(self._config.alert_command, "reports_undelivered", facts))
            self._alerts.add(running)
            running.add_done_callback(self._alerts.discard)

    def _say(self, now: float) -> dict[str, Any]:
        assert self._raised_at is not None
        self._say_at = now + min(max(now - self._raised_at, SAID_AGAIN_S_FIRST), SAID_AGAIN_S_MAX)
        refused = "no report is acknowledged and no link test answered any more: panels fail over"
        facts = {
            "node": self._config.node,
            "journal": self._journal.id,
            "lag": self.lag,
            "waited_s": round(self.waited_s),
            "effect": "reports do not reach the operators' queue; "
            + (refused if self._config.refuse_when_undelivered else "they are kept and acknowledged all the same"),
            "todo": "work from `arcgate journal watch --urgent`, which needs no Redis; `arcgate status` says what is away",
        }
        log.critical("reports_undelivered", **facts)
        return facts

    def _end(self, now: float) -> None:
        assert self._raised_at is not None
        self._journal.free(_HOLD)
        lasted_s = round(now - self._raised_at + self._config.undelivered_s)
        log.warning("reports_delivered", journal=self._journal.id, lag=self.lag, lasted_s=lasted_s)
        self._raised_at = None

    def snapshot(self) -> dict[str, Any]:
        """Say how it is, for `arcgate status`; `since` in seconds since 1970, null where nothing waits."""
        return {
            "lag": self.lag,
            "since": time.time() - self.waited_s if self.lag else None,
            "raised": self.raised,
            "refusing": _HOLD in self._journal.held,
        }

    async def stop(self) -> None:
        """End the command, where it still runs."""
        for running in self._alerts:
            running.cancel()
        await asyncio.gather(*self._alerts, return_exceptions=True)
