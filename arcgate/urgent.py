"""
`arcgate journal watch`: each report as it comes, with its site and what to do; a room works from it while the queue is away.

    JournalReader.read() -> Sites.find() -> decide() -> Told -> a few lines for a person, or one of JSON

It needs the journal and the sites, and no Redis: a site's past is what has been watched of it.
"""

import sys
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from arcgate.output import printable
from dispatch import sites
from dispatch.alarm import Placement, Priority
from dispatch.engine import decide
from dispatch.sites import Contact, Site
from dispatch.state import SiteState
from protocols import codes
from protocols.event import Category, Format, Qualifier
from receiver.config import Config
from receiver.journal import Entry, JournalError, JournalReader

BACK_S: Final = 600
"""With --urgent it begins so long ago: whoever opens it in an outage sees what has come."""
URGENT: Final = Priority.INTRUSION
"""The least urgent priority that --urgent shows."""
SITES_REMEMBERED: Final = 50_000
"""Of so many sites, what came before is known: what is repeated, and what is refused over and over."""
POLL_S: Final = 0.1
AGAIN_S: Final = 1.0
"""How often a journal that cannot be read is tried."""
_BATCH: Final = 1000
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it is told: what came, from where, and what to do. Its JSON is what --json prints."""

    position: int
    id: str
    received_at: datetime
    """UTC."""
    local_time: datetime
    """The same moment by the site's clock."""
    priority: Priority
    site: str
    """The site's id; that of a ghost begins with `ghost:`."""
    name: str
    listener: str
    account: str
    format: Format
    code: str
    qualifier: Qualifier
    category: Category
    label: str
    partition: str | None
    zone: str | None
    zone_name: str | None
    """As the site names it."""
    user: str | None
    text: str | None
    occurred_at: datetime | None
    extended: tuple[tuple[str, str], ...]
    instruction: str
    steps: tuple[str, ...]
    contacts: tuple[Contact, ...]
    repeat_of: str | None
    """The id of the event that this one repeats."""
    mark: str
    """What was wrong with its frame, where it is raised all the same."""


def watch(loaded: Config, after: int | None, *, urgent: bool, json: bool) -> None:
    """
    Print the events of each entry as it comes, for ever.

    after: the position behind which it begins; None: what comes from now on, with `urgent` from `BACK_S` ago.
    """
    begun = datetime.now(UTC) - timedelta(seconds=BACK_S if urgent else 0)
    known, mistakes = sites.load(loaded.sites)
    for mistake in mistakes:
        _say(f"{mistake}: what is wrong there is left out")
    states = OrderedDict[str, SiteState]()
    encode = msgspec.json.Encoder().encode
    for journal, entries in _follow(loaded.state_dir, after, begun):
        told = [event for entry in entries for event in _tell(known, states, journal, entry)]
        if urgent:
            told = [event for event in told if event.priority <= URGENT]  # life-safety is at most FIRE, whatever a site says
        sys.stdout.write("".join([f"{encode(event).decode()}\n" if json else page(event) for event in told]))
        sys.stdout.flush()  # whoever reads it acts on it now


def page(told: Told) -> str:
    """Write an event for the operator. What a panel or a file says moves no cursor."""
    lines = [f"{told.local_time:%Y-%m-%d %H:%M:%S %Z}  {told.priority.name}  {told.name}  account {told.account}"]
    zone = told.zone and f"zone {told.zone}{f': {told.zone_name}' if told.zone_name else ''}"
    partition, user = (told.partition and f"partition {told.partition}", told.user and f"user {told.user}")
    text = told.text or dict(told.extended).get("I")
    mark = told.mark if told.mark not in (text or "") else ""
    what = f"{told.label} ({told.code or told.format})"
    lines.append(
        "  ".join(filter(None, (what, zone, partition, user, text, mark, told.repeat_of and f"REPEAT of {told.repeat_of}")))
    )
    if told.priority is not Priority.LOG and not told.repeat_of:
        lines.append(f"{told.instruction}:")
        lines += [f"  {n}. {step}" for n, step in enumerate(told.steps, 1)]
        lines += [f"  contact: {', '.join(filter(None, (who.name, who.role, who.phone)))}" for who in told.contacts]
    return "\n    ".join(map(printable, lines)) + "\n"


def _tell(known: sites.Sites, states: OrderedDict[str, SiteState], journal: str, entry: Entry) -> Iterator[Told]:
    report = entry.report
    if not report.events:
        return
    event = report.events[0]  # a frame is of one account
    if event.format is Format.ARCGATE and event.code == "unreadable_entry":
        _say(event.text or "")
    site = known.find(report.listener, event.receiver, event.line, event.account)
    site = site or sites.ghost(report.listener, event.account)
    decision = decide(site, states.pop(site.id, SiteState()), entry, journal, report.received_at)
    states[site.id] = decision.state
    if len(states) > SITES_REMEMBERED:
        states.popitem(last=False)
    for placement in decision.placements:
        yield _told(site, entry, placement)


def _told(site: Site, entry: Entry, placement: Placement) -> Told:
    event = placement.event
    zone = site.zone(event.zone) if event.zone else None
    return Told(
        position=entry.position,
        id=placement.id,
        received_at=entry.report.received_at,
        local_time=entry.report.received_at.astimezone(sites.clock(site.time_zone)),
        priority=placement.priority,
        site=site.id,
        name=site.name,
        listener=entry.report.listener,
        account=event.account,
        format=event.format,
        code=event.code,
        qualifier=event.qualifier,
        category=event.category,
        label=codes.label(event),
        partition=event.partition,
        zone=event.zone,
        zone_name=zone.name if zone else None,
        user=event.user,
        text=event.text,
        occurred_at=event.occurred_at,
        extended=event.extended,
        instruction=placement.instruction,
        steps=placement.steps,
        contacts=site.contacts,
        repeat_of=placement.repeat_of,
        mark=placement.mark,
    )


def _follow(state_dir: Path, after: int | None, begun: datetime) -> Iterator[tuple[str, Sequence[Entry]]]:
    """Give the journal's id and its entries for ever, through every fault; another journal in its place is followed instead."""
    journal, position, said = "", after, ""
    while True:
        try:
            with closing(JournalReader(state_dir)) as reader:
                if position is None or (journal and journal != reader.id) or position > reader.head():
                    position = bisect_left(range(reader.head()), begun, key=lambda behind: _received_at(reader, behind))
                if journal != reader.id:
                    _say(f"watching journal {reader.id} from entry {position + 1}; Ctrl-C ends it")
                journal = reader.id
                for entries in _entries(reader, position):
                    position, said = entries[-1].position, ""
                    yield journal, entries
        except JournalError as error:
            if str(error) != said:
                _say(f"{error}. It is tried again each second")
            said = str(error)
            time.sleep(AGAIN_S)


def _received_at(reader: JournalReader, behind: int) -> datetime:
    """Say when the entry behind a position came; what cannot be read is taken for late: more is shown, not less."""
    with suppress(JournalError):
        for entry in reader.read(behind, 1):
            return entry.report.received_at
    return _NEVER


def _entries(reader: JournalReader, after: int) -> Iterator[list[Entry]]:
    """Give what stands behind a position, and what comes, for ever. Raises JournalError where another journal is in its place."""
    while True:
        reader.check_place()
        try:
            entries = reader.read(after, _BATCH)
        except JournalError as error:
            entries = list(_behind_damage(reader, after, error))
        if entries:
            after = entries[-1].position
            yield entries
        else:
            time.sleep(POLL_S)


def _behind_damage(reader: JournalReader, after: int, error: JournalError) -> Iterator[Entry]:
    """Give the next entry that can be read, or fail as before where there is none yet."""
    for behind in range(after, reader.head()):
        try:
            entries = reader.read(behind, 1)
        except JournalError:
            continue
        if behind > after:
            _say(f"entries {after + 1} to {behind} cannot be read: {error}")
        yield from entries
        return
    raise error


def _say(message: str) -> None:
    print(printable(message), file=sys.stderr, flush=True)
