"""
What the receiver remembers of each account, for who connects panels: `arcgate status --account N`.

    note(each frame) -> last heard, how far its clock is ahead, its dialects, why it was refused
                     -> Event `clock_off` where the clock passes `drift_s_max`, and its restore when it is back

In memory alone, but for whose clock is off: a restart must not raise that again, nor forget to restore it.
"""

from collections import Counter
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from protocols.event import Category, Event, Format, Qualifier
from protocols.link import LinkTest, Message, Rejected

ACCOUNTS_MAX: Final = 1_000_000
"""Beyond these the one that was silent longest, of a few that were there first, is forgotten for the next."""
PLACES_MAX: Final = 16
"""Of one number: panels that differ in R or L alone."""
_LOOKED_AT: Final = 8

_decode: Final = msgspec.json.Decoder(list[tuple[str, str | None, str | None]]).decode


class Heard(msgspec.Struct, gc=False):
    """One account. Small: there may be a million."""

    account: str
    """As sent, as the next two are."""
    receiver: str | None
    line: str | None
    at: datetime | None = None
    """When its last accepted frame came."""
    peer: str = ""
    ahead_s: float | None = None
    """How far its clock was ahead, where its last frames said so."""
    clock_off: bool = False
    """Whether that is raised."""
    dialects: Counter[str] | None = None
    """How many frames departed from the standard, by name of how."""
    refused: Counter[str] | None = None
    """How many were refused, by reason."""
    refused_at: datetime | None = None
    others: tuple[str, ...] = ()
    """Where those are remembered that have the same number at another place."""


class Seen:
    """One a listener."""

    def __init__(self, listener: str, drift_s_max: float, state_dir: Path | None = None) -> None:
        """drift_s_max: how far a panel's clock may be off. state_dir: where it is kept whose is."""
        self._listener, self._drift_s_max = listener, drift_s_max
        self._path = state_dir and state_dir / f"clocks_off.{listener}.json"
        self._unsaved = False
        self._accounts: dict[str, Heard] = {}
        """By number, as sent; a second panel of the same number by number and place."""
        with suppress(OSError, msgspec.MsgspecError):
            for place in _decode(self._path.read_bytes()) if self._path else ():
                self._find(*place).clock_off = True

    def note(self, peer: str, item: Message | LinkTest, now: datetime) -> Event | None:
        """Remember a frame; returns what is to be raised with it. Each frame comes by: it stays a look-up and some stores."""
        who: Event | LinkTest = item.events[0] if type(item) is Message else item  # type: ignore[assignment] # isinstance: 0.2 us
        heard = self._accounts.get(who.account)
        if heard is None or heard.line != who.line or heard.receiver != who.receiver:
            heard = self._find(who.account, who.receiver, who.line)
        heard.at = now
        heard.peer = peer
        if item.dialects:
            heard.dialects = heard.dialects or Counter()
            heard.dialects.update(item.dialects)
        ahead_s = item.ahead_s
        if ahead_s is None:
            return None
        heard.ahead_s = ahead_s
        if abs(ahead_s) <= self._drift_s_max and not heard.clock_off:
            return None
        return self._judge(heard, abs(ahead_s))

    def note_refused(self, rejected: Rejected, now: datetime) -> None:
        """Remember a frame that was refused, where it names an account."""
        if rejected.events:
            who = rejected.events[0]
            heard = self._find(who.account, who.receiver, who.line)
            heard.refused = heard.refused or Counter()
            heard.refused[rejected.error.reason] += 1
            heard.refused_at = now

    def _find(self, account: str, receiver: str | None, line: str | None) -> Heard:
        """Give what is remembered of a panel, which may be nothing yet; beyond PLACES_MAX they share the first's."""
        first = self._accounts.get(account)
        if first is None:
            return self._begin(account, Heard(account, receiver, line))
        place = f"{account} R{receiver} L{line}"  # an account has no blank
        if (first.receiver, first.line) == (receiver, line) or (place not in first.others and len(first.others) >= PLACES_MAX):
            return first
        if other := self._accounts.get(place):
            return other
        first.others = (*(known for known in first.others if known != place), place)
        return self._begin(place, Heard(account, receiver, line))

    def _begin(self, key: str, heard: Heard) -> Heard:
        if len(self._accounts) >= ACCOUNTS_MAX:
            first = list(islice(self._accounts, _LOOKED_AT))
            looked_at = sorted(((known, self._accounts.pop(known)) for known in first), key=_silent_longest)
            self._accounts.update(looked_at[1:])  # behind all others: the next ones are looked at first
        self._accounts[key] = heard
        return heard

    def _judge(self, heard: Heard, off_s: float) -> Event | None:
        """Raise that a clock is off, once; restore it when it is well back."""
        if heard.clock_off and off_s >= self._drift_s_max / 2:
            return None
        heard.clock_off = not heard.clock_off
        self._unsaved = True
        ahead_s = heard.ahead_s or 0
        how = f"{abs(ahead_s):.0f} s {'ahead' if ahead_s > 0 else 'behind'}"
        off = f"The panel's clock is {how}: set it, or its account's time_zone"
        qualifier, text = (Qualifier.NEW, off) if heard.clock_off else (Qualifier.RESTORE, "The panel's clock is right")
        place = heard.receiver, heard.line
        return Event(heard.account, Format.ARCGATE, "clock_off", qualifier, Category.GENERATED, *place, text=text)

    def of(self, number: str) -> list[dict[str, Any]]:
        """Say what is remembered of an account, at each place where it was heard; written as sent, or all in one case."""
        names = dict.fromkeys((number, number.upper(), number.lower()))
        first = [self._accounts[name] for name in names if name in self._accounts]
        others = [self._accounts[place] for heard in first for place in heard.others if place in self._accounts]
        told = [msgspec.structs.asdict(heard) for heard in first + others]
        return [{"listener": self._listener} | {key: heard[key] for key in heard if key != "others"} for heard in told]

    def save(self) -> None:
        """Write down whose clock is off, where that has changed; raises OSError."""
        if self._path and self._unsaved:
            off = [(heard.account, heard.receiver, heard.line) for heard in self._accounts.values() if heard.clock_off]
            new = self._path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(off))
            new.replace(self._path)
            self._unsaved = False


def _silent_longest(entry: tuple[str, Heard]) -> float:
    _, heard = entry
    return heard.at.timestamp() if heard.at else 0.0
