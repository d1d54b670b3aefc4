r"""
A DC-09 frame's grammar: from the bytes to fields and back.

    <LF> crc 0LLL "id" seq Rrcvr Lpref #acct [data] [x...] _timestamp <CR>
                  ^------------ body: what crc and length cover ------^

The checksum is CRC-16/ARC over the bytes of the body: four hexadecimal digits, or two raw bytes in panels of 2007; the length
is 0 and three hexadecimal digits. Text is decoded after that, never before. What belongs to panels that depart from this has
a name: `DIALECTS`.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec
from fastcrc.crc16 import arc

from protocols.link import utc

FRAME_BYTES_MAX: Final = 10 + 0xFFF
"""LF, checksum, length, a body of at most 0xFFF bytes, CR."""

DIALECTS: Final = {
    "binary_crc": "the checksum is two raw bytes, as in 2007: it is answered in kind",
    "eldes": "the checksum and the length cover the CR as well: an ELDES panel",
    "lower_case_hex": "hexadecimal digits in lower case: Jablotron, Scantronic",
    "no_lf": "no LF before the checksum",
    "nul_after_cr": "a NUL after the CR: G90B and others of its make",
    "lf_after_cr": "an LF after the CR that begins no frame",
    "length": "the length does not fit, the checksum does: taken by the checksum",
    "sequence_hex": "the sequence number has hexadecimal digits",
    "receiver_odd": "R has not 1 to 6 hexadecimal digits",
    "line_missing": "no L in the header",
    "line_empty": "L has no digit",
    "line_odd": "L has more than 6 digits",
    "account_odd": "the account has not 3 to 16 hexadecimal digits",
    "account_missing": "no #account in the header",
    "inner_account_missing": "no #account| at the head of the data",
    "inner_account_other": "the account in the data is not that of the header, which counts",
    "bracket_missing": "no ] behind the data, or no [ before it",
    "bracket_in_text": "a ] between ^ and ^ is text, and does not end the data",
    "bracket_in_clear": "encrypted, and a ] or more stands behind it in clear",
    "pad_odd": "the pad before the encrypted data has a sign that ends it",
    "bar_without_data": "encrypted, and a | stands before the ] though there are no data",
    "nul_padding": "encrypted, and the last block is filled with NUL",
    "trailer": "something stands behind the last bracket that is no time",
    "cp1252": "text in CP1252, not UTF-8",
}
"""Where panels of the field depart from the standard, by name: what it means. None of it is refused, but where `strict`."""

Dialect = Literal[
    "", "binary_crc", "eldes", "lower_case_hex", "no_lf", "nul_after_cr", "lf_after_cr", "length", "cp1252", "bracket_in_clear"
]
"""Those that `build` can write; the others are a matter of a field's content."""
assert set(get_args(Dialect)) - {""} <= set(DIALECTS)

STRICT_HEADER: Final = re.compile(rb'\n([0-9A-F]{4})0([0-9A-F]{3})"')
"""As the standard wants it. Groups as in HEADER."""
HEADER: Final = re.compile(rb'\n?([0-9A-Fa-f]{4}|(?<=\n)..)0([0-9A-Fa-f]{3})"', re.DOTALL)
"""As panels send it: the place of the quote tells four digits from two raw bytes, which may be CR, LF or a quote themselves."""
HEADER_BYTES_MAX: Final = 9
"""Before the quote."""
HEADER_BEGUN: Final = re.compile(
    rb"""
    \n (?: .{0,2} | .. 0 [0-9A-Fa-f]{0,3} | [0-9A-Fa-f]{3,4} | [0-9A-Fa-f]{4} 0 [0-9A-Fa-f]{0,3} ) \Z
    | [0-9A-Fa-f]{1,4} \Z | [0-9A-Fa-f]{4} 0 [0-9A-Fa-f]{0,3} \Z
    """,
    re.VERBOSE | re.DOTALL,
)
TIME: Final = "[0-9]{2}:[0-9]{2}:[0-9]{2},[0-9]{2}-[0-9]{2}-[0-9]{4}"
"""The expression of a frame's time: HH:MM:SS,MM-DD-YYYY."""
_TAIL: Final = (
    r"""
    (?P<rest>.*?)                               # the time stands behind it
    (?:_(?P<timestamp>"""
    + TIME
    + r"))?\Z"
)
_FLAGS: Final = re.VERBOSE | re.DOTALL | re.ASCII
STRICT_BODY: Final = re.compile(
    r"""
    "(?P<star>\*)?(?P<id_token>[^"]{1,20})"
    (?P<echo>[0-9]{4}(?:R(?P<receiver>[0-9A-Fa-f]{1,6}))?L(?P<line>[0-9A-Fa-f]{1,6})\#(?P<account>[0-9A-Fa-f]{3,16}))
    \[(?P<data>(?P<inner>\#(?P=account)\|)?[^\]]*)
    (?(star)\]?|\])                             # what is encrypted has its bracket inside
    (?P<extended>(?:\[[^\]]*\])*)
    """
    + _TAIL,
    _FLAGS,
)
"""A body whose header and brackets are as the standard wants them. Groups as in BODY."""
BODY: Final = re.compile(
    r"""
    "(?P<star>\*)?(?P<id_token>[^"]{1,20})"
    (?P<echo>                                   # what a reply repeats byte for byte
        [0-9A-Fa-f]{4}
        (?:R(?P<receiver>[0-9A-Fa-f]{0,16}))?
        (?:L(?P<line>[0-9A-Fa-f]{0,16}))?       # some panels send L without a digit, some diallers none
        # any length, any sign: the whole of it, or it would be another's; without a [ behind it, a _ begins the time
        (?:\#(?P<account>[!-Z\\-~]{0,32}(?=\[)|[!-Z\\-^`-~]{0,32}))?
    )
    (?=[\[_]|\Z)
    (?:\[(?P<data>(?P<inner>\#(?P=account)\|)?
            [^\]_]*+ (?:_(?![0-9:]{8},[0-9-]{10}\Z) [^\]_]*+)*      # without the bracket, to the time
       )\]?
       (?P<extended>(?:\[[^\]]*\])*)
    )?
    """
    + _TAIL,
    _FLAGS,
)
_BRACKET_IN_TEXT: Final = re.compile(r"((?:[^\]^]|\^[^^]*\^)*)\]((?:\[[^\]]*\])*)(.*)", re.DOTALL)
PAIR: Final = re.compile(r"\[(\$?[^\]]?)([^\]]*)\]")
"""One extended block: id and value."""
_TIME: Final = re.compile(TIME)
_SECRET: Final = re.compile(rb"(?<=\]\[K)[^\]\r]+|(?<=\[K)[0-9A-Fa-f]{16,}")
"""An extended block with a key; or what can't be anything else, wherever it stands."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a frame, as text; what `build` puts on the wire."""

    id_token: str
    encrypted: bool = False
    sequence: str
    receiver: str | None = None
    """None where R was not sent; R is optional."""
    line: str | None = "0"
    """None where L was not sent, though it should be."""
    account: str
    data: str = ""
    """What stands between the brackets, the inner account included; encrypted and not opened: its hexadecimal text."""
    extended: tuple[tuple[str, str], ...] = ()
    """As sent, but for the value of K: a key is never shown."""
    timestamp: datetime | None = None
    """UTC; None where it was not sent or is no time."""

    @property
    def echo(self) -> str:
        """What an answer repeats byte for byte."""
        receiver = "" if self.receiver is None else f"R{self.receiver}"
        line = "" if self.line is None else f"L{self.line}"
        return f"{self.sequence}{receiver}{line}#{self.account}"


def text(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Decode as UTF-8, else as CP1252, which older panels send, and name that; the checksum was taken over the bytes."""
    try:
        return data.decode(), ()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), ("cp1252",)


def rejoin(data: str, blocks: str, rest: str) -> tuple[str, str, str]:
    """
    Return data, extended blocks and rest as they are where a `]` between ^ and ^ is text: DC-09 has no escape for it.

    They are what the first `]` made of them; what it cuts off may be the next event, and would be lost.
    """
    match = _BRACKET_IN_TEXT.fullmatch(f"{data}]{blocks}{rest}") if "^" in rest else None
    return (match[1], match[2], match[3]) if match else (data, blocks, rest)


def hide_key(data: bytes) -> bytes:
    """Put asterisks for the value of a `[K...]` block: as many, so that all else stays in its place."""
    return _SECRET.sub(lambda secret: b"*" * len(secret[0]), data) if b"[K" in data else data


def moment(timestamp: str, zone: ZoneInfo | None = None, now: datetime | None = None) -> datetime | None:
    """
    Read HH:MM:SS,MM-DD-YYYY; None where it is no time.

    zone: that of the panel's clock; None: UTC. now: where the clock goes back, an hour comes twice, and the one nearer to now
    is meant.
    """
    sent = _utc(timestamp)
    if sent is None or zone is None:
        return sent
    try:
        return utc(sent, zone, now)
    except OverflowError:
        return None


@lru_cache(maxsize=256)
def _utc(timestamp: str) -> datetime | None:
    """Read it as UTC. Thousands of panels send the same second."""
    if _TIME.fullmatch(timestamp) is None:
        return None
    try:
        return datetime.fromisoformat(f"{timestamp[15:]}-{timestamp[9:14]}T{timestamp[:8]}+00:00")
    except ValueError:  # no such day or hour
        return None


@lru_cache(maxsize=16)
def stamp(at: datetime) -> str:
    """Write a time as DC-09 does, in UTC: the inverse of `moment`, with the underscore. All answers of one turn have the same."""
    return at.astimezone(UTC).strftime("_%H:%M:%S,%m-%d-%Y")


def wrap(body: bytes, binary: bool = False) -> bytes:  # noqa: FBT001, FBT002 - on the way of each frame a keyword costs
    """Put LF, checksum, length and CR around a body; binary: the checksum as two raw bytes."""
    if binary:
        return b"\n%b%04X%b\r" % (arc(body).to_bytes(2), len(body), body)
    return b"\n%04X%04X%b\r" % (arc(body), len(body), body)
