"""
Event format: Contact ID (SIA DC-05), as DC-09 and the receivers carry it.

    Q EEE GG CCC        1130 01 005 = new, burglary, partition 01, zone 005

Q is 1 new or opening, 3 restore or closing, 6 status; EEE the code, GG the partition, CCC the zone or user, as the table says.
"""

import re
from datetime import datetime
from typing import Final

from protocols import codes
from protocols.event import Category, Event, Format, Qualifier

_REPORT: Final = re.compile(
    r"""
    [ ]*+ ([136])           # Q: the qualifier
    [ ]*+ ([0-9B-F]{3})     # EEE: the code. B-F are keys of the telephone's tone grid; A is not among the legal digits
    [ ]*+ ([0-9B-F]{2})     # GG: the partition
    [ ]*+ ([0-9B-F]{3})     # CCC: the zone or user
    [ ]*+
    """,
    re.VERBOSE,
)
_QUALIFIERS: Final = {"1": Qualifier.NEW, "3": Qualifier.RESTORE, "6": Qualifier.STATUS}
_DIGITS: Final = {qualifier: digit for digit, qualifier in _QUALIFIERS.items()}


def parse(  # noqa: PLR0913, PLR0917 - what the link knows of the event comes with its content
    content: str,
    account: str,
    receiver: str | None,
    line: str | None,
    occurred_at: datetime | None = None,
    extended: tuple[tuple[str, str], ...] = (),
) -> tuple[Event, ...]:
    """
    Read one report. Empty where `content` is none; never raises.

    content: `QEEE GG CCC`, blanks where the panel likes. The rest is what the link knows, and goes into the event as it is.
    A code that the table does not know is kept, its category is `unknown`.
    """
    report = _REPORT.fullmatch(content)
    if report is None:
        return ()
    digit, code, partition, address = report.groups()
    known = codes.contact_id(code)
    category, is_user = Category.UNKNOWN, False
    if known is not None:
        category = known.restore if digit == "3" and known.restore else known.category
        is_user = known.address == "user"
    return (
        Event(
            account,
            Format.CONTACT_ID,
            code,
            _QUALIFIERS[digit],
            category,
            receiver,
            line,
            partition,
            None if is_user else address,
            address if is_user else None,
            occurred_at,
            None,
            extended,
        ),
    )


def build(event: Event) -> str:
    """Write `event` as `QEEE GG CCC`, the inverse of `parse`; what is absent becomes zeros, what is short is filled with them."""
    address = event.user or event.zone or ""
    return f"{_DIGITS[event.qualifier]}{event.code} {event.partition or '':0>2} {address:0>3}"
