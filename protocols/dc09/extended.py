"""
Extended data of DC-09: what stands in `[x...]` behind the data, read where it has a form.

    X, Y    006E07.777      decimal degrees: east and north are positive
    Z       123.2M          metres
    V       a comma list of addresses: one pair each, where its scheme is allowed; else under "V?"
    K       a key           never kept
    other   as sent; H, the time of occurrence, too

A coordinate that cannot be read is kept under "X?", "Y?" or "Z?".
"""

import re
from typing import Final

from protocols.dc09.frame import PAIR

PAIRS_MAX: Final = 64
"""From one frame, with each address of V; what is more is dropped from the event, not from the journal's frame."""
_DEGREES: Final = re.compile(r"([0-9]{1,3})([EWNS])([0-9]{1,2}(?:\.[0-9]+)?)", re.ASCII)
_METRES: Final = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)M?", re.ASCII)
_ADDRESS: Final = re.compile(r",\s*(?=[A-Za-z][A-Za-z0-9+.-]*:)", re.ASCII)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)


def read(extended: str, url_schemes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return (id, value) in order, repeats kept. extended: the blocks as sent. url_schemes: those of V that are let through."""
    pairs: list[tuple[str, str]] = []
    for key, value in PAIR.findall(extended):
        match key:
            case "X" | "Y":
                pairs.append(_degrees(key, value))
            case "Z":
                metres = _METRES.fullmatch(value)
                pairs.append(("Z", metres[1]) if metres else ("Z?", value))
            case "V":
                pairs += [_address(address.strip(), url_schemes) for address in _ADDRESS.split(value)]
            case "K":
                pairs.append(("K", "(secret)"))
            case _:
                pairs.append((key, value))
    return tuple(pairs[:PAIRS_MAX])


def _degrees(key: str, value: str) -> tuple[str, str]:
    """Read degrees and minutes, `093W23.456`; to the seventh digit, a centimetre."""
    match = _DEGREES.fullmatch(value)
    side, limit = ("EW", 180.0) if key == "X" else ("NS", 90.0)
    if match is None or match[2] not in side or float(match[3]) >= 60:  # noqa: PLR2004 - minutes
        return f"{key}?", value
    degrees = int(match[1]) + float(match[3]) / 60
    if degrees > limit:
        return f"{key}?", value
    return key, f"{-degrees if match[2] in 'WS' else degrees:.7f}"


def _address(address: str, url_schemes: tuple[str, ...]) -> tuple[str, str]:
    scheme = _SCHEME.match(address)
    return ("V" if scheme and scheme[1].lower() in url_schemes else "V?"), address
