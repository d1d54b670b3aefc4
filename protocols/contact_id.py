"""
Event format: Contact ID (SIA DC-05), as DC-09 and the receivers carry it.

    ACCT MT Q EEE GG CCC S        1234 18 1 130 01 005 S = account 1234, new, burglary, partition 01, zone 005

ACCT and MT are there where the digits come as the panel dialled them: MT is 18 or 98, or 58 with an account of ten digits.
Q is 1 new or opening, 3 restore or closing, 6 status; receivers print E, R, P. EEE is the code, GG the partition, CCC the zone or
user, as the table says. S makes the sum of all digits a multiple of 15.
"""

import re
from datetime import datetime
from typing import Final, Literal

import msgspec

from protocols import codes
from protocols.event import Category, Event, Format, Qualifier

_REPORT: Final = re.compile(
    r"""
    [ ]*+ ([136ERP])        # Q: the qualifier
    [ ]*+ ([0-9B-F]{3})     # EEE: the code. B-F are keys of the telephone's tone grid; A is not among the legal digits
    [ ]*+ ([0-9B-F]{2})     # GG: the partition
    [ ]*+ ([0-9B-F]{3})     # CCC: the zone or user
    [ ]*+
    """,
    re.VERBOSE,
)
_DIALLED: Final = re.compile(
    r"""
    (?: ([0-9A-F]{4})? (?:18|98) | ([0-9A-F]{10})? 58 )     # in an account, A is a zero that the panel dialled as A
    ([136ERP][0-9B-F]{8})
    ([0-9B-F_]?)            # S; `_` where what took the call left it out
    """,
    re.VERBOSE,
)
_SHORT: Final = "18"
_LONG: Final = "58"
ACCOUNT_DIGITS_MAX: Final = 10
DIGITS_MAX: Final = 22
"""Ten of the account, two of the type, nine of the report, one of the checksum."""

_QUALIFIERS: Final = {
    digit: qualifier
    for digits, qualifier in (("1E", Qualifier.NEW), ("3R", Qualifier.RESTORE), ("6P", Qualifier.STATUS))
    for digit in digits
}
_DIGITS: Final = {qualifier: digit for digit, qualifier in _QUALIFIERS.items() if digit.isdecimal()}
_WORTH: Final = {digit: 10 if digit == "0" else int(digit, 16) for digit in "0123456789ABCDEF"}
_TONES: Final = str.maketrans("*#ABCD", "BCDEF?")


class Dialled(msgspec.Struct, frozen=True):
    """The digits of one call, taken apart."""

    account: str
    """As sent; empty where the digits begin with the message type."""
    report: str
    """`QEEEGGCCC`."""
    checksum_ok: bool | None
    """None where there is none to check: it is missing, or the account before it is."""


def checksum(digits: str) -> str:
    """
    Return the digit that makes the sum of all a multiple of 15 [DC-05]: 0 counts as ten, and F as fifteen.

    digits: hexadecimal, upper case. Raises KeyError for another character: what was read is checked before.
    """
    return "1234567890BCDEF"[14 - sum(_WORTH[digit] for digit in digits) % 15]


def from_tones(tones: str) -> str:
    """
    Return the digits that the keys of a telephone stand for: `*` is B, `#` C, and the keys A, B, C are D, E, F.

    The key D is none, and becomes `?`; but as a checksum it is the ten of one dialler (spandsp).
    """
    return (f"{tones[:-1]}0" if tones.endswith("D") else tones).translate(_TONES)


def read(digits: str) -> Dialled | None:
    """Take digits apart that came as the panel dialled them; None where they are none. Blanks are left out; never raises."""
    together = digits.replace(" ", "")
    match = _DIALLED.fullmatch(together) if len(together) <= DIGITS_MAX else None
    if match is None:
        return None
    account, long_account, report, check = match.groups()
    account = account or long_account or ""
    if not account or check in {"", "_"}:
        return Dialled(account, report, None)
    digit = _DIGITS[_QUALIFIERS[report[0]]]  # the panel dialled 1 where a receiver prints E
    return Dialled(account, report, checksum(f"{together[:-10]}{digit}{together[-9:-1]}") == check)


def parse(  # noqa: PLR0913, PLR0917 - what the link knows of the event comes with its content
    content: str,
    account: str,
    receiver: str | None,
    line: str | None,
    occurred_at: datetime | None = None,
    extended: tuple[tuple[str, str], ...] = (),
    address: Literal["zone", "user"] | None = None,
) -> tuple[Event, ...]:
    """
    Read one report. Empty where `content` is none, or its checksum is wrong; never raises.

    content: `QEEE GG CCC`, blanks where the panel likes; or all the digits that it dialled. account: the link's own; where that
    is empty, the one that was dialled. address: the link's word on what CCC names, before the table's. The rest is what the link
    knows, and goes into the event as it is. A code that the table does not know is kept, with the category of its family.
    """
    report = _REPORT.fullmatch(content)
    if report is None:
        dialled = read(content)
        if dialled is None or dialled.checksum_ok is False:
            return ()
        account = account or dialled.account
        report = _REPORT.fullmatch(dialled.report)
        assert report is not None, dialled
    digit, code, partition, number = report.groups()
    known = codes.contact_id(code) or codes.contact_id_family(code)
    qualifier = _QUALIFIERS[digit]
    category, names = Category.UNKNOWN, address
    if known is not None:
        category = known.restore if qualifier is Qualifier.RESTORE and known.restore else known.category
        names = address or ("user" if known.address == "user" else "zone")
    zone, user = (None, number) if names == "user" else (number, None)
    return (
        Event(
            account,
            Format.CONTACT_ID,
            code,
            qualifier,
            category,
            receiver,
            line,
            partition,
            zone,
            user,
            occurred_at,
            None,
            extended,
        ),
    )


def build(event: Event) -> str:
    """Write `event` as `QEEE GG CCC`, the inverse of `parse`; what is absent becomes zeros, what is short is filled with them."""
    address = event.user or event.zone or ""
    return f"{_DIGITS[event.qualifier]}{event.code} {event.partition or '':0>2} {address:0>3}"


def build_dialled(event: Event) -> str:
    """Write `event` as a panel dials it: account, message type, report, checksum. The account has four digits, or ten."""
    digits = f"{event.account}{_LONG if len(event.account) == ACCOUNT_DIGITS_MAX else _SHORT}{build(event).replace(' ', '')}"
    return digits + checksum(digits)
