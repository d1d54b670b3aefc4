"""
`arcgate panel load`: many panels on one loop, each waiting for its own replies.

    Plan -> N panels, each: event or link test when it is due -> reply -> Tally

A panel waits for its reply before it sends what is due next: where the receiver cannot keep up, the sum shows
fewer frames a second than the rate.
"""

import asyncio
import math
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec
import typer
import uvloop

from arcgate.output import fail, for_people, print_json
from arcgate.panel_line import NO_REPLY, Line, LineError, open_line, tls_context
from arcgate.panel_options import PanelOptions
from arcgate.panel_talk import Panel, Trip
from protocols.dc09 import Frame

OPENING_MAX: Final = 100
"""So many connections are being opened at once: more would overflow the receiver's backlog."""
REOPEN_S: Final = 1.0
_STEPS: Final = 100
"""Round-trip times are counted in steps of one per cent: so a day's load needs no more memory than a minute's."""


class Plan(msgspec.Struct, frozen=True):
    """What is sent, by how many, and when."""

    event: Frame | None
    """None: link tests alone."""
    null: Frame
    panels: int
    rate: float
    """Of all panels together, a second; 0: each panel as soon as its last was answered."""
    seconds: float
    interval: float
    """Seconds between a panel's link tests; 0: none beside what `rate` sends."""


class Tally:
    """What came of it."""

    def __init__(self) -> None:
        self.sent = self.acked = self.clocks_set = self.reopened = 0
        self.errors = Counter[str]()
        self._times = Counter[int]()
        self._max_ms = 0.0

    def note(self, trip: Trip) -> None:
        """Count one frame."""
        self.sent += 1
        self.clocks_set += trip.clock_set_s is not None
        if trip.error is None:
            self.acked += 1
        else:
            self.errors["no reply" if trip.error is NO_REPLY else trip.error.partition(":")[0]] += 1
        if trip.round_trip_ms:
            self._times[math.ceil(math.log(trip.round_trip_ms) * _STEPS)] += 1
            self._max_ms = max(self._max_ms, trip.round_trip_ms)

    def quantile_ms(self, share: float) -> float | None:
        """Return the time within which this share of the replies came, to one per cent."""
        wanted = share * self._times.total()
        for step, count in sorted(self._times.items()):
            wanted -= count
            if wanted <= 0:
                return round(min(math.exp(step / _STEPS), self._max_ms), 3)
        return None

    def summary(self, plan: Plan, took_s: float) -> dict[str, Any]:
        """Return all of it, for JSON."""
        return {
            "panels": plan.panels,
            "seconds": round(took_s, 1),
            "sent": self.sent,
            "acked": self.acked,
            "frames_per_s": round(self.sent / took_s, 1),
            "p50_ms": self.quantile_ms(0.5),
            "p99_ms": self.quantile_ms(0.99),
            "max_ms": self._max_ms or None,
            "clocks_set": self.clocks_set,
            "reopened": self.reopened,
            "errors": dict(self.errors),
        }


def run(plan: Plan, options: PanelOptions, *, json: bool) -> None:
    """Be the panels, and tell the sum; exit with 1 where a frame was not acknowledged."""
    key = options.check()
    _make_room(plan.panels)
    tally = Tally()
    begun = time.perf_counter()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            begun = runner.run(play(plan, options, key, tally))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except LineError as error:
        fail(str(error))
    told = tally.summary(plan, time.perf_counter() - begun)
    if json:
        print_json(told)
    else:
        print(
            "{panels} panels, {seconds} s: sent {sent}, acked {acked}; ms: p50 {p50_ms}, p99 {p99_ms}, max {max_ms};"
            " {frames_per_s} frames/s".format(**for_people(told))
        )
    if tally.clocks_set:
        print(f"{tally.clocks_set} times a NAK set a panel's clock", file=sys.stderr)
    if tally.reopened:
        print(f"{tally.reopened} times a connection was opened again", file=sys.stderr)
    for what, count in tally.errors.most_common():
        print(f"{count} times: {what}", file=sys.stderr)
    if tally.acked < tally.sent or not tally.sent:
        raise typer.Exit(1)


def _make_room(panels: int) -> None:
    """Take the descriptors that the system allows. Raises BadParameter where they do not suffice."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and panels > hard - 50:  # what the process itself has open
        raise typer.BadParameter(f"{panels}: this system allows {hard} open files: `ulimit -n`", param_hint="--panels")


async def play(plan: Plan, options: PanelOptions, key: bytes, tally: Tally) -> float:
    """
    Open all lines, then send for the plan's seconds; what comes of it is in the tally.

    Returns when sending began (`time.perf_counter`). Raises LineError where a line cannot be had at the beginning.
    """
    tls, opening = tls_context(options), asyncio.Semaphore(OPENING_MAX)

    async def open_one() -> Line:
        async with opening:
            return await open_line(options, tls)

    lines = [await open_one(), *await asyncio.gather(*(open_one() for _ in range(plan.panels - 1)))]
    begun = time.perf_counter()

    async def live(nth: int, line: Line) -> None:
        """Be one panel, until the end."""
        account = f"{int(options.account) + nth:0{len(options.account)}}"
        event, null = plan.event and _of(plan.event, account), _of(plan.null, account)
        panel = Panel(options, key)
        for frame, at in due(plan, nth, event, null, lambda: time.perf_counter() - begun):
            if (wait := begun + at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            while line.broken:
                if time.perf_counter() - begun > plan.seconds:
                    return
                await asyncio.sleep(REOPEN_S)
                with suppress(LineError):
                    line = await open_one()
                    tally.reopened += 1
            trip = await panel.report(frame, line)
            tally.note(trip)
            if not trip.reply:  # a late one would be taken for the next frame's
                await line.close()
                line.broken = line.broken or NO_REPLY
        await line.close()

    try:
        async with asyncio.timeout(plan.seconds + 2 * options.timeout), asyncio.TaskGroup() as group:
            for nth, line in enumerate(lines):
                group.create_task(live(nth, line))
    except TimeoutError:
        tally.errors["no end"] += 1
    return begun


def _of(frame: Frame, account: str) -> Frame:
    """Return the same frame of another account."""
    return msgspec.structs.replace(frame, account=account, data=frame.data.replace(f"#{frame.account}|", f"#{account}|", 1))


def due(plan: Plan, nth: int, event: Frame | None, null: Frame, elapsed: Callable[[], float]) -> Iterator[tuple[Frame, float]]:
    """
    Say what the nth panel sends and when, in seconds from the beginning, until the plan's end.

    The panels take turns, so that their frames are spread evenly over each second. Where there are no events and no interval,
    link tests go out at the rate. elapsed: gives the seconds since the beginning.
    """
    main = event or (None if plan.interval else null)
    between = plan.panels / plan.rate if plan.rate else 0.0
    next_main = between * nth / plan.panels if main else math.inf
    next_null = plan.interval * nth / plan.panels if plan.interval else math.inf
    while max(elapsed(), min(next_main, next_null)) < plan.seconds:
        if main and next_main <= next_null:
            yield main, next_main
            next_main = next_main + between if plan.rate else elapsed()
        else:
            yield null, next_null
            next_null += plan.interval
