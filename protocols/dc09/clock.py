"""How far a panel's clock is off, and what that may be."""

import re
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from protocols.dc09.frame import moment

AHEAD_S_MIN, AHEAD_S_MAX = -40, 20
"""What a panel's clock may be off, in seconds [SIA DC-09-2013, 5.5.3.2]."""
_PADDED: Final = re.compile(r"[0-9:]{8},[0-9-]{10}(([\x01-\x10])\2*)")
_QUARTER_S: Final = 900
_ZONE_S_MAX: Final = 14 * 3600


def check(timestamp: str, zone: ZoneInfo | None, now: datetime) -> tuple[float | None, str]:
    """
    Say how many seconds the panel's clock is ahead, None where its time cannot be read; and what is wrong with it, or "".

    timestamp: as sent, without the underscore. zone: that of the panel's clock; None: UTC. now: the time of receipt.
    """
    sent = moment(timestamp, zone, now)
    if sent is None:
        return None, _unreadable(timestamp)
    ahead_s = (sent - now).total_seconds()
    return ahead_s, "" if AHEAD_S_MIN <= ahead_s <= AHEAD_S_MAX else _told(ahead_s, zone)


def _unreadable(timestamp: str) -> str:
    """Say why a time cannot be read: a general library of AES fills the last block behind it, by the count of what it fills."""
    padded = _PADDED.fullmatch(timestamp)
    if padded and len(padded[1]) == ord(padded[1][0]):
        return (
            f"its time is right, but {len(padded[1])} bytes of PKCS#7 padding follow it: DC-09 fills its blocks before the data "
            "and has nothing behind the time; switch the padding of the panel's AES off"
        )
    return f"its time cannot be read: {timestamp[:40]!r}; it should be HH:MM:SS,MM-DD-YYYY, the month before the day"


def _told(ahead_s: float, zone: ZoneInfo | None) -> str:
    """Say it in words; what is off by whole quarters of an hour is a matter of time zones."""
    off_s = abs(ahead_s)
    told = f"the panel's clock is {_duration(off_s)} {'ahead' if ahead_s > 0 else 'behind'}"
    quarters, rest_s = divmod(off_s + 60, _QUARTER_S)
    if quarters >= 2 and rest_s <= 120 and off_s <= _ZONE_S_MAX + 60:  # noqa: PLR2004 - half an hour, give or take a minute
        if zone is not None:
            return f"{told}: is {zone.key} the time_zone it keeps, with summer time?"
        return f"{told}: does it send local time? Then its account needs a time_zone"
    return f"{told}: set it"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "h" and seconds >= size - 60):
            return f"{round(seconds / size, 1):g} {unit}"
    return f"{seconds:.0f} s"
