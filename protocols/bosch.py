r"""
Link protocol: the automation output of the Radionics D6500, the Bosch D6600 and the Conettix D6100.

    RR receiver, L line, A account; a blank may stand before a line, DC4 ends it

    aRRL AAAA18QXYZGGCCC        Contact ID: the account stands before the 18, or 58 for one of ten digits; Q is 1, 3, 6 or E, R, P
    1RRL      AAAA XGYYY        pulse: event, group, zone or user
    1RRL           @            heartbeat

Answers are ACK (06) and NAK (15). With `experimental = true` lines of the SIA mode are taken too, kept as they come, of their
account, raised as unknown and answered in kind:

    LF crc type seq4 RR LL [#AAAA|...] CR        answer: LF crc TAB seq4 RR LL [] CR

What covers the checksum there, and by which polynomial, no public text says: it is not checked, and ours is CRC-16/ARC over what
stands behind it. What identifies a retransmission is in `protocols.lines`. Source: the makers' public manual 4998122703.
"""

import re
from datetime import datetime
from functools import cache, lru_cache
from typing import Final

import msgspec
from construct import Const
from fastcrc.crc16 import arc

from protocols import contact_id, surgard
from protocols.columns import ALPHANUMERIC, PRINTABLE, Frame, Layout, column, digits, first, hexa, layout, parts
from protocols.event import Event
from protocols.lines import ACK, MESSAGE_TYPE, LineLink, bare, contact_id_content, contact_id_frame, raw
from protocols.link import Part, Policies

_START = rb"(?:a[0-9A-Z]{3} [0-9A-F]{4}|1[0-9A-Z]{3} {3})"
_SIA_MODE_START = rb"(?:\A|\n)[0-9A-F]{4}[ -~\t][0-9]{4}[0-9A-Z]{2}[0-9A-Z ]{0,2}\["
_SIA_MODE: Final = re.compile(_SIA_MODE_START)
_ACCOUNT: Final = re.compile(r"#([0-9A-Za-z]{1,16})\|")


@cache
def _contact_id(account: int) -> Layout:
    place = ("receiver" / column(2, ALPHANUMERIC), "line" / column(1, ALPHANUMERIC), Const(b" "))
    who = ("account" / column(account, ALPHANUMERIC), "message_type" / MESSAGE_TYPE)
    report = ("qualifier" / column(1, "ERP136"), "code" / hexa(3), "partition" / hexa(2), "address" / hexa(3))
    return layout("contact_id", Const(b"a"), *place, *who, *report)


@lru_cache(256)
def _sia_mode(line: int, content: int) -> Layout:
    head = ("checksum" / hexa(4), "message_type" / column(1, PRINTABLE + "\t"), "sequence" / digits(4))
    place = ("receiver" / column(2, ALPHANUMERIC), "line" / column(line, ALPHANUMERIC + " "))
    return layout("sia_mode", *head, *place, Const(b"["), "content" / column(content), Const(b"]"))


def read(line: bytes) -> Frame | None:
    """Return the columns of a line of the D6500 mode, without what ends it; None where they do not fit."""
    line = line.removeprefix(b" ")
    return first(layouts(line), line)


def layouts(line: bytes) -> list[Layout]:
    """Return what a line of the D6500 mode may be."""
    if line[:1] == b"a" and len(line) - 16 in surgard.ACCOUNT_DIGITS:
        return [_contact_id(len(line) - 16)]
    return surgard.layouts(line) if line[:1] == b"1" else []


def read_sia_mode(line: bytes) -> Frame | None:
    """Return the columns of a line of the SIA mode, without LF and CR; None where they do not fit."""
    return first(_sia_mode_layouts(line), line)


def _sia_mode_layouts(line: bytes) -> list[Layout]:
    bracket = line.find(b"[")
    if not 11 <= bracket <= 13:  # noqa: PLR2004 - checksum, type, sequence, receiver, and a line of none to two signs
        return []
    return [_sia_mode(bracket - 11, len(line) - bracket - 2)]


def keep(line: bytes) -> Frame | None:
    """Return a frame for an undamaged line of a kind that is not read: a Contact ID but for its first sign is damaged."""
    looks_right = re.fullmatch(rb"[0-9A-Za-z][0-9A-Z]{3} [ -~]+", line)
    if looks_right is None or line[:1] in {b"a", b"1"} or read(b"a" + line[1:]):
        return None
    return Frame(kind="raw", content=line.decode("ascii"))


def build(frame: Frame, end: bytes = b"\x14") -> bytes:
    """Return the line of a frame, what ends it included: the inverse of reading. Raises ValueError where a value does not fit."""
    match frame.kind:
        case "contact_id":
            return _contact_id(len(frame.account)).build(frame) + end
        case "sia_mode":
            return b"\n" + _sia_mode(len(frame.line), len(frame.content)).build(frame) + b"\r"
        case _:
            return surgard.build(frame, end)


class Bosch(msgspec.Struct, frozen=True, tag_field="protocol", tag="bosch", forbid_unknown_fields=True):
    """A listener's `protocol = "bosch"`."""

    experimental: bool = False
    """Whether lines of the SIA mode are taken, kept and raised as unknown."""

    def link(self, policies: Policies = lambda *_: None) -> "BoschLink":
        """Return the receiving side of a new connection."""
        return BoschLink(policies, experimental=self.experimental)

    def explain(self, frame: bytes, *_: object) -> Frame | None:
        """Return the columns of a line; None where it is none of these receivers."""
        line = bare(frame)
        return read(line) or read_sia_mode(line) or keep(line)

    def layout(self, frame: bytes, *_: object) -> tuple[Part, ...]:
        """Return what each byte of a line is; none where it is not read."""
        line = bare(frame).removeprefix(b" ")
        return parts([*layouts(line), *_sia_mode_layouts(line)], line)

    def line_of(self, event: Event) -> bytes:
        """Return the line of a Contact ID event. Raises ValueError."""
        return build(contact_id_frame(event, 2))

    def heartbeat(self, receiver: str, line: str) -> bytes:
        """Return a heartbeat. Raises ValueError."""
        return build(Frame(kind="heartbeat", receiver=f"{receiver:0>2}", line=line))


class BoschLink(LineLink):
    """One connection of a D6500 or its successors."""

    def __init__(self, policies: Policies, *, experimental: bool) -> None:
        start = rb"(?:%b|%b)" % (_START, _SIA_MODE_START) if experimental else _START
        super().__init__(policies, re.compile(start), b"\x14\r", b" ")
        self._experimental = experimental

    def parse(self, line: bytes) -> Frame | None:
        """See `read` and `read_sia_mode`."""
        return read(line) or (read_sia_mode(line) if self._experimental else None)

    def keep(self, line: bytes) -> Frame | None:
        """See `keep` of the module."""
        return keep(line)

    def hint(self, noise: bytes) -> str:
        """Say that the SIA mode is spoken, where it is."""
        if _SIA_MODE.match(noise):
            return "a line of the SIA mode: set the receiver to D6500 mode, or `experimental = true` here: then it is kept unread"
        return super().hint(noise)

    def reply(self, answer: bytes, line: bytes) -> bytes:
        """Return an ACK or NAK, in the SIA mode where the line is of it."""
        frame = read_sia_mode(line)
        if frame is None:
            return answer
        echo = f"{frame.sequence}{frame.receiver}{frame.line}" if answer == ACK else "000000"
        body = f"\t{echo}[]".encode()
        return b"\n%04X%b\r" % (arc(body), body)

    def report(self, frame: Frame, now: datetime) -> tuple[Event, ...]:  # noqa: ARG002 - a D6500 tells no time
        """Say what a line reports."""
        match frame.kind:
            case "heartbeat":
                return ()
            case "contact_id":
                content = contact_id_content(frame)
                return contact_id.parse(content, frame.account, frame.receiver, frame.line) or (raw(frame, content),)
            case "basic":
                return (surgard.report_basic(frame),)
            case "sia_mode":
                named = _ACCOUNT.match(frame.content)
                if not frame.content:
                    return ()
                return (raw(msgspec.structs.replace(frame, account=named[1] if named else ""), frame.content),)
            case _:
                return (raw(frame, frame.content or frame.kind),)
