"""
What the lines of all alarm receivers have in common: where they end, what is acknowledged, what is asked for again.

    data -> pieces, each up to a sign that ends a line -> lines -> Message | LinkTest | Rejected

A receiver sends a line, waits some seconds for ACK (06) or NAK (15), and sends it again without; behind it all others wait. So:
a line that was read or kept is acknowledged; one that was visibly damaged on its way is asked for again, at most three times for
the same bytes, then kept as it is and acknowledged, so that what stands behind it can pass. On a listener that anyone may dial,
what looks like no line is noise until one has come; but a printable one that ends with DC4 is a receiver's: nothing else does.

Where a sign that ends a line was lost, the line waits: the receiver gets no answer and sends it again, and the begin of the next
line ends it. Where no sign ends lines, half a second of silence does (`settle`). Each line is the shortest that can be read up to
where another begins, so that none takes in what is glued behind it.

A retransmission is a line with the same bytes as the report before it on the same connection, within `REPEAT_S`; or, on a new
connection, the first of these bytes, where its account has sent nothing else since (`dispatch.state`). The same bytes later, or
after another report, are a new event: a receiver sends nothing new before it has its ACK.
"""

import re
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from itertools import zip_longest
from typing import Any, Final

from fastcrc.crc64 import ecma_182

from protocols import contact_id
from protocols.columns import Frame, word
from protocols.errors import FrameError, Reason
from protocols.event import CENTRE, Category, Event, Format, Qualifier
from protocols.link import LINE, LinkTest, Message, Policies, Received, Rejected

ACK: Final = b"\x06"
NAK: Final = b"\x15"
LINE_BYTES_MAX: Final = 1024
"""Longer than any line of any receiver."""
NAKS_MAX: Final = 3
QUIET_S: Final = 0.5
"""After so long a silence a whole line that no sign ends counts as ended: receivers wait 4 s for their answer."""
REPEAT_S: Final = 60.0
"""Four tries, each at most ten seconds, and a heartbeat before the last."""
_REMEMBERED: Final = 1024
"""So many lines of a connection are remembered, to tell a new event from a retransmission."""
_DAMAGED_REMEMBERED: Final = 8
_STARTS_TRIED: Final = 8
"""A line holds at most so many signs that look like the start of another."""
_TRIES_MAX: Final = 256
"""In one piece; it has room for some sixty lines. So what is made to be slow is not."""
_BLANK: Final = b"\x00\r\n\x14"
"""What stands between lines, however they end."""
_BARE: Final = b"\r\n\x14"
"""What may stand between a line and the sign that ends it. A NUL there is a sign of the line that came with a wrong parity."""


class _End(Enum):
    """What stands behind a piece of what came."""

    SIGN = auto()
    """A sign that ends a line."""
    SILENCE = auto()
    OPEN = auto()
    """Nothing yet: the line that it ends in may go on."""


class LineLink(ABC):
    """One connection of a receiver. A protocol says what its lines look like."""

    def __init__(
        self, policies: Policies, start: re.Pattern[bytes], ends: bytes, header: bytes = b"", *, acknowledge: bool = True
    ) -> None:
        """
        Begin.

        start: how a line begins: where one stands inside a piece, the piece is two lines. ends: the signs that end a line; none:
        silence ends it, and the next line's begin. header: signs that may stand before it.
        """
        self.noise_bytes = 0
        self.proven = False
        """Whether one whole line has come, or nobody but a receiver can speak there: a port, or one that we dialled."""
        self._policies, self._start, self._acknowledge = policies, start, acknowledge
        self._starts = re.compile(b"(?=%b)" % start.pattern)
        """The same, where one may begin inside another."""
        self.ends = ends
        """Any of these signs ends a line; empty: silence does."""
        self._ends = re.compile(b"([%b])" % re.escape(ends)) if ends else None
        self._blank, self._bare = _BLANK + ends + header, _BARE + ends
        self._pending = b""
        self._now = self._last_at = datetime.min.replace(tzinfo=UTC)
        self._last = b""
        """The last report; `_last_at` is when it came."""
        self._last_identity = ""
        self._seen: dict[str, None] = {}
        self._naks: dict[bytes, int] = {}

    @abstractmethod
    def parse(self, line: bytes) -> Frame | None:
        """Return the columns of a whole line; None where it is none. Says the same of the same bytes."""

    @abstractmethod
    def keep(self, line: bytes) -> Frame | None:
        """Return a frame of kind "raw" for a line that is undamaged, but of a kind that is not read; None: it is damaged."""

    @abstractmethod
    def report(self, frame: Frame, now: datetime) -> tuple[Event, ...]:
        """Say what a frame reports; empty: it is a link test."""

    def hint(self, noise: bytes) -> str:  # noqa: ARG002 - for a protocol that knows what else is spoken on such ports
        """Say what bytes may be that are no line."""
        return "bytes that are no line of this protocol: is another one spoken on this port, or is the line's speed wrong?"

    def reply(self, answer: bytes, line: bytes) -> bytes:  # noqa: ARG002 - for a protocol whose answers repeat something
        """Return the bytes of an ACK or NAK."""
        return answer if self._acknowledge else b""

    def receive(self, data: bytes, now: datetime) -> list[Received]:
        """Take what was read, and say what it completed. See `protocols.link.Link`."""
        self.noise_bytes += len(data)
        self._now = now
        parted = self._ends.split(self._pending + data) if self._ends else [self._pending + data]
        received: list[Received] = []
        for piece, sign in zip_longest(parted[::2], parted[1::2], fillvalue=b""):
            rest = piece
            while len(rest) > LINE_BYTES_MAX:
                head, rest = rest[:LINE_BYTES_MAX], rest[LINE_BYTES_MAX:]
                left = self._read(head, now, received, _End.OPEN)
                if len(left) == len(head):
                    received.append(self._noise(left))
                else:
                    rest = left + rest
            if sign and (left := self._read(rest, now, received, _End.SIGN)):
                received.append(self._give_up(left, sign, now))
        self._pending = rest
        return received

    def settle(self, now: datetime) -> list[Received]:
        """Take the silence of `QUIET_S`, which ends a line where no sign does."""
        received: list[Received] = []
        if self.unsettled:
            self._pending = self._read(self._pending, now, received, _End.SILENCE)
        return received

    @property
    def unsettled(self) -> bool:
        """Whether something waits for silence to end it, so that `settle` may be called for."""
        return bool(self._pending) and self._ends is None

    def finish(self) -> list[Received]:
        """Say what is left at the end of the connection: a line without its end, or bytes that became none."""
        received: list[Received] = []
        left = self._read(self._pending, self._now, received, _End.SILENCE).strip(self._blank + b" ")
        self._pending = b""
        return [*received, self._noise(left)] if left else received

    def _read(self, piece: bytes, now: datetime, received: list[Received], end: _End) -> bytes:
        """Add the lines of a piece to `received`; return what stands behind the last one."""
        if not piece.strip(self._blank):
            return b""
        cuts = sorted({0, *(match.start() for match in self._starts.finditer(piece)), len(piece)})
        ends = len(cuts) - (1 if end is _End.OPEN else 0)
        unread, n, tried = 0, 0, 0
        while n < len(cuts) - 1 and tried < _TRIES_MAX:
            begin = cuts[n]
            for last in dict.fromkeys((*range(n + 1, min(n + 1 + _STARTS_TRIED, ends)), ends - 1)):
                tried += 1
                signed = end is _End.SIGN and last == len(cuts) - 1
                line = bare(piece[begin : cuts[last]], self._blank, self._bare if signed else self._blank)
                frame = self.parse(line) if line and len(line) <= LINE_BYTES_MAX else None
                if frame is not None:
                    if lost := piece[unread:begin].strip(self._blank + b" "):
                        received.append(self._cut_off(lost))
                    received.append(self._take(line, frame, now))
                    unread, n = cuts[last], last
                    break
            else:
                n += 1
        left = piece[unread:]
        return left if left.strip(self._blank + b" ") else b""

    def _take(self, line: bytes, frame: Frame, now: datetime) -> Received:
        self.noise_bytes, self.proven = 0, True
        events = self.report(frame, now)
        receiver, line_name = frame.receiver or None, frame.line or None
        policy = self._policies(receiver, line_name, events[0].account) if events else None
        if not events or (policy and all(event.code in policy.heartbeat for event in events)):
            return LinkTest(line, frame.account, self.reply(ACK, line), receiver, line_name)
        return Message(line, events, self.reply(ACK, line), self._identity(line, now))

    def _identity(self, line: bytes, now: datetime) -> str:
        """Return what a retransmission shares with the first sending; the module's docstring has the rule."""
        at, self._last_at = self._last_at, now
        if line == self._last and abs(now - at) <= timedelta(seconds=REPEAT_S):
            return self._last_identity
        identity = f"{LINE}{ecma_182(line):016x}"
        again = identity in self._seen
        self._seen[identity] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._last, self._last_identity = line, f"{identity}@{now.timestamp():.3f}" if again else identity
        return self._last_identity

    def _give_up(self, piece: bytes, sign: bytes, now: datetime) -> Received:
        """Say of a piece that is no line, and was ended by `sign`, what becomes of it: a stranger's is noise."""
        line = bare(piece, self._blank, self._bare)
        if not (self.proven or self._start.match(line) or (sign == b"\x14" and re.fullmatch(rb"[ -~]+", line))):
            return self._noise(line)
        kept = self.keep(line)
        if kept is not None:
            return self._take(line, kept, now)
        naks = self._naks.get(line, 0)
        if naks == NAKS_MAX:
            text = f"A receiver's line that cannot be read, kept as it came: {_text(line)}"
            event = Event(CENTRE, Format.RAW, "", Qualifier.NEW, Category.UNKNOWN, text=text)
            self.noise_bytes = 0
            return Message(line, (event,), self.reply(ACK, line), self._identity(line, now))
        self._naks[line] = naks + 1
        if len(self._naks) > _DAMAGED_REMEMBERED:
            del self._naks[next(iter(self._naks))]
        return self._refuse(line, self.reply(NAK, line), "the receiver is asked to send it again")

    def _cut_off(self, piece: bytes) -> Rejected:
        """Say what stood before the begin of a line. It gets no answer: the line's own would be taken for that of another."""
        return self._refuse(piece, b"", "the next line cut it off") if self._start.match(piece) else self._noise(piece)

    def _refuse(self, line: bytes, reply: bytes, then: str) -> Rejected:
        message = f"the columns or characters are wrong: {_text(line)!r}; {then}. Look at the cable, its speed and parity"
        error = FrameError(Reason.DAMAGED, message)
        text = f"A receiver's line came damaged: {_text(line)}"
        event = Event(CENTRE, Format.ARCGATE, "refused_damaged", Qualifier.NEW, Category.GENERATED, text=text)
        return Rejected(line, error, reply, (event,), f"damaged-{ecma_182(line):016x}")

    def _noise(self, piece: bytes) -> Rejected:
        return Rejected(piece[:256], FrameError(Reason.NOISE, self.hint(piece)))


def bare(frame: bytes, before: bytes = _BLANK, behind: bytes = _BARE) -> bytes:
    """Return a line without what stands before it, and what ends it."""
    return frame.lstrip(before).rstrip(behind)


MESSAGE_TYPE: Final = word("18", "98", "58")
"""The column of Contact ID's message type."""


def contact_id_content(frame: Frame) -> str:
    """Return the report of a frame's columns as `contact_id.parse` reads it."""
    return f"{frame.qualifier}{frame.code} {frame.partition} {frame.address}"


def contact_id_frame(event: Event, receiver_width: int) -> Frame:
    """
    Return the columns of a Contact ID event as receivers print it: the inverse of `contact_id_content`.

    A receiver or line that the event does not name is 1. Raises ValueError for another format.
    """
    if event.format != Format.CONTACT_ID:
        raise ValueError(f"it prints Contact ID alone, and no {event.format}")
    return Frame(
        kind="contact_id",
        receiver=f"{event.receiver or '1':0>{receiver_width}}",
        line=event.line or "1",
        account=event.account,
        message_type="58" if len(event.account) == contact_id.ACCOUNT_DIGITS_MAX else "18",
        qualifier={Qualifier.NEW: "E", Qualifier.RESTORE: "R", Qualifier.STATUS: "P"}[event.qualifier],
        code=event.code,
        partition=f"{event.partition or '':0>2}",
        address=f"{event.user or event.zone or '':0>3}",
    )


def raw(frame: Frame, text: str, code: str = "", **fields: Any) -> Event:  # noqa: ANN401 - the fields of an event
    """
    Return the event of a frame whose meaning is unknown, or the account's own: kept, raised, of category unknown.

    It is the centre's where the frame names no account. fields: what is known of it all the same.
    """
    known: dict[str, Any] = {
        "qualifier": Qualifier.NEW,
        "category": Category.UNKNOWN,
        "account": frame.account or CENTRE,
    } | fields
    return Event(format=Format.RAW, code=code, receiver=frame.receiver or None, line=frame.line or None, text=text, **known)


def internal(frame: Frame, code: str, text: str, **fields: Any) -> Event:  # noqa: ANN401 - the fields of an event
    """Return the event of what a receiver says of itself: it is the centre's."""
    known: dict[str, Any] = {"qualifier": Qualifier.NEW, "receiver": frame.receiver or None, "line": frame.line or None} | fields
    return Event(account=CENTRE, format=Format.ARCGATE, category=Category.GENERATED, code=code, text=text, **known)


def positions(content: str) -> list[tuple[str, Qualifier]]:
    """
    Read Ademco high speed digits: the channel, counted from 1, and what became of it.

    1 new, 3 restore, 6 reported before and still present; 5, and whatever else a panel prints, is normal.
    """
    meaning = {"1": Qualifier.NEW, "3": Qualifier.RESTORE, "6": Qualifier.STATUS}
    return [(str(n), meaning[digit]) for n, digit in enumerate(content.replace(" ", ""), 1) if digit in meaning]


def _text(line: bytes) -> str:
    return line[:200].decode("ascii", "backslashreplace")
