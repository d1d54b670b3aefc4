"""
Link protocol: the automation output of Sur-Gard receivers (MLR2, MLR2000, System III) and of all that imitate them.

    RR receiver, L line (one digit, or three), A account, filled with blanks or zeros; DC4 ends a line

    5RRL 18AAAAQXYZGGCCC        Contact ID; Q is E, R, P or 1, 3, 6
    3RRL    AAAAAAXXYYYY        SIA, one code a line; an `ri` line names the area of those that follow
    SRRL[#AAAA|NXXYYYY/...]     SIA, several codes a line
    0RRL[#0000|NYN...]          what the receiver says of itself, in SIA codes; with another account, that account's
    1RRL      AAAA XGYYY        pulse: event, group, zone or user
    1RRL      0000 P  0L        two-way audio waits on a line
    1RRL           @            heartbeat
    6RRL      AAAAXXYYYY        BFSK
    8RRLAAAA CCCC CCCC C        Ademco high speed; 8RRLAAAAAA CCCCCCCC A of the MLR2-DV
    TRRLAAAAAA E  ZZ            Telim
    CRRL    AAAAAAXYZZ          FSK2

Contact ID is read from the right: what lies between the 18 and the last nine signs is the account, which blanks or
zeros may fill. A line that has a digit for Q,
and an E, R or P behind its account's third sign, has lost or won a sign on its way: it is damaged. Where the space stands says
how many digits the line has. Answers are ACK (06) and NAK (15). Caller id (4, s) and other lines are kept and raised as unknown.
What identifies a retransmission is in `protocols.lines`. Source: the makers' public installation manuals.
"""

import re
from collections.abc import Callable
from datetime import datetime
from functools import cache, lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec
from construct import Const

from protocols import contact_id, sia
from protocols.columns import ALPHANUMERIC, Frame, Layout, column, digits, filled, first, hexa, layout, matching, parts
from protocols.event import CENTRE, Category, Event, Format, Qualifier
from protocols.lines import MESSAGE_TYPE, LineLink, bare, contact_id_content, contact_id_frame, internal, positions, raw
from protocols.link import Part, Policies

LINE_DIGITS: Final = (1, 3)
HEARTBEAT_LINE_DIGITS: Final = range(1, 9)
"""Emulators print what they like there."""
ACCOUNT_DIGITS: Final = range(4, 11)
_ENDS: Final = {"dc4": b"\x14", "cr": b"\r", "none": b""}
_START: Final = re.compile(
    rb"(?:"
    rb"5[0-9A-Z]{3}(?:[0-9A-Z]{2})?[ ](?:18|98|58)"
    rb"|[S0][0-9A-Z]{3}(?:[0-9A-Z]{2})?\[\#"
    rb"|[36C][0-9A-Z]{3}(?:[0-9A-Z]{2})?[ ]{3}"
    rb"|1[0-9A-Z]{3,6}[ ]{3}"
    rb"|8[0-9A-Z]{3}(?:[0-9A-Z]{2})?(?:[0-9A-F]{2}){2,3}[ ][0-9]{4}"
    rb"|T[0-9A-Z]{3}(?:[0-9A-Z]{2})?[ 0-9A-F]{6}[ ][AFKRTU][ ]{2})"
)
"""How a line begins."""
_CONTENT: Final = re.compile(r"(?:[ -\]_-~]++|\^[^\x00-\x1f\x7f^]*+\^|\^(?![^\x00-\x1f\x7f^]*+\^))*")
"""SIA: printable signs, and between ^ and ^ also those of eight bits: text in CP1252 or UTF-8."""
_TELIM: Final[dict[str, dict[str, Any]]] = {
    "F": {"category": Category.FAULT},
    "K": {"qualifier": Qualifier.RESTORE},
    "R": {"category": Category.TEST},
    "T": {"category": Category.CLOSING},
    "U": {"category": Category.OPENING},
}
"""What Telim's letters mean beside A, an alarm of which kind the account knows."""


def _head(kind: str, line: int) -> tuple[object, ...]:
    return Const(kind.encode()), "receiver" / column(2, ALPHANUMERIC), "line" / column(line, ALPHANUMERIC)


@cache
def _contact_id(line: int, account: int) -> Layout:
    between = (Const(b" "), "message_type" / MESSAGE_TYPE, "account" / filled(account, ALPHANUMERIC))
    report = ("qualifier" / column(1, "ERP136"), "code" / hexa(3), "partition" / hexa(2), "address" / hexa(3))
    return layout("contact_id", *_head("5", line), *between, *report)


@cache
def _sia_1(line: int) -> Layout:
    letters = column(2, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    return layout("sia_1", *_head("3", line), "account" / filled(10), "code" / letters, "address" / column(4))


@lru_cache(256)
def _sia_2(kind: str, line: int, account: int, content: int) -> Layout:
    name = "sia_2" if kind == "S" else "internal"
    inner = (
        Const(b"[#"),
        "account" / column(account, ALPHANUMERIC),
        Const(b"|"),
        "content" / matching(content, _CONTENT),
        Const(b"]"),
    )
    return layout(name, *_head(kind, line), *inner)


@lru_cache(256)
def heartbeat(line: int, before: int = 11, after: int = 4) -> Layout:
    """Return the layout of a heartbeat; some emulators print more or fewer blanks."""
    return layout("heartbeat", *_head("1", line), Const(b" " * before + b"@" + b" " * after))


@cache
def _audio(line: int) -> Layout:
    return layout("audio", *_head("1", line), Const(b"      0000 P  0"), "address" / column(1, ALPHANUMERIC))


@cache
def basic(line: int) -> Layout:
    """Return the layout of a pulse event: its sign, group, zone or user."""
    event = (Const(b" "), "code" / column(1), "partition" / column(1), "address" / column(3))
    return layout("basic", *_head("1", line), "account" / filled(10), *event)


@cache
def _bfsk(line: int, code: int = 6) -> Layout:
    return layout("bfsk", *_head("6", line), "account" / filled(10), "code" / column(code, ALPHANUMERIC))


def _bfsk_short(line: int) -> Layout:
    return _bfsk(line, 4)


@cache
def _high_speed(line: int, account: int) -> Layout:
    content = column(11 if account == 4 else 10, "0123456789A ")  # noqa: PLR2004 - four digits, or the six of the MLR2-DV
    return layout("high_speed", *_head("8", line), "account" / hexa(account), Const(b" "), "content" / content)


@cache
def _telim(line: int) -> Layout:
    event = (Const(b" "), "code" / column(1, "AFKRTU"), Const(b"  "), "address" / digits(2))
    return layout("telim", *_head("T", line), "account" / filled(6), *event)


@cache
def _fsk2(line: int) -> Layout:
    return layout("fsk2", *_head("C", line), "account" / filled(10), "code" / column(4, ALPHANUMERIC), Const(b"  "))


_BY_LINE: Final[dict[str, tuple[Callable[[int], Layout], ...]]] = {
    "1": (_audio, basic),
    "3": (_sia_1,),
    "6": (_bfsk, _bfsk_short),
    "C": (_fsk2,),
}
"""The layouts of a kind of line, by the sign it begins with; each is made for a number of line digits."""
_BY_KIND: Final[dict[str, Callable[[Frame], Layout]]] = {
    "contact_id": lambda frame: _contact_id(len(frame.line), len(frame.account)),
    "sia_1": lambda frame: _sia_1(len(frame.line)),
    "sia_2": lambda frame: _sia_2("S", len(frame.line), len(frame.account), len(frame.content)),
    "internal": lambda frame: _sia_2("0", len(frame.line), len(frame.account), len(frame.content)),
    "heartbeat": lambda frame: heartbeat(len(frame.line)),
    "audio": lambda frame: _audio(len(frame.line)),
    "basic": lambda frame: basic(len(frame.line)),
    "bfsk": lambda frame: _bfsk(len(frame.line), len(frame.code)),
    "high_speed": lambda frame: _high_speed(len(frame.line), len(frame.account)),
    "telim": lambda frame: _telim(len(frame.line)),
    "fsk2": lambda frame: _fsk2(len(frame.line)),
}


def layouts(line: bytes) -> list[Layout]:
    """Return what a line may be, by what it begins with and where its blanks stand."""
    kind = line[:1].decode("latin-1")
    digit_count = line.find(b"[" if kind in {"S", "0"} else b" ") - 3
    if kind in {"8", "T"}:  # no space stands behind the line there
        high_speed = [_high_speed(digit_count, account) for digit_count in LINE_DIGITS for account in (4, 6)]
        return high_speed if kind == "8" else [_telim(digit_count) for digit_count in LINE_DIGITS]
    if kind == "1" and line[3 + digit_count :].strip() == b"@":
        before, after = line.index(b"@") - 3 - digit_count, len(line) - line.index(b"@") - 1
        return [heartbeat(digit_count, before, after)] if digit_count in HEARTBEAT_LINE_DIGITS else []
    if digit_count not in LINE_DIGITS:
        return []
    if kind == "5":
        account = len(line) - digit_count - 15
        # The true Q is a letter that stands elsewhere: a digit in its place would be another code
        shifted = line[-9:-8].isdigit() and not {*b"ERP"}.isdisjoint(line[digit_count + 9 :])
        return [_contact_id(digit_count, account)] if account in ACCOUNT_DIGITS and not shifted else []
    if kind in {"S", "0"}:
        account = line.find(b"|") - digit_count - 5
        content = len(line) - digit_count - account - 7
        return [_sia_2(kind, digit_count, account, content)] if account in range(1, 17) and content >= 0 else []
    return [of(digit_count) for of in _BY_LINE.get(kind, ())]


def read(line: bytes) -> Frame | None:
    """Return the columns of a line, without what ends it; None where they do not fit."""
    return first(layouts(line), line)


def build(frame: Frame, end: bytes = b"\x14") -> bytes:
    """Return the line of a frame, and what ends it: the inverse of `read`. Raises ValueError where a value fits no column."""
    if frame.kind not in _BY_KIND:
        raise ValueError(f"no line of Sur-Gard is of kind {frame.kind!r}")
    return _BY_KIND[frame.kind](frame).build(frame) + end


class SurGard(msgspec.Struct, frozen=True, tag_field="protocol", tag="surgard", forbid_unknown_fields=True):
    """A listener's `protocol = "surgard"`."""

    end: Annotated[Literal["dc4", "cr", "none"], msgspec.Meta(description='"dc4", "cr" or "none"')] = "dc4"
    """What ends a line. "none": half a second of silence, or the next line."""

    def link(self, policies: Policies = lambda *_: None) -> "SurGardLink":
        """Return the receiving side of a new connection."""
        return SurGardLink(policies, _ENDS[self.end])

    def explain(self, frame: bytes, *_: object) -> Frame | None:
        """Return the columns of a line; None where it is none of a Sur-Gard receiver."""
        line = bare(frame)
        return read(line) or keep(line)

    def layout(self, frame: bytes, *_: object) -> tuple[Part, ...]:
        """Return what each byte of a line is; none where it is not read."""
        line = bare(frame)
        return parts(layouts(line), line)

    def line_of(self, event: Event) -> bytes:
        """Return the line of a Contact ID or SIA event. Raises ValueError."""
        if event.format != Format.SIA:
            return build(contact_id_frame(event, 2), _ENDS[self.end])
        receiver, line = f"{event.receiver or '1':0>2}", event.line or "1"
        frame = Frame(kind="sia_2", receiver=receiver, line=line, account=event.account, content=sia.build(event))
        return build(frame, _ENDS[self.end])

    def heartbeat(self, receiver: str, line: str) -> bytes:
        """Return a heartbeat. Raises ValueError."""
        return build(Frame(kind="heartbeat", receiver=f"{receiver:0>2}", line=line), _ENDS[self.end])


class SurGardLink(LineLink):
    """One connection of a Sur-Gard receiver."""

    def __init__(self, policies: Policies, ends: bytes) -> None:
        super().__init__(policies, _START, ends)
        self._area: tuple[tuple[str, str, str], str] = (("", "", ""), "")
        """Of SIA, one code a line: what the last `ri` line said, and of which receiver, line and account."""

    def parse(self, line: bytes) -> Frame | None:
        """See `read`."""
        return read(line)

    def keep(self, line: bytes) -> Frame | None:
        """See `keep` of the module."""
        return keep(line)

    def report(self, frame: Frame, now: datetime) -> tuple[Event, ...]:  # noqa: PLR0911 - one arm a kind of line
        """Say what a line reports."""
        match frame.kind:
            case "heartbeat":
                return ()
            case "contact_id":
                content = contact_id_content(frame)
                return contact_id.parse(content, frame.account, frame.receiver, frame.line) or (raw(frame, content),)
            case "sia_1":
                return self._report_sia_1(frame, now)
            case "sia_2":
                return self._report_sia(frame, frame.content, frame.account, now)
            case "internal":
                return self._report_sia(frame, frame.content, frame.account if frame.account.strip("0") else CENTRE, now)
            case "audio":
                text = f"Two-way audio waits on line {frame.address} of receiver {frame.receiver}"
                return (internal(frame, "two_way_audio", text),)
            case "high_speed":
                return report_high_speed(frame)
            case "telim":
                known = _TELIM.get(frame.code, {})
                return (raw(frame, f"Telim {frame.code} {frame.address}", frame.code, zone=frame.address, **known),)
            case "basic":
                return (report_basic(frame),)
            case _:
                return (raw(frame, f"{frame.kind} {frame.code} {frame.content}".rstrip(), frame.code),)

    def _report_sia_1(self, frame: Frame, now: datetime) -> tuple[Event, ...]:
        place, address = (frame.receiver, frame.line, frame.account), frame.address.strip()
        if frame.code.lower() == "ri":
            self._area = place, address
            return ()
        area = f"ri{self._area[1]}/" if self._area[0] == place else ""
        return self._report_sia(frame, f"N{area}{frame.code}{address}", frame.account, now)

    def _report_sia(self, frame: Frame, content: str, account: str, now: datetime) -> tuple[Event, ...]:
        policy = self._policies(frame.receiver, frame.line, account)
        sent = content.encode("latin-1")
        try:
            content = sent.decode()
        except UnicodeDecodeError:
            content = sent.decode("cp1252", "replace")
        zone = policy.time_zone if policy else None
        return sia.parse(content, now, account, frame.receiver, frame.line, time_zone=zone) or (
            raw(frame, content, account=account),
        )


def keep(line: bytes) -> Frame | None:
    """Return a frame for an undamaged line of a kind that is not read: caller id, or one that a maker added."""
    looks_right = re.fullmatch(rb"[!-~][0-9A-Z]{3}[ -~]*", line)
    if looks_right is None or line[:1] in b"5316TC8S0" or any(read(kind + line[1:]) for kind in (b"5", b"S")):
        return None  # of a kind that is read, but for a wrong sign: its first one, too
    return Frame(kind="raw", content=line.decode("ascii"))


def report_basic(frame: Frame) -> Event:
    """
    Return the event of a pulse line: its sign's meaning is the account's own, but for C, which the manuals call a closing.

    A sign that is not in its column is a maker's own word.
    """
    if not frame.code.strip():
        word = f"{frame.partition}{frame.address}".strip()
        return raw(frame, f"pulse {word}", word)
    partition, address = frame.partition.strip() or None, frame.address.strip() or None
    text = f"pulse {frame.code}{frame.partition}{frame.address}".rstrip()
    if frame.code == "C":
        return raw(frame, text, "C", category=Category.CLOSING, partition=partition, user=address)
    return raw(frame, text, frame.code, partition=partition, zone=address)


def report_high_speed(frame: Frame) -> tuple[Event, ...]:
    """Return an event for each channel that is not normal: its meaning is the account's own; where all are, one that says so."""
    text = f"Ademco high speed {frame.content}"
    channels = positions(frame.content[:9])
    events = tuple(raw(frame, f"{text}: channel {n}", n, zone=n, qualifier=qualifier) for n, qualifier in channels)
    normal: dict[str, Any] = {"qualifier": Qualifier.STATUS, "category": Category.STATUS}
    return events or (raw(frame, f"{text}: all channels normal", **normal),)
