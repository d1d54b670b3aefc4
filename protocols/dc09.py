r"""
Link protocol: SIA DC-09, the IP event report.

    <LF> crc 0LLL "id" seq Rrcvr Lpref #acct [data] [x...] _timestamp <CR>
                  ^------------ body: what crc and length cover ------^

    bytes -> Dc09Link.receive() -> body -> Frame -> Message | LinkTest | Rejected

The checksum is CRC-16/ARC over the bytes of the body, in four hexadecimal digits; the length is 0 and three. An encrypted
body (`"*id"`) is refused for want of a key. A frame of another dialect is refused by name of what does not fit.
"""

import re
from datetime import UTC, datetime
from typing import Final

import msgspec
from fastcrc.crc16 import arc
from fastcrc.crc64 import ecma_182

from protocols import contact_id, sia
from protocols.errors import FrameError, Reason
from protocols.event import Category, Event, Format, Qualifier
from protocols.link import LinkTest, Message, Policies, Received, Rejected

FRAME_BYTES_MAX: Final = 10 + 0xFFF
"""LF, checksum, length, a body of at most 0xFFF bytes, CR."""
CLOCK_S_MIN, CLOCK_S_MAX = -40, 20
"""What a panel's clock may be off, in seconds [SIA DC-09-2013, 5.5.3.2]."""
_HEADER_BYTES: Final = 9
"""LF, checksum, length: the body begins behind them."""
_CR: Final = 0x0D
_NOISE_KEPT: Final = 256
"""So many bytes of noise are shown; the rest is counted."""

LINK_TESTS: Final = frozenset({"NULL", "XNM"})
ANSWERS: Final = frozenset({"ACK", "NAK", "DUH", "RSP"})
UNINTERPRETED: Final = frozenset(
    {"SIA-PUL", "SIA-S2K", "ACR-SF", "ADM-41E", "ADM-42E", "ADM-HS", "DSC-43", "FBI-SF", "ITI-I", "SCN-S8", "SCN-S16", "SCN-S24"}
    | {"SCT", "SES-SS", "SK-FSK1", "SK-FSK2", "VIS-BBA", "VIS-ACK"}
)
"""Tokens of the standard and of vendors whose content we keep and raise without reading it."""
REPORTS: Final = frozenset({"SIA-DCS", "ADM-CID"}) | UNINTERPRETED

_HEADER = re.compile(rb'\n([0-9A-Fa-f]{4})0([0-9A-Fa-f]{3})"')
_HEADER_BEGUN = re.compile(rb"\n(?:[0-9A-Fa-f]{0,4}|[0-9A-Fa-f]{4}0[0-9A-Fa-f]{0,3})\Z")
_BODY = re.compile(
    r"""
    "(?P<encrypted>\*?)(?P<id_token>[^"]{1,20})"
    (?P<echo>                                   # what a reply repeats byte for byte
        (?P<sequence>[0-9]{4})
        (?:R(?P<receiver>[0-9A-Fa-f]{0,16}))?
        L(?P<line>[0-9A-Fa-f]{0,16})            # some panels send L without a digit
        (?:\#(?P<account>[!-Z\\-^`-~]{0,32}))?   # any length, any sign: the whole of it, or it would be another's
    )
    (?=[\[_]|\Z)
    (?:\[(?P<data>[^\]]*)\]?
       (?P<extended>(?:\[[^\]]*\])*)
    )?
    (?:_(?P<timestamp>.*))?
    (?P<rest>.*)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_EXTENDED = re.compile(r"\[(\$?[^\]]?)([^\]]*)\]")
_TIME = re.compile(r"(\d\d):(\d\d):(\d\d),(\d\d)-(\d\d)-(\d{4})", re.ASCII)


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a frame, as text; what `build` puts on the wire."""

    id_token: str
    encrypted: bool = False
    sequence: str
    receiver: str | None = None
    """None where R was not sent; R is optional."""
    line: str = "0"
    account: str
    data: str = ""
    """What stands between the brackets, the inner account included; of an encrypted frame, its hexadecimal text."""
    extended: tuple[tuple[str, str], ...] = ()
    timestamp: datetime | None = None
    """UTC; None where it was not sent or is no time."""


class Dc09(msgspec.Struct, frozen=True, tag_field="protocol", tag="dc09", forbid_unknown_fields=True):
    """A listener's `protocol = "dc09"`."""

    def link(self, policies: Policies = lambda *_: None) -> "Dc09Link":
        """Return the receiving side of a new connection; policies: what the centre has said of its accounts."""
        return Dc09Link(policies)

    def explain(self, frame: bytes) -> Frame | None:
        """Return the fields of a raw frame, refused or not; None where the bytes are no frame of this protocol."""
        match = _HEADER.match(frame)
        body = match and _BODY.match(_text(frame[match.end() - 1 :].rstrip(b"\x00\r\n")))
        return _frame(body) if body else None


class Dc09Link:
    """One connection's side of the conversation."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self.noise_bytes = 0
        self._pending = b""
        """From the LF of a frame that is not whole yet, or that may become one."""
        self._scanned = 0
        """Up to here in `_pending` no CR ends the frame: each byte is looked at once, however it is cut."""
        self._noise = b""

    def receive(self, data: bytes, now: datetime) -> list[Received]:
        """Take what was read, and say what it completed. See `protocols.link.Link`."""
        self.noise_bytes += len(data)
        buffer, self._pending = self._pending + data if self._pending else data, b""
        scanned, self._scanned = self._scanned, 0
        received: list[Received] = []
        position = 0
        while header := _HEADER.search(buffer, position):
            start, length = header.start(), int(header[2], 16)
            if start > position:
                self._hear_noise(buffer[position:start])
            body = start + _HEADER_BYTES
            end: int | None = body + length
            if buffer.find(b"\r", body) != end or buffer.find(b"\n", body, end) >= 0:  # nearly never
                end, scanned = _find_end(buffer, header, body, scanned), 0
            if end is None and len(buffer) < start + FRAME_BYTES_MAX:
                self._pending, self._scanned = buffer[start:], len(buffer) - start
                return received
            if end is None or buffer[end] != _CR:  # a header that no frame followed, or that a new frame cut off
                position = end or start + 1
                received += self._give_up(buffer[start:position])
                continue
            position = end + 1
            if self._noise:
                received += self._tell_noise()
            received.append(self._read_frame(buffer[start:position], header, length, now))
        if position < len(buffer):
            begun = _HEADER_BEGUN.search(buffer, position)
            keep = begun.start() if begun else len(buffer)
            self._hear_noise(buffer[position:keep])
            self._pending = buffer[keep:]
        return received

    def finish(self) -> list[Received]:
        """Say what is left at the end of the connection: bytes that became no frame."""
        left, self._pending = self._pending, b""
        if _HEADER.match(left) and b"\r" not in left:
            message = "the frame ends before its CR: was the connection cut off, or the CR forgotten?"
            return [*self._tell_noise(), Rejected(left, FrameError(Reason.MALFORMED, message))]
        return self._give_up(left) + self._tell_noise()

    def _give_up(self, piece: bytes) -> list[Received]:
        """Take a piece out of which no whole frame came; where it looks like one, with its CR, say that it was damaged."""
        header, end = _HEADER.match(piece), piece.find(b"\r") + 1
        told: list[Received] = []
        if header and end:
            told = [*self._tell_noise(), _damaged(piece[:end], header)]
            piece = piece[end:]
        self._hear_noise(piece)
        return told

    def _tell_noise(self) -> list[Received]:
        """Say what bytes came that were no frame; some panels send NUL or LF after the CR, which is nothing to tell."""
        noise, self._noise = self._noise.strip(b"\x00\r\n "), b""
        message = "bytes that are no DC-09 frame: is another protocol spoken on this port, or is the line bad?"
        return [Rejected(noise, FrameError(Reason.NOISE, message))] if noise else []

    def _hear_noise(self, noise: bytes) -> None:
        self._noise += noise[: _NOISE_KEPT - len(self._noise)]

    def _read_frame(self, frame: bytes, header: re.Match[bytes], length: int, now: datetime) -> Received:
        body = frame[_HEADER_BYTES:-1]
        if arc(body) != int(header[1], 16):
            return _damaged(frame, header)
        self.noise_bytes = 0
        if length != len(body):
            message = f"the length says {length} bytes, the body has {len(body)}: the panel counts otherwise than DC-09"
            return _refuse(frame, _BODY.match(_text(body)), FrameError(Reason.LENGTH, message))
        return read_body(frame, body, now)


def _damaged(frame: bytes, header: re.Match[bytes]) -> Rejected:
    crc = arc(frame[_HEADER_BYTES:-1])
    message = f"the checksum is {header[1].decode()}, the bytes give {crc:04X}: a damaged line, or another dialect"
    return Rejected(frame, FrameError(Reason.CRC, message))


def _find_end(buffer: bytes, header: re.Match[bytes], body: int, scanned: int) -> int | None:
    """
    Find where the frame of `header` ends.

    body: where its body begins. scanned: before this, no CR ends it. Returns the index of its CR; or, where a new header
    stands before any end, the index of that header: the frame was cut off; or None: not there yet. The length says where the
    CR should be; where it lies, the first CR whose checksum fits decides, else the first one after that place. So the result
    is the same however the bytes were cut.
    """
    by_length, wanted = body + int(header[2], 16), int(header[1], 16)
    limit = header.start() + FRAME_BYTES_MAX
    cut_off = _HEADER.search(buffer, body, limit)
    until = cut_off.end() if cut_off else limit
    crc, at = 0, body
    end = buffer.find(b"\r", max(body, scanned), until)
    while 0 <= end < by_length:
        crc, at = arc(buffer[at:end], crc), end
        if crc == wanted:
            break
        end = buffer.find(b"\r", end + 1, until)
    if end >= 0:
        return end
    return cut_off.start() if cut_off else None


def read_body(frame: bytes, body: bytes, now: datetime) -> Received:
    """
    Read a body whose checksum and length are right.

    frame: the raw bytes, for the journal. now: the time of receipt, UTC.
    """
    match = _BODY.match(_text(body))
    if match is None:
        message = f'the header cannot be read: {_text(body[:40])!r}; it should be "id" seq Rrcvr Lpref #acct [data]'
        return _refuse(frame, None, FrameError(Reason.MALFORMED, message))
    encrypted, token, echo, _, receiver, line, account, data, extended, timestamp, rest = match.groups()
    if token in ANSWERS:
        return Rejected(frame, FrameError(Reason.ANSWER, f"{token} is a receiver's answer; an answer to it would make a loop"))
    if encrypted:
        message = f"the frame is encrypted, and account {account} has no key here"
        return _refuse(frame, match, FrameError(Reason.NO_KEY, message))
    if token in LINK_TESTS:
        return LinkTest(frame, account or "", build_reply(b"ACK", echo))
    if token not in REPORTS:
        message = f"the token {token!r} is in no list of DC-09: the panel is answered DUH, which means not understood"
        return _refuse(frame, match, FrameError(Reason.UNKNOWN_TOKEN, message), build_reply(b"DUH", echo))
    events = _read_events(token, receiver, line, account or "", data or "", extended, rest, now)
    mark = "" if timestamp is None else _mark(timestamp, now)
    return Message(frame, events, build_reply(b"ACK", echo), _identity(match), mark)


def _read_events(  # noqa: PLR0913, PLR0917 - the fields of a frame
    token: str, receiver: str | None, line: str, account: str, data: str, extended: str, rest: str, now: datetime
) -> tuple[Event, ...]:
    """Read the content by its token; what cannot be read is one unknown event, so that it is raised and not lost."""
    inner, bar, content = data.partition("|")
    if not bar or (inner and inner[0] != "#"):  # no inner account: a bar is part of the content
        inner, content = "", data
    pairs: tuple[tuple[str, str], ...] = tuple(_EXTENDED.findall(extended)) if extended else ()
    at = _occurred_at(pairs) if pairs else None
    account = account or inner[1:]
    events: tuple[Event, ...] = ()
    if token == "SIA-DCS":
        events = sia.parse(content, now, account, receiver, line, at, pairs)
    elif token == "ADM-CID":
        events = contact_id.parse(content, account, receiver, line, at, pairs)
    if events:
        return events
    text = f"{token} {data}{rest}".rstrip()
    return (Event(account, Format.RAW, "", Qualifier.NEW, Category.UNKNOWN, receiver, line, None, None, None, at, text, pairs),)


def _refuse(frame: bytes, match: re.Match[str] | None, error: FrameError, reply: bytes = b"") -> Rejected:
    """Refuse a frame whose checksum fits: it may be a hold-up, so it is told to whoever watches the account."""
    account: str = (match["account"] or "") if match else ""
    if match is None or not account or match["id_token"] in ANSWERS:
        return Rejected(frame, error, reply)
    event = Event(
        account,
        Format.ARCGATE,
        f"refused_{error.reason}",
        Qualifier.NEW,
        Category.GENERATED,
        match["receiver"],
        match["line"],
        text=f"Reports are being refused: {error.message}",
    )
    return Rejected(frame, error, reply, (event,), _identity(match))


def _identity(match: re.Match[str]) -> str:
    """
    Return what a retransmission has in common with the first sending: all but the checksum and the timestamp.

    Panels repeat a frame with the same sequence number and a new time (seen with Ajax). A 64-bit checksum tells an account's
    last few frames apart; who could forge one could as well repeat the frame.
    """
    end = match.start("timestamp")
    return ecma_182((match.string if end < 0 else match.string[: end - 1]).encode()).to_bytes(8).hex()


def _mark(timestamp: str, now: datetime) -> str:
    """Say what is wrong with a plain frame's time. It is acknowledged all the same: a NAK makes some panels loop for ever."""
    sent = _time(timestamp)
    if sent is None:
        return f"its time cannot be read: {timestamp[:40]!r}"
    ahead_s = (sent - now).total_seconds()
    return (
        ""
        if CLOCK_S_MIN <= ahead_s <= CLOCK_S_MAX
        else f"the panel's clock is {abs(ahead_s):.0f} s {'ahead' if ahead_s > 0 else 'behind'}"
    )


def _occurred_at(extended: tuple[tuple[str, str], ...]) -> datetime | None:
    return next((_time(value) for key, value in extended if key == "H"), None)


def _time(text: str | None) -> datetime | None:
    """Read HH:MM:SS,MM-DD-YYYY as UTC; None where it is no time."""
    match = _TIME.fullmatch(text or "")
    if match is None:
        return None
    hour, minute, second, month, day, year = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def _text(body: bytes) -> str:
    """Decode as UTF-8, else as CP1252, which older panels send; the checksum was taken over the bytes."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode("cp1252", "replace")


def _frame(match: re.Match[str]) -> Frame:
    return Frame(
        id_token=match["id_token"],
        encrypted=bool(match["encrypted"]),
        sequence=match["sequence"],
        receiver=match["receiver"],
        line=match["line"],
        account=match["account"] or "",
        data=match["data"] or "",
        extended=tuple(_EXTENDED.findall(match["extended"] or "")),
        timestamp=_time(match["timestamp"]),
    )


def build(frame: Frame) -> bytes:
    """Return the bytes of a plain frame, checksum and length included: the inverse of reading it."""
    receiver = "" if frame.receiver is None else f"R{frame.receiver}"
    extended = "".join(f"[{key}{value}]" for key, value in frame.extended)
    time = frame.timestamp.astimezone(UTC).strftime("_%H:%M:%S,%m-%d-%Y") if frame.timestamp else ""
    return _wrap(
        f'"{frame.id_token}"{frame.sequence}{receiver}L{frame.line}#{frame.account}[{frame.data}]{extended}{time}'.encode()
    )


def build_reply(id_token: bytes, echo: str) -> bytes:
    """Return a plain answer: it repeats sequence, R, L and account byte for byte [SIA DC-09-2013, 5.5.3.1]."""
    return _wrap(b'"%b"%b[]' % (id_token, echo.encode()))


def _wrap(body: bytes) -> bytes:
    return b"\n%04X%04X%b\r" % (arc(body), len(body), body)
