"""
`arcgate panel receiver`: a pretend receiver. Each line is sent until it is acknowledged, and nothing new before.

    event -> the protocol's own layouts -> line -> ACK (06): the next
                                                -> NAK (15), or silence: again, `tries` times
                                                -> then heartbeats until one is acknowledged, and the same line again
"""

import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from arcgate.decode_asked import protocol_of
from arcgate.output import AsJson, fail, print_json
from arcgate.panel_options import event_of, shared
from arcgate.panel_wire import Way, Wire, WireError
from protocols.event import Qualifier
from protocols.lines import ACK, NAK
from protocols.link import Message, Prints, Rejected, escape

SHOWN_MAX: Final = 10
AGAIN_S: Final = 1.0
"""From one heartbeat to the next while nothing is answered, and from one attempt to connect to the next."""
NUMBERS: Final = 1000
"""Zones have three digits."""
Tell = Callable[["Trip"], None]
_WORDS: Final = {ACK: "ACK", NAK: "NAK", b"": "silence"}


class ReceiverOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are, where the gateway is, how patient we are."""

    protocol: Annotated[str, typer.Option("--protocol", help="surgard, ademco685, cp220 or bosch.")]
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As the listener has it: end=cr.")] = (
        None
    )
    to: Annotated[str, typer.Option("--to", metavar="HOST:PORT", help='Dial a listener with transport "tcp".')] = ""
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help='Be dialled by one with "dial".')] = ""
    serial: Annotated[str, typer.Option("--serial", metavar="PORT", help='A port that leads to one with "serial".')] = ""
    pty: Annotated[
        Path | None, typer.Option("--pty", metavar="PATH", help="Make a pseudo-terminal for one, a link to it here.")
    ] = None
    speed: Annotated[int, typer.Option("--speed", min=50, help="Of --serial, in bits a second; 8N1.")] = 9600
    account: Annotated[str, typer.Option("--account", metavar="N", help="Whose events they are.")] = "1234"
    receiver: Annotated[str, typer.Option("--receiver", help="The receiver's number.")] = "1"
    line: Annotated[str, typer.Option("--line", help="Its line.")] = "1"
    timeout: Annotated[float, typer.Option("--timeout", min=0.01, help="Seconds until a line is sent again.")] = 4
    tries: Annotated[int, typer.Option("--tries", min=1, help="How often a line is sent until heartbeats are.")] = 4
    patience: Annotated[float, typer.Option("--patience", min=0, help="Seconds without an ACK until it gives up.")] = 60

    @property
    def way(self) -> Way:
        """Raises BadParameter where it is not one."""
        if sum(map(bool, (self.to, self.listen, self.serial, self.pty))) != 1:
            raise typer.BadParameter("choose one of --to, --listen, --serial and --pty", param_hint="--to")
        return Way(self.to, self.listen, self.serial, self.pty, self.speed)


class Trip(msgspec.Struct, frozen=True):
    """A line and what came back."""

    line: bytes
    answers: tuple[bytes, ...]
    """One a try; empty: silence."""
    round_trip_ms: float | None
    """From the last try to its ACK."""
    ok: bool
    """Whether it was acknowledged, or asks for no answer."""


@shared(ReceiverOptions)
def receiver(  # noqa: PLR0913 - each field of an event is an option
    *,
    options: ReceiverOptions,
    code: Annotated[str, typer.Option("--code", help="SIA: two letters; Contact ID: three digits. None: heartbeats alone.")] = "",
    zone: Annotated[str, typer.Option("--zone", help="Zone, or user, of the first event; the next has the next.")] = "1",
    partition: Annotated[str, typer.Option("--partition", help="The partition or area.")] = "1",
    qualifier: Annotated[Qualifier | None, typer.Option(help="Contact ID alone, else new: an SIA code says it itself.")] = None,
    count: Annotated[int, typer.Option("--count", min=0, help="How many lines; 0: until Ctrl-C.")] = 1,
    rate: Annotated[float, typer.Option("--rate", min=0, help="Lines a second; 0: each when the last was taken.")] = 0,
    heartbeat: Annotated[float, typer.Option("--heartbeat", min=0, help="Seconds from one heartbeat to the next; 0: none.")] = 0,
    json: AsJson = False,
) -> None:
    """
    Be an alarm receiver: send events and heartbeats as its lines, wait for ACK or NAK, and repeat as receivers do.

    Exit code 1 where a line was never acknowledged.

    Example: `arcgate panel receiver --protocol surgard --to 127.0.0.1:10001 --account 1234 --code 130 --zone 5`
    """
    protocol = protocol_of(options.protocol, options.settings or [])
    if not isinstance(protocol, Prints):
        raise typer.BadParameter("choose surgard, ademco685, cp220 or bosch", param_hint="--protocol")
    way = options.way

    def line(n: int) -> bytes:
        number = f"{(int(zone) + n) % NUMBERS:0{len(zone)}}" if zone.isdecimal() else zone
        event = event_of(options.account, "sia" if code.isalpha() else "cid", code, qualifier, partition, number)
        return protocol.line_of(msgspec.structs.replace(event, receiver=options.receiver, line=options.line))

    try:
        beat = protocol.heartbeat(options.receiver, options.line)
        answered = _answered(protocol, line(0) if code else beat, options.account if code else "")
    except ValueError as error:
        raise typer.BadParameter(f"{options.protocol}: no such line: {error}", param_hint="--protocol") from error
    numbers = range(count) if count else itertools.count()
    tell = _teller(json=json, one_by_one=count <= SHOWN_MAX)
    talk = Talk(Wire(way), options, beat, tell, answered=answered)
    every_s = heartbeat or (0 if code else 30)
    begun = time.perf_counter()
    try:
        lines: Iterable[bytes] = (
            map(line, numbers) if code else itertools.repeat(beat, count) if count else itertools.repeat(beat)
        )
        asyncio.run(talk.play(lines, rate or (0 if code else 1 / every_s), every_s))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except WireError as error:
        fail(str(error), json=json)
    _sum_up(talk, count, time.perf_counter() - begun, json=json)


def _answered(protocol: Prints, line: bytes, account: str) -> bool:
    """Say whether a line asks for an answer. Raises ValueError where it is not read as it was meant."""
    link = protocol.link()
    items = link.receive(line, datetime.now(UTC)) + link.finish()
    if len(items) != 1 or isinstance(items[0], Rejected):
        raise ValueError(f"{escape(line)} cannot be read: an account has 4 to 10 signs, a line one or three")
    if isinstance(items[0], Message) and {event.account for event in items[0].events} != {account}:
        raise ValueError(f"{escape(line)} is not read as of account {account}")
    return bool(items[0].reply)


class Talk:
    """A receiver's side of it."""

    def __init__(self, wire: Wire, options: ReceiverOptions, beat: bytes, tell: Tell, *, answered: bool) -> None:
        """beat: its heartbeat. answered: whether its lines ask for an answer."""
        self.trips: list[Trip] = []
        """Of what was asked for; heartbeats beside it are only counted."""
        self.heartbeats = 0
        self._wire, self._options, self._beat, self._tell, self._answered = wire, options, beat, tell, answered
        self._spoke_at = 0.0

    async def play(self, lines: Iterable[bytes], rate: float, every_s: float) -> None:
        """Send them at the rate, and a heartbeat where nothing else was said for so long. Raises WireError."""
        await self._wire.open(self._options.patience)
        try:
            if self._wire.awaits and not await self._resume(time.monotonic() + self._options.patience):
                raise WireError(f"no heartbeat was acknowledged in {self._options.patience:g} s: does the gateway run?")
            begun = time.monotonic()
            for n, line in enumerate(lines):
                await self._idle(begun + n / rate if rate else 0, every_s)
                trip = await self._deliver(line)
                self.trips.append(trip)
                self._tell(trip)
                if not trip.ok:
                    return
        finally:
            await self._wire.close()

    async def _idle(self, until: float, every_s: float) -> None:
        """Wait; a receiver's silence is no longer than the time between its heartbeats."""
        while (wait_s := until - time.monotonic()) > 0:
            beat_s = self._spoke_at + every_s - time.monotonic() if every_s else wait_s
            await asyncio.sleep(max(0, min(wait_s, beat_s)))
            if beat_s < wait_s:
                self.heartbeats += 1
                await self._say(self._beat, 1)

    async def _deliver(self, line: bytes) -> Trip:
        """Send a line until it is taken."""
        deadline = time.monotonic() + self._options.patience
        trip = await self._say(line, self._options.tries)
        while not trip.ok and time.monotonic() < deadline and await self._resume(deadline):
            again = await self._say(line, self._options.tries)
            trip = msgspec.structs.replace(again, answers=trip.answers + again.answers)
        return trip

    async def _resume(self, deadline: float) -> bool:
        """Send heartbeats until one is acknowledged; False where none was in time."""
        while True:
            self.heartbeats += 1
            if (await self._say(self._beat, 1, min(AGAIN_S, self._options.timeout))).ok:
                return True
            if time.monotonic() >= deadline:
                return False

    async def _say(self, line: bytes, tries: int, timeout_s: float = 0) -> Trip:
        answers: list[bytes] = []
        for _ in range(tries):
            await self._connect()
            self._spoke_at = time.monotonic()
            self._wire.send(line)
            if not self._answered:
                return Trip(line, (), None, ok=True)
            answers.append(await self._wire.answer(timeout_s or self._options.timeout))
            if answers[-1] == ACK:
                return Trip(line, tuple(answers), round((time.monotonic() - self._spoke_at) * 1000, 3), ok=True)
        return Trip(line, tuple(answers), None, ok=False)

    async def _connect(self) -> None:
        """See that there is a connection. Raises WireError where there is none for too long."""
        deadline = time.monotonic() + self._options.patience
        while self._wire.broken:
            try:
                await self._wire.open(self._options.patience)
            except WireError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(AGAIN_S)


def _teller(*, json: bool, one_by_one: bool) -> Tell:
    def tell(trip: Trip) -> None:
        answers = [_WORDS[sign] for sign in trip.answers]
        if json:
            print_json({"line": escape(trip.line), "answers": answers, "ok": trip.ok, "round_trip_ms": trip.round_trip_ms})
        elif one_by_one or not trip.ok:
            after = f" after {trip.round_trip_ms} ms" if trip.round_trip_ms is not None else ""
            end = "" if trip.ok else "; never acknowledged"
            print(f"{escape(trip.line)}\n  {', '.join(answers) or 'asks for no answer'}{after}{end}", flush=True)

    return tell


def _sum_up(talk: Talk, count: int, took_s: float, *, json: bool) -> None:
    """Tell all together, and exit with 1 where a line was not acknowledged."""
    trips = talk.trips
    said = Counter(_WORDS[sign] for trip in trips for sign in trip.answers)
    told: dict[str, Any] = {
        "sent": len(trips),
        "acked": sum(trip.ok for trip in trips),
        "naks": said["NAK"],
        "silences": said["silence"],
        "heartbeats": talk.heartbeats,
        "max_ms": max((trip.round_trip_ms for trip in trips if trip.round_trip_ms), default=None),
        "lines_per_s": round(len(trips) / took_s, 1),
    }
    if json:
        print_json(told)
    elif not 0 < count <= SHOWN_MAX:
        print(
            "sent {sent}, acked {acked}, NAK {naks}, silence {silences}, {heartbeats} heartbeats; ms: max {max_ms};"
            " {lines_per_s} lines/s".format(**told)
        )
    if told["acked"] < (count or told["sent"]):
        raise typer.Exit(1)
