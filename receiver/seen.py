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
from protocols.link import LinkTest, Received, Rejected

ACCOUNTS_MAX: Final = 1_000_000
"""Beyond these the one that was silent longest, of a few that were there first, is forgotten for the next."""
_LOOKED_AT: Final = 8

_Key = tuple[str, str | None, str | None, str]
"""Listener, receiver, line and account, each as sent: two panels may have the same number at two places."""


class Heard(msgspec.Struct, omit_defaults=True, gc=False):
    """One account. Small: there may be a million."""

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


class Seen:
    """One for all listeners."""

    def __init__(self, drift_s_max: float, state_dir: Path | None = None) -> None:
        """drift_s_max: how far a panel's clock may be off. state_dir: where it is kept whose is."""
        self._drift_s_max = drift_s_max
        self._path = state_dir and state_dir / "clocks_off.json"
        self._unsaved = False
        self._accounts: dict[_Key, Heard] = {}
        with suppress(OSError, msgspec.MsgspecError):
            kept = msgspec.json.decode(self._path.read_bytes(), type=list[_Key]) if self._path else []
            self._accounts = {key: Heard(clock_off=True) for key in kept}

    def note(self, listener: str, peer: str, item: Received, now: datetime) -> Event | None:
        """Remember a frame; returns what is to be raised with it. Each frame comes by: it stays a look-up and some stores."""
        key: _Key
        if isinstance(item, LinkTest):
            key = (listener, item.receiver, item.line, item.account)
        elif item.events:
            event = item.events[0]
            key = (listener, event.receiver, event.line, event.account)
        else:
            return None
        heard = self._accounts.get(key) or self._begin(key)
        if isinstance(item, Rejected):
            heard.refused = heard.refused or Counter()
            heard.refused[item.error.reason] += 1
            heard.refused_at = now
            return None
        heard.at, heard.peer = now, peer
        if item.dialects:
            heard.dialects = heard.dialects or Counter()
            heard.dialects.update(item.dialects)
        if item.ahead_s is None:
            return None
        heard.ahead_s = item.ahead_s
        off = abs(item.ahead_s)
        if heard.clock_off == (off > self._drift_s_max) or (heard.clock_off and off >= self._drift_s_max / 2):
            return None
        return self._turn(key, heard)

    def _begin(self, key: _Key) -> Heard:
        if len(self._accounts) >= ACCOUNTS_MAX:
            first = list(islice(self._accounts, _LOOKED_AT))
            looked_at = sorted(((known, self._accounts.pop(known)) for known in first), key=_silent_longest)
            self._accounts.update(looked_at[1:])  # behind all others: the next ones are looked at first
        heard = self._accounts[key] = Heard()
        return heard

    def _turn(self, key: _Key, heard: Heard) -> Event:
        """Raise that a clock is off, or restore it."""
        heard.clock_off = not heard.clock_off
        self._unsaved = True
        _, receiver, line, account = key
        ahead_s = heard.ahead_s or 0
        how = f"{abs(ahead_s):.0f} s {'ahead' if ahead_s > 0 else 'behind'}"
        text = (
            f"The panel's clock is {how}: set it, or its account's time_zone" if heard.clock_off else "The panel's clock is right"
        )
        qualifier = Qualifier.NEW if heard.clock_off else Qualifier.RESTORE
        return Event(account, Format.ARCGATE, "clock_off", qualifier, Category.GENERATED, receiver, line, text=text)

    def of(self, number: str) -> list[dict[str, Any]]:
        """Say what is remembered of an account, at each place where it was heard; case does not count."""
        number = number.upper()
        return [
            {"listener": key[0], "receiver": key[1], "line": key[2], "account": key[3], **msgspec.structs.asdict(heard)}
            for key, heard in self._accounts.items()
            if key[3].upper() == number
        ]

    def save(self) -> None:
        """Write down whose clock is off, where that has changed. An OSError is the caller's to tell."""
        if self._path and self._unsaved:
            new = self._path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode([key for key, heard in self._accounts.items() if heard.clock_off]))
            new.replace(self._path)
            self._unsaved = False


def _silent_longest(entry: tuple[_Key, Heard]) -> float:
    _, heard = entry
    return heard.at.timestamp() if heard.at else 0.0
