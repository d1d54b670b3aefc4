"""
The customers' places: who reports from there, whom to call, what to do.

    sites/*.toml     one site a file, by hand; `id` is the file's name without .toml, unless it is given
    sites/*.jsonl    one site a line, in bulk; `id` or `name` is needed, and each stands for the other

    name = "Baker's shop"
    accounts = ["1234", { number = "77", listener = "ip" }]
    [zones]
    1 = "Shop door"                                     # or { name = "Shop door", partition = "1" }
    [[contacts]]
    name = "A. Baker"
    [[instructions]]
    name = "Oven room at night"
    when = [{ rule = "zone", in = ["5"] }]              # dispatch/conditions.py has the rules
    priority = "intrusion"
    steps = ["Call A. Baker"]
"""

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, field

from dispatch.alarm import Priority
from dispatch.conditions import Condition, plain
from receiver.accounts import AccountAt, AccountIndex, Number
from receiver.load import Mistake, files, jsonl, toml

SITES_CACHED: Final = 10_000
"""So many sites stay decoded; the others are JSON text in memory, much smaller, and cost some microseconds when they report."""

GHOSTS: Final = "ghosts"
"""The id of the alarm that stands for many ghosts."""
GHOST: Final = "ghost:"
"""How the id of a ghost begins: a site that stands for an account which no site names."""

PriorityName = Literal["life", "fire", "confirmed", "intrusion", "technical", "fault", "schedule", "log"]
WrittenPriority = Annotated[
    Priority | PriorityName, Meta(description=f"one of {' '.join(p.name.lower() for p in Priority)}, or its number")
]
PRIORITIES: Final[dict[str | int, Priority]] = {key: p for p in Priority for key in (p, p.name.lower())}
"""A priority by its number and by its name, as people write it."""

# limits that msgspec checks without a regular expression: a site outside the cache is decoded for each report
_Line = Annotated[str, Meta(min_length=1, max_length=200, description="text of 1 to 200 characters")]
_OptionalLine = Annotated[str, Meta(max_length=200, description="text of at most 200 characters")]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all parts of a site share."""


class Zone(_Part, frozen=True):
    """A place in the site that a detector watches."""

    name: _Line
    partition: str | None = None


class Contact(_Part, frozen=True):
    """Somebody to call."""

    name: _Line
    role: _OptionalLine = ""
    phone: _OptionalLine = ""
    """For the operator's eyes: never logged."""

    def __repr__(self) -> str:
        return "Contact(...)"


class Instruction(_Part, frozen=True):
    """What to do when all conditions hold; the first that matches is followed."""

    name: _Line
    written_priority: WrittenPriority = field(name="priority")
    when: tuple[Condition, ...] = ()
    """Empty: always."""
    steps: tuple[_Line, ...] = ()

    @property
    def priority(self) -> Priority:
        """How urgent the event is then."""
        return PRIORITIES[self.written_priority]


class Site(_Part, frozen=True):
    """A customer's place."""

    accounts: tuple[Number | Annotated[AccountAt, Meta(description="a table with a number")], ...]
    id: _OptionalLine = ""
    name: _OptionalLine = ""
    time_zone: str = "UTC"
    """Of the IANA database: "Europe/Paris"."""
    language: Annotated[str, Meta(min_length=2, max_length=2, description='two letters: "en", "fr"')] = "en"
    """Of the centre's own steps, where they exist in it."""
    zones: dict[str, _Line | Zone] = {}
    contacts: tuple[Contact, ...] = ()
    instructions: tuple[Instruction, ...] = ()

    def zone(self, number: str) -> Zone | None:
        """Give the zone of a number as a panel sent it; leading zeros do not count."""
        for written, zone in self.zones.items():
            if plain(written) == plain(number):
                return zone if isinstance(zone, Zone) else Zone(zone)
        return None


def ghost(listener: str, account: str) -> Site:
    """Make the stand-in for an account, as sent, that no site names."""
    return Site((AccountAt(account, listener),), f"{GHOST}{account.upper()}", f"Unknown account {account}")


@cache
def clock(time_zone: str) -> ZoneInfo:
    """Give the rules of a time zone; each is read once. Raises ValueError or KeyError where there is none of that name."""
    return ZoneInfo(time_zone)


class Sites:
    """All sites of the centre, by what a frame says of its account, and by id."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []
        self._ids: dict[str, int] = {}
        self._index = AccountIndex()
        self._site = lru_cache(SITES_CACHED)(self._decode)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, listener: str, receiver: str | None, line: str | None, account: str) -> Site | None:
        """Give the site of an account, its fields as sent, the most specific entry first; None where no site names it."""
        row = self._index.find(listener, receiver, line, account)
        return None if row is None else self._site(row)

    def get(self, site: str) -> Site | None:
        """Give the site of an id."""
        row = self._ids.get(site)
        return None if row is None else self._site(row)

    def add(self, site: Site) -> list[tuple[str, str, int]]:
        """
        Add a complete site; what it shares with one that is there already stays with that one.

        Returns each clash: its path in the site, what is shared, and the position, counted from 0, of the other site.
        """
        row = len(self._rows)
        if (before := self._ids.setdefault(site.id, row)) != row:
            return [("id", f"site {site.id!r}", before)]
        self._rows.append(_ENCODER.encode(site))
        clashes = []
        for n, account in enumerate(site.accounts):
            at = account if isinstance(account, AccountAt) else AccountAt(account)
            if (other := self._index.add(at, row)) is not None:
                clashes.append((f"accounts[{n}]", str(at), other))
        return clashes

    def _decode(self, row: int) -> Site:
        return _DECODER.decode(self._rows[row])


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Site)


def load(folder: Path) -> tuple[Sites, list[Mistake]]:
    """Read every file of the folder (missing: empty), and tell every mistake. Never raises on what the files hold."""
    sites, mistakes = Sites(), list[Mistake]()
    homes: list[str] = []
    for path in files(folder, mistakes):
        home = str(path)
        for place, written in _read(path, mistakes):
            site = msgspec.structs.replace(written, id=written.id or written.name, name=written.name or written.id)
            wrong = list(_check(site))
            mistakes += [Mistake(place, *fault) for fault in wrong]
            if wrong:
                continue
            homes.append(home)
            for at, shared, before in sites.add(site):
                mistakes.append(Mistake(place, at, f"{shared} is in {homes[before]} too: each belongs to one site"))
            del homes[len(sites) :]
    return sites, mistakes


def _read(path: Path, mistakes: list[Mistake]) -> Iterable[tuple[str, Site]]:
    if path.suffix == ".jsonl":
        return jsonl(path, Site, mistakes)
    site = toml(path, Site, mistakes)
    return [(str(path), msgspec.structs.replace(site, id=site.id or path.stem))] if site else []


def _check(site: Site) -> Iterator[tuple[str, str]]:
    """Find what the types alone do not: each mistake's path and message."""
    if not site.id:
        yield "id", "is missing: give an `id` or a `name`"
    if site.id == GHOSTS or site.id.startswith(GHOST):
        yield "id", "`ghosts` and `ghost:...` are the gateway's own: choose another"
    try:
        clock(site.time_zone)
    except (ValueError, KeyError, OSError):
        yield "time_zone", 'unknown: give a name of the IANA database, such as "Europe/Paris"'
    numbers = [plain(number) for number in site.zones]
    for number in site.zones if len(set(numbers)) < len(numbers) else ():
        if numbers.count(plain(number)) > 1:
            yield f"zones.{number}", "another zone differs in leading zeros only: they are the same zone"
