"""
Link protocol: the automation output of the Ademco 685, and of what imitates it (MX8000, 7810iR, many emulators).

    LF ... CR; R receiver, G line, then columns parted by a blank

    RG AAAA 18 QXYZ GG FCCC     Contact ID; F is C for a zone, U for a user: the receiver's own word, before the table's
    RG AAAA E                   pulse 3x1, 4x1
    RG AAAA E Z                 pulse 4x2
    RG AAAA NNNN NNNN N         high speed: a digit a channel, then the status
    RG LINE NNNN NNNN N         what the receiver says of itself: a digit a line; RCVB: a digit a receiver board
    RG OKAY @                   heartbeat

Answers are ACK (06) and NAK (15); the older 685 waits for none: `acknowledge = false`. Other lines are kept and raised as
unknown. What identifies a retransmission is in `protocols.lines`. Source: the makers' public programming manuals.
"""

import re
from datetime import datetime
from functools import cache
from typing import Final, Literal

import msgspec
from construct import Const

from protocols import contact_id
from protocols.columns import ALPHANUMERIC, Frame, Layout, column, digits, first, hexa, layout, parts
from protocols.event import Event, Qualifier
from protocols.lines import MESSAGE_TYPE, LineLink, bare, contact_id_content, contact_id_frame, internal, positions, raw
from protocols.link import Part, Policies
from protocols.surgard import report_high_speed

ACCOUNT_MAX: Final = 16
_START: Final = re.compile(rb"(?:\A|\n)[0-9A-Z]{2} [0-9A-Z]{3,16} ")
_WORDS: Final = {"LINE": "line", "RCVB": "receiver board"}
_FLAGS: Final[dict[str, Literal["zone", "user"]]] = {"C": "zone", "U": "user"}
_STATES: Final = {Qualifier.NEW: "fault", Qualifier.RESTORE: "restored", Qualifier.STATUS: "fault still present"}


def _head(account: int, allowed: str = ALPHANUMERIC) -> tuple[object, ...]:
    one = column(1, ALPHANUMERIC)
    return "receiver" / one, "line" / one, Const(b" "), "account" / column(account, allowed), Const(b" ")


@cache
def _contact_id(account: int, flag: int) -> Layout:
    report = ("message_type" / MESSAGE_TYPE, Const(b" "), "qualifier" / column(1, "ERP136"), "code" / hexa(3), Const(b" "))
    number = hexa(3) if flag else digits(3)  # a C that has moved into the number is none of its digits
    address = ("partition" / hexa(2), Const(b" "), "flag" / column(flag, "CU"), "address" / number)
    return layout("contact_id", *_head(account), *report, *address)


@cache
def _pulse(account: int, zone: int) -> Layout:
    between = (Const(b" "), "address" / column(zone, ALPHANUMERIC)) if zone else ()
    return layout("pulse", *_head(account, "0123456789ABCDEF"), "code" / column(1, ALPHANUMERIC), *between)


@cache
def _high_speed(kind: str, account: int) -> Layout:
    allowed = "0123456789ABCDEF" if kind == "high_speed" else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return layout(kind, *_head(account, allowed), "content" / column(11, "0123456789 "))


_HEARTBEAT = layout("heartbeat", *_head(4)[:3], Const(b"OKAY @"))


def layouts(line: bytes) -> list[Layout]:
    """Return what a line without blanks at its end may be, by the length of its words."""
    match [len(word) for word in line.split(b" ")]:
        case [2, account, 2, 4, 2, (3 | 4) as last] if account <= ACCOUNT_MAX:
            return [_contact_id(account, last - 3)]
        case [2, account, 4, 4, 1] if account <= ACCOUNT_MAX:
            return [_high_speed("high_speed", account), _high_speed("internal", account)]
        case [2, account, 1] if account <= ACCOUNT_MAX:
            return [_HEARTBEAT, _pulse(account, 0)]
        case [2, account, 1, 1] if account <= ACCOUNT_MAX:
            return [_pulse(account, 1)]
    return []


def read(line: bytes) -> Frame | None:
    """Return the columns of a line, without LF and CR; None where they do not fit."""
    line = line.rstrip(b" ")
    return first(layouts(line), line)


def build(frame: Frame, header: bytes = b"\n", end: bytes = b"\r") -> bytes:
    """Return the line of a frame, LF and CR included: the inverse of `read`. Raises ValueError where a value does not fit."""
    account = len(frame.account)
    match frame.kind:
        case "contact_id":
            found = _contact_id(account, len(frame.flag))
        case "pulse":
            found = _pulse(account, len(frame.address))
        case "high_speed" | "internal":
            found = _high_speed(frame.kind, account)
        case "heartbeat":
            found = _HEARTBEAT
        case _:
            raise ValueError(f"no line of a 685 is of kind {frame.kind!r}")
    return header + found.build(frame) + end


def frame_of(event: Event) -> Frame:
    """Return the columns of a Contact ID event, with the flag. Raises ValueError for another format."""
    return msgspec.structs.replace(contact_id_frame(event, 1), flag="C" if event.user is None else "U")


def keep(line: bytes) -> Frame | None:
    """
    Return a frame for an undamaged line of a kind that is not read.

    It has at most two words behind the account: all kinds of line with more are known, and one that does not fit is damaged.
    """
    looks_right = re.fullmatch(rb"([0-9A-Z])([0-9A-Z]) ([0-9A-Z]{3,16}) (?!(?:18|98|58) )[!-~]+(?: [!-~]+)? *", line)
    if looks_right is None:
        return None
    receiver, line_name, account = (part.decode() for part in looks_right.groups())
    account = account if re.fullmatch(r"[0-9A-F]+", account) else ""
    return Frame(kind="raw", receiver=receiver, line=line_name, account=account, content=line.decode("ascii"))


class Ademco685(msgspec.Struct, frozen=True, tag_field="protocol", tag="ademco685", forbid_unknown_fields=True):
    """A listener's `protocol = "ademco685"`."""

    acknowledge: bool = True
    """False: the receiver waits for no answer."""

    def link(self, policies: Policies = lambda *_: None) -> "AdemcoLink":
        """Return the receiving side of a new connection."""
        return AdemcoLink(policies, acknowledge=self.acknowledge)

    def explain(self, frame: bytes, *_: object) -> Frame | None:
        """Return the columns of a line; None where it is none of a 685."""
        line = bare(frame)
        return read(line) or keep(line)

    def layout(self, frame: bytes, *_: object) -> tuple[Part, ...]:
        """Return what each byte of a line is; none where it is not read."""
        line = bare(frame).rstrip(b" ")
        return parts(layouts(line), line)

    def line_of(self, event: Event) -> bytes:
        """Return the line of a Contact ID event. Raises ValueError."""
        return build(frame_of(event))

    def heartbeat(self, receiver: str, line: str) -> bytes:
        """Return a heartbeat. Raises ValueError."""
        return build(Frame(kind="heartbeat", receiver=receiver, line=line))


class AdemcoLink(LineLink):
    """One connection of a 685."""

    def __init__(
        self,
        policies: Policies,
        start: re.Pattern[bytes] = _START,
        signs: tuple[bytes, bytes] = (b"\n", b"\r"),
        *,
        acknowledge: bool,
    ) -> None:
        """Begin. signs: the header, and what ends a line."""
        super().__init__(policies, start, signs[1], signs[0], acknowledge=acknowledge)

    def parse(self, line: bytes) -> Frame | None:
        """See `read`."""
        return read(line)

    def keep(self, line: bytes) -> Frame | None:
        """See `keep` of the module."""
        return keep(line)

    def report(self, frame: Frame, now: datetime) -> tuple[Event, ...]:  # noqa: ARG002 - a 685 tells no time
        """Say what a line reports."""
        match frame.kind:
            case "heartbeat":
                return ()
            case "contact_id":
                return _report_contact_id(frame)
            case "high_speed":
                return report_high_speed(frame)
            case "internal":
                return _report_internal(frame)
            case "pulse":
                code = frame.code + frame.address
                return (raw(frame, f"pulse {code}", code),)
            case _:
                return (raw(frame, frame.content),)


def _report_contact_id(frame: Frame) -> tuple[Event, ...]:
    content = contact_id_content(frame)
    address = _FLAGS.get(frame.flag)
    return contact_id.parse(content, frame.account, frame.receiver, frame.line, address=address) or (raw(frame, content),)


def _report_internal(frame: Frame) -> tuple[Event, ...]:
    word = _WORDS.get(frame.account, frame.account)
    code = f"receiver_{word.lower().replace(' ', '_')}"
    events = tuple(
        internal(frame, code, f"Receiver {frame.receiver}: {word} {n}: {_STATES[qualifier]}", zone=n, qualifier=qualifier)
        for n, qualifier in positions(frame.content[:9])
    )
    text = f"Receiver {frame.receiver}: {word}: all normal"
    return events or (internal(frame, code, text, qualifier=Qualifier.RESTORE),)
