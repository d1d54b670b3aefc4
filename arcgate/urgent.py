"""
`arcgate journal watch`: each report as it comes, with its site and what to do; a room works from it while the queue is away.

    JournalReader.read() -> Sites.find() -> decide() -> Told -> a few lines for a person, or one of JSON

It needs the journal and the sites, and no Redis: each report is decided on by itself, as for a site without a past.
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
from dispatch.state import REPEAT_S, SiteState
from protocols import codes
from protocols.event import Category, Format, Qualifier
from receiver.config import Config
from receiver.journal import Entry, JournalError, JournalReader

BACK_S: Final = 600
"""With --urgent it begins so long ago: whoever opens it in an outage sees what has come."""
URGENT: Final = Priority.INTRUSION
"""The least urgent priority that --urgent shows."""
FRAMES_REMEMBERED: Final = 50_000
"""So many frames are known again when they are repeated."""
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


def watch(loaded: Config, after: int | None, *, urgent: bool, json: bool) -> None:
    """
    Print the events of each entry as it comes, for ever.

    after: the position behind which it begins; None: what comes from now on, with `urgent` from `BACK_S` ago.
    """
    begun = datetime.now(UTC) - timedelta(seconds=BACK_S if urgent else 0)
    known, mistakes = sites.load(loaded.sites)
    for mistake in mistakes:
        _say(f"{mistake}: what is wrong there is left out")
    memory = _Memory()
    encode = msgspec.json.Encoder().encode
    for journal, entries in _follow(loaded.state_dir, after, begun):
        told = [event for entry in entries for event in _tell(known, memory, journal, entry)]
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
    what = f"{told.label} ({told.code or told.format})"
    lines.append("  ".join(filter(None, (what, zone, partition, user, text, told.repeat_of and f"REPEAT of {told.repeat_of}"))))
    if told.priority is not Priority.LOG and not told.repeat_of:
        lines.append(f"{told.instruction}:")
        lines += [f"  {n}. {step}" for n, step in enumerate(told.steps, 1)]
        lines += [f"  contact: {', '.join(filter(None, (who.name, who.role, who.phone)))}" for who in told.contacts]
    return "\n    ".join(map(printable, lines)) + "\n"


class _Memory:
    """What was received within `REPEAT_S`, by which a repetition is known."""

    def __init__(self) -> None:
        self._heard: OrderedDict[tuple[str, str, str], tuple[datetime, str]] = OrderedDict()

    def original(self, site: str, entry: Entry, place: str) -> str | None:
        """Say which place, `<journal>-<position>`, this entry repeats; None where it is new."""
        report = entry.report
        if not report.identity:
            return None
        key = site, report.events[0].account.upper(), report.identity
        at, original = self._heard.pop(key, (None, place))
        if at is None or report.received_at - at > timedelta(seconds=REPEAT_S):
            original = place
        self._heard[key] = report.received_at, original
        if len(self._heard) > FRAMES_REMEMBERED:
            self._heard.popitem(last=False)
        return None if original == place else original


def _tell(known: sites.Sites, memory: _Memory, journal: str, entry: Entry) -> Iterator[Told]:
    report = entry.report
    if not report.events:
        return
    event = report.events[0]  # a frame is of one account
    if event.format is Format.ARCGATE and event.code == "unreadable_entry":
        _say(event.text or "")
    site = known.find(report.listener, event.receiver, event.line, event.account)
    site = site or sites.ghost(report.listener, event.account)
    original = memory.original(site.id, entry, f"{journal}-{entry.position:012d}")
    decision = decide(site, SiteState(), entry, journal, report.received_at)
    for n, placement in enumerate(decision.placements):
        yield _told(site, entry, placement, original and f"{original}-{n}")


def _told(site: Site, entry: Entry, placement: Placement, repeat_of: str | None) -> Told:
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
        label=codes.label(event, site.language),
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
        repeat_of=repeat_of,
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
