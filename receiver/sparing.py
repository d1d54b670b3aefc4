"""
Log lines of which whoever reaches a port could make thousands: one a minute of each kind and address.

    tell() -> the line, or nothing; flush(), each minute -> how many were not written
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal

import structlog

AGAIN_S: Final = 60.0
LINES_MAX: Final = 100
"""Of one event in AGAIN_S, whatever addresses they come from: a datagram's sender can write any address into it."""

Level = Literal["info", "warning", "critical"]

log = structlog.get_logger()


class SparingLog:
    """One for all listeners. Keeps LINES_MAX addresses an event, so it stays small."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds that never go back."""
        self._clock = clock
        self._since = clock()
        self._said: set[tuple[str, str, str]] = set()
        """(event, host, cause) of the lines of this minute."""
        self._lines: Counter[str] = Counter()
        """How many lines of each event."""
        self._spared: Counter[tuple[str, str, str]] = Counter()
        """How many more of each there were; of host "" those for which there was no room."""

    def tell(self, event: str, host: str, cause: str, /, *, level: Level = "warning", **values: object) -> None:
        """Write it, unless the same event of the same address, for the same cause, was written within the minute."""
        if self._clock() >= self._since + AGAIN_S:
            self.flush()
        key = (event, host, cause)
        if key in self._said:
            self._spared[key] += 1
        elif self._lines[event] >= LINES_MAX:
            self._spared[event, "", ""] += 1
        else:
            self._said.add(key)
            self._lines[event] += 1
            getattr(log, level)(event, **values)

    def flush(self) -> None:
        """Say how many lines were not written, and begin a new minute."""
        for (event, host, cause), count in self._spared.items():
            log.warning("lines_not_logged", of=event, host=host or "others", cause=cause, count=count)
        self._since = self._clock()
        self._said.clear()
        self._lines.clear()
        self._spared.clear()
