"""
Where an empty Redis begins, so that it need not be filled from the first entry of all; and with what, for what was open there.

    delivered.json, register, journal -> Beginning -> Refill
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from dispatch.alarm import Action, Priority
from dispatch.alarm_queue import PutEvent, SiteChange
from dispatch.register import NO_ID, Act, RegisterReader
from dispatch.sites import GHOST
from protocols.event import Category, Event, Format, Qualifier
from receiver.delivered import Delivered
from receiver.journal import JournalReader

ACTS_PAGE: Final = 1000
"""So many acts are read, and done again, at once."""
BACK_MAX: Final = 100_000
"""So many entries before the oldest open alarm an empty Redis begins at most: a minute's work or two."""
EARLIER: Final = "(earlier)"
"""The account of an alarm that stands for one whose entries are not put again. No account of a file can have this number."""
_CATEGORIES: Final = frozenset(map(str, Category))
GHOSTS_MS: Final = 60_000
"""For so long a ghost's alarm counts there: as in `lua/library.lua`."""
CLOCKS_APART_MS: Final = 86_400_000
"""So far may the clocks of Redis and of the receivers be apart, for acts to be found by their time."""


class Beginning(NamedTuple):
    """Where an empty Redis begins."""

    start: int
    """The position before the first entry that it needs."""
    done: int
    """The place in the register before the first act that it needs."""
    stand_ins: Sequence[SiteChange] = ()
    """What it must hold to begin with."""
    ghosts: Mapping[str, int] = {}
    """See `ghosts_before`."""


def beginning(state_dir: Path, reader: JournalReader, register: RegisterReader) -> Beginning:
    """Say where an empty Redis begins, and with what. It reads much: for a thread."""
    start, oldest = _start(state_dir, reader, register)
    done = _since(start if oldest is None else oldest, reader, register)
    changes = () if oldest is None else stand_ins(start, reader, register, done)
    return Beginning(start, done, changes, ghosts_before(start, reader, register, done))


def _start(state_dir: Path, reader: JournalReader, register: RegisterReader) -> tuple[int, int | None]:
    """
    Say where an empty Redis begins, and which entry opened the oldest alarm that was open there, if one was opened before.

    There should be none, or what joined it would open another one: so from the oldest that is open now, back to the oldest
    that was open then, or to what that needs, and so on; but not beyond what retention has left, nor `BACK_MAX` entries.
    """
    delivered = Delivered.read(state_dir)
    if delivered is None or not _is_of(delivered, reader):
        start = reader.first() - 1
        return start, 0 if start else None
    start = min(delivered.cursor + 1, delivered.oldest or delivered.cursor + 1)
    earliest = max(reader.first(), start - BACK_MAX)
    acts = _acts_on(register, reader.id, _since(earliest, reader, register))
    needed = ((act, min(opened, act.needed or opened)) for act, opened in acts if act.act == "close")
    ended = sorted((cursor_of(act, reader.id), first) for act, first in needed if first < start)
    while start > earliest and ended and ended[-1][0] >= start:
        start = min(start, ended.pop()[1])
    start = max(start, earliest)
    return start - 1, min((opened for cursor, opened in ended if cursor >= start > opened), default=None)


def _is_of(delivered: Delivered, reader: JournalReader) -> bool:
    """Say whether it tells of this journal, and not of what came behind an older copy of it that was put back since."""
    if delivered.journal != reader.id or delivered.cursor > reader.head():
        return False
    return not delivered.digest or (reader.digest(delivered.head) or b"").hex() == delivered.digest


def _since(position: int, reader: JournalReader, register: RegisterReader) -> int:
    """
    Give a place in the register up to which no act was done where the journal was at `position` or behind it.

    It is found by the time, so that a register of years need not be read. Where the clocks are further apart than
    `CLOCKS_APART_MS`, that is seen, and it is the register's beginning; as it is where the entry is deleted.
    """
    first = register.first()
    entries = reader.read(min(position, reader.head()) - 1, 1) if position >= reader.first() else []
    if not entries:
        return first - 1
    since = int(entries[0].report.received_at.timestamp() * 1000) - CLOCKS_APART_MS

    def is_later(place: int) -> bool:
        return all(act.id == NO_ID or act.at_ms >= since for _, act in register.acts(place - 1, 1))

    place = first - 1 + bisect_left(range(first, register.head() + 1), True, key=is_later)
    page = max(first - 1, place - ACTS_PAGE)
    if any(cursor_of(act, reader.id) >= position for _, act in register.acts(page, place - page)):
        return first - 1
    return place


def stand_ins(start: int, reader: JournalReader, register: RegisterReader, since: int) -> list[SiteChange]:
    """
    Return what a Redis that begins behind `start` must hold to begin with: of each site, the alarms that were open there.

    They have their ids, and what their sites' events are judged by, as the last act before told it; else the first one behind:
    until somebody has it in hand, an alarm takes in whatever comes. So what joined one then joins it now, and opens no other.
    since: the place in the register behind which all acts on them are.
    """
    told, closed = dict[str, tuple[int, Act]](), set[str]()
    for act, opened in _acts_on(register, reader.id, since):
        before = cursor_of(act, reader.id) <= start
        if opened > start:
            continue
        if before or act.alarm not in told:
            told[act.alarm] = opened, act
        if act.act == "close" and before:
            del told[act.alarm]
        elif act.act == "close":
            closed.add(act.alarm)
    by_site = dict[str, list[PutEvent]]()
    for _, act in sorted((told[alarm] for alarm in closed), key=itemgetter(0)):
        by_site.setdefault(act.site, []).append(_stand_in(act))
    return [
        SiteChange(site=site, name=site, version=0, state="", position=start, events=tuple(events))
        for site, events in by_site.items()
    ]


def ghosts_before(start: int, reader: JournalReader, register: RegisterReader, since: int) -> dict[str, int]:
    """
    Return the last ghosts' alarms that were opened up to `start`, and when, ms: they count for what is shown one by one.

    since: the place in the register behind which all acts on them are.
    """
    opened_at = {
        act.alarm: min(act.opened_at, act.at_ms)
        for act, opened in _acts_on(register, reader.id, since)
        if opened <= start and act.site.startswith(GHOST)
    }
    newest = max(opened_at.values(), default=0)
    return {alarm: at for alarm, at in opened_at.items() if at > newest - GHOSTS_MS}


def _stand_in(act: Act) -> PutEvent:
    category = Category(act.category) if act.category in _CATEGORIES else Category.UNKNOWN
    event = Event(
        EARLIER, Format.ARCGATE, "earlier", Qualifier.NEW, category, text="Opened before what this queue was filled from"
    )
    opened_at = min(act.opened_at, act.at_ms)
    head = {"id": act.alarm, "received_at": datetime.fromtimestamp(opened_at / 1000, UTC), "label": event.text}
    head |= {"priority": act.priority, "instruction": ""}
    return PutEvent(
        id=act.alarm,
        at=opened_at,
        action=Action.RAISE,
        priority=Priority(act.priority),
        life=bool(act.life),
        account=EARLIER,
        category=category,
        label=event.text or "",
        instruction="",
        steps="[]",
        body=msgspec.json.encode(head | msgspec.to_builtins(event)).decode(),
    )


def first_act_needed(state_dir: Path, reader: JournalReader, register: RegisterReader) -> int:
    """Return the place of the first act behind where an empty Redis begins; the one behind the last for none."""
    start, _ = _start(state_dir, reader, register)
    done = _since(start + 1, reader, register)
    while page := register.acts(done, ACTS_PAGE):
        for position, act in page:
            if cursor_of(act, reader.id) > start:
                return position
        done = page[-1][0]
    return done + 1


def _acts_on(register: RegisterReader, journal: str, done: int) -> Iterator[tuple[Act, int]]:
    """Give each act behind a place on an alarm that an entry of this journal opened, with that entry's position."""
    while page := register.acts(done, ACTS_PAGE):
        done = page[-1][0]
        for _, act in page:
            if opened := opened_by(act, journal):
                yield act, opened


def opened_by(act: Act, journal: str) -> int:
    """Give the position of the journal's entry that opened the act's alarm; 0 where it was none of this journal's."""
    by, _, position = act.alarm.rpartition("-")[0].rpartition("-")
    return int(position) if by == journal and position.isdecimal() else 0


def cursor_of(act: Act, journal: str) -> int:
    """Give how far the journal was applied to the site of the act's alarm, when it was done."""
    return act.cursors.get(journal, 0)
