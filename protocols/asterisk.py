r"""
Link protocol: the files that Asterisk's AlarmReceiver application writes for each call, or for each event.

    [metadata]                          event files of a version or setting without groups:
    PROTOCOL=ADEMCO_CONTACT_ID              PROTOCOL=..., CALLINGFROM=..., TIMESTAMP=...
    CALLINGFROM=33123456789                 event=123418113001004F
    TIMESTAMP=Sat Nov 22, 2026 @ ...
    [events]
    123418113001004F

    ACCT MT Q XYZ GG CCC S      Contact ID: 16 digits as the telephone has them; * # A B C stand for B C D E F

A file waits for no answer: replies are empty. 17, 27, 55 and 56 in place of MT (18, 98) are other formats: kept, of the account,
raised as unknown; so is every line that cannot be read. Asterisk itself has checked S where it says CHECKSUM=yes; a sum that does
not fit is told in the mark; `_` is one that was left out. A retransmission is a line with the same digits and the same metadata,
the time of the call in it: a file that is read a second time.
Source: Asterisk's apps/app_alarmreceiver.c, and the parser kk7ds/asterisk_contactid.
"""

import re
from datetime import UTC, datetime
from typing import Final

import msgspec
from fastcrc.crc64 import ecma_182

from protocols import contact_id
from protocols.columns import PRINTABLE, Frame, column, layout
from protocols.errors import FrameError, Reason
from protocols.event import Event
from protocols.lines import contact_id_content, raw
from protocols.link import LinkTest, Message, Part, Policies, Received, Rejected

LINE_BYTES_MAX: Final = 256
METADATA_MAX: Final = 32
"""So many lines of metadata are remembered; Asterisk writes five."""
_TONES: Final = bytes.maketrans(b"BCDEF", b"*#ABC")
_DIGIT: Final = "0123456789BCDEF"
_OTHER_FORMATS: Final = {
    "17": "Ademco Express 4+1",
    "27": "Ademco Express 4+2",
    "55": "Ademco High Speed",
    "56": "Ademco Super Fast",
}
_METADATA: Final = re.compile(rb"([A-Z]{2,32})=(.*)", re.DOTALL)
_TIME: Final = re.compile(r"\w{3} (\w{3} \d{2}, \d{4} @ \d{2}:\d{2}:\d{2}) (?:UTC|GMT)")

_CONTACT_ID: Final = layout(
    "contact_id",
    "account" / column(4, _DIGIT),
    "message_type" / column(2, "189"),
    "qualifier" / column(1, "136"),
    "code" / column(3, _DIGIT),
    "partition" / column(2, _DIGIT),
    "address" / column(3, _DIGIT),
    "checksum" / column(1, PRINTABLE),
)
_OTHER: Final = layout("raw", "account" / column(4, _DIGIT), "message_type" / column(2, _DIGIT))


def read(line: bytes) -> Frame | None:
    """Return the columns of an event's line, as the telephone has its digits; None where it is none."""
    digits = contact_id.from_tones(line.removeprefix(b"event=").decode("latin-1")).encode("latin-1")
    frame = _CONTACT_ID.read(digits)
    if frame is not None and frame.message_type in {"18", "98"}:
        return frame
    other = _OTHER.read(digits[:6])
    if other is not None and other.message_type in _OTHER_FORMATS:
        return msgspec.structs.replace(other, content=digits.decode("latin-1"))
    return None


def build(frame: Frame) -> bytes:
    """Return the line of a frame as Asterisk writes it, its checksum made; the inverse of `read`."""
    digits = _CONTACT_ID.build(msgspec.structs.replace(frame, checksum="0"))[:-1]
    return (digits + contact_id.checksum(digits.decode()).encode()).translate(_TONES) + b"\n"


class Asterisk(msgspec.Struct, frozen=True, tag_field="protocol", tag="asterisk", forbid_unknown_fields=True):
    """A listener's `protocol = "asterisk"`."""

    def link(self, policies: Policies = lambda *_: None) -> "AsteriskLink":
        """Return the reader of a new file."""
        return AsteriskLink(policies)

    def explain(self, frame: bytes, *_: object) -> Frame | None:
        """Return the columns of an event's line; None where it is none."""
        return read(frame.strip())

    def layout(self, frame: bytes, *_: object) -> tuple[Part, ...]:
        """Return what each byte of an event's line is; none where it is not read."""
        line = frame.strip()
        digits = line.removeprefix(b"event=")
        found = read(line)
        return _CONTACT_ID.parts(digits, len(line) - len(digits)) if found and found.kind == "contact_id" else ()


class AsteriskLink:
    """One file, read as it comes."""

    def __init__(self, policies: Policies) -> None:
        self.noise_bytes = 0
        self._policies = policies
        self._pending = b""
        self._metadata: dict[str, str] = {}
        self._now = datetime.min.replace(tzinfo=UTC)

    def receive(self, data: bytes, now: datetime) -> list[Received]:
        """Take what was read, and say what it completed. See `protocols.link.Link`."""
        self.noise_bytes += len(data)
        self._now = now
        *lines, rest = (self._pending + data).split(b"\n")
        received = [item for line in lines for item in self._read(line)]
        while len(rest) > LINE_BYTES_MAX:
            received += self._read(rest[:LINE_BYTES_MAX])
            rest = rest[LINE_BYTES_MAX:]
        self._pending = rest
        return received

    def finish(self) -> list[Received]:
        """Say what is left at the end of the file: its last line may have no end."""
        rest, self._pending = self._pending, b""
        return self._read(rest)

    def _read(self, line: bytes) -> list[Received]:
        if len(line) > LINE_BYTES_MAX:
            return [item for at in range(0, len(line), LINE_BYTES_MAX) for item in self._read(line[at : at + LINE_BYTES_MAX])]
        line = line.strip()
        if not line or re.fullmatch(rb"\[[a-z]+\]", line):
            return []
        if pair := _METADATA.fullmatch(line):
            if len(self._metadata) < METADATA_MAX:
                self._metadata[pair[1].decode()] = pair[2].decode(errors="replace")
            return []
        return [self._report(line)]

    def _report(self, line: bytes) -> Received:
        frame = read(line)
        if frame is None and re.fullmatch(rb"(event=)?[0-9*#A-D_]{4,32}", line) is None:
            message = "a line that is neither metadata nor an event: was this file written by Asterisk's AlarmReceiver?"
            return Rejected(line, FrameError(Reason.NOISE, message))
        self.noise_bytes = 0
        frame = frame or Frame(kind="raw", content=line.decode("latin-1"))
        extended = tuple(self._metadata.items())
        at, mark = _moment(self._metadata.get("TIMESTAMP", "")), ""
        events: tuple[Event, ...] = ()
        if frame.kind == "contact_id":
            events = contact_id.parse(contact_id_content(frame), frame.account, None, None, at, extended)
            wanted = contact_id.checksum(_CONTACT_ID.build(frame)[:-1].decode())
            if frame.checksum not in {wanted, "_"}:
                mark = f"its checksum is {frame.checksum}, its digits give {wanted}"
        if not events:
            name = _OTHER_FORMATS.get(frame.message_type, "line of Asterisk's AlarmReceiver")
            events = (raw(frame, f"{name}: {line.decode('latin-1')}", occurred_at=at, extended=extended),)
        policy = self._policies(None, None, events[0].account)
        if policy and all(event.code in policy.heartbeat for event in events):
            return LinkTest(line, frame.account, b"")
        stamp = "\n".join([line.decode("latin-1"), *(f"{key}={value}" for key, value in extended)])
        return Message(line, events, b"", ecma_182(stamp.encode()).to_bytes(8).hex(), mark)


def _moment(text: str) -> datetime | None:
    """Read Asterisk's own TIMESTAMP where it is in UTC; another zone's name does not say which it is."""
    found = _TIME.fullmatch(text)
    try:
        return datetime.strptime(found[1], "%b %d, %Y @ %H:%M:%S").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None
