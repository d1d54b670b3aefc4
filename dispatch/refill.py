"""
Bring an empty or older Redis up: reports and acts are done again, in the order in which they came.

    what was open where it begins -> journal entries from the oldest open alarm on, and between them each act of the register
    at the cursor at which it was done

Sites do not depend on each other, so it is each site's order that is kept: many sites' entries are put at once, then their acts
done at once. What is done twice is as done once, so whatever interrupts this, it begins again. Consoles may work meanwhile: what
they see is what stood in the queue at that point of its history.
"""

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Protocol

from dispatch.alarm_queue import AlarmQueue, ReplayedAct
from dispatch.beginning import ACTS_PAGE, Beginning, cursor_of, opened_by
from dispatch.register import NO_ID, Act, RegisterReader
from dispatch.sites import GHOST, GHOSTS, Site
from receiver.journal import Entry, JournalReader

STAND_INS_A_PUT: Final = 256
SAY_S: Final = 2.0
"""How often it says how far it is."""


BySite = dict[str, tuple[Site, list[Entry]]]
"""Entries by the id of the site whose they are."""


class Applies(Protocol):
    """Who puts a journal's entries into the queue, as the follower does."""

    @property
    def cursor(self) -> int:
        """How far they are put."""

    async def read_on(self, until: int) -> tuple[Entry | None, BySite]:
        """Give the next entries behind the cursor, up to a position but no more than a batch; the last, and of what sites."""

    async def apply(self, sites: BySite, last: Entry | None) -> None:
        """Put entries; the cursor moves to `last`, with None it stays: what was put is not put again for all that."""


class WrongJournal(Exception):  # noqa: N818 - it says what happened
    """Redis and the journal do not belong together, and going on would skip or repeat reports; the message says what to do."""


def check_history(
    reader: JournalReader, node: str, cursors: Mapping[str, int], heads: Mapping[str, tuple[int, str]], last: Act | None
) -> None:
    """
    See that this journal is the one that Redis was fed from.

    cursors, heads: as `AlarmQueue` reads them. last: the newest act of the register. Raises WrongJournal where the journal is
    another node's, another than this node's in Redis, shorter than what Redis or the register has seen of it, begins behind what
    Redis has seen, or holds something else at the place up to which Redis was fed.
    """
    begun_by = reader.id.rpartition("-")[0]
    if begun_by != node:
        raise WrongJournal(
            f"journal {reader.id} was begun by node {begun_by}, and this is node {node}: write node = {begun_by!r} again; "
            f"for a new node, give it a state_dir of its own"
        )
    cursor = cursors.get(reader.id, 0)
    others = sorted(name for name in cursors if ":" not in name and name.rpartition("-")[0] == node and name != reader.id)
    if reader.id not in cursors and others:
        raise WrongJournal(
            f"Redis was fed from journal {others[-1]} of this node, and here is another, {reader.id}: put the right one "
            f"back; if it is gone for good, `arcgate journal forget {others[-1]}` lets this one begin. Two machines need "
            "two names: `node` in arcgate.toml"
        )
    if cursor > reader.head():
        raise WrongJournal(
            f"Redis has applied entry {cursor} of journal {reader.id}, whose last is {reader.head()}: was an older copy "
            "put back? Put the right one there; if it is gone for good, move this one away and "
            f"`arcgate journal forget {reader.id}`"
        )
    if last and last.cursors.get(reader.id, 0) > reader.head():
        raise WrongJournal(
            f"an act of the register was done at entry {last.cursors[reader.id]} of journal {reader.id}, whose last is "
            f"{reader.head()}: was an older copy put back? Put the right one there, or begin with an empty one"
        )
    if 0 < cursor < reader.first() - 1:
        raise WrongJournal(
            f"Redis has applied entry {cursor} of journal {reader.id}, and retention has deleted the entries up to "
            f"{reader.first() - 1}: this Redis is an older copy. Delete its keys of this centre, it is filled from what is here"
        )
    position, digest = heads.get(reader.id, (0, ""))
    if position >= reader.first() and (found := reader.digest(position)) and found.hex() != digest:
        raise WrongJournal(
            f"entry {position} of journal {reader.id} is not the one that Redis was fed with: the journal was rewritten, or an "
            "older copy was put back and written on; `arcgate journal verify` tells more. Put the right one back"
        )


def rounds(
    sites: BySite, acts: Sequence[Act], at: Callable[[Act], int], site_of: Callable[[Act], str]
) -> list[tuple[BySite, list[Act]]]:
    """
    Split a batch into rounds, of each of which the entries can be put at once, and then the acts done at once.

    Of each site, every act comes behind the entries up to `at(act)`, and before those behind it. acts: in the order of `at`.
    All ghosts count as one site, for they have a limit together.
    """
    ends = dict[str, list[int]]()
    for act in acts:
        of_site = ends.setdefault(_together(site_of(act)), [])
        if not of_site or of_site[-1] < at(act):
            of_site.append(at(act))
    made = dict[int, tuple[BySite, list[Act]]]()
    for name, (site, entries) in sites.items():
        of_site = ends.get(_together(name), [])
        for entry in entries:
            part, _ = made.setdefault(bisect_left(of_site, entry.position), ({}, []))
            part.setdefault(name, (site, []))[1].append(entry)
    for act in acts:
        made.setdefault(bisect_left(ends[_together(site_of(act))], at(act)), ({}, []))[1].append(act)
    return [made[number] for number in sorted(made)]


def _together(site: str) -> str:
    return GHOSTS if site.startswith(GHOST) else site


class Refill:
    """One bringing up."""

    def __init__(
        self,
        queue: AlarmQueue,
        reader: JournalReader,
        register: RegisterReader,
        follower: Applies,
        log: Any,  # noqa: ANN401 - a structlog logger
    ) -> None:
        self._queue, self._reader, self._register, self._follower, self._log = queue, reader, register, follower, log
        self._said_at = time.monotonic()

    async def run(self, done: int) -> int:
        """
        Do again all acts of the register behind position `done` that Redis does not have; returns how many there were.

        Before each, the journal's entries up to where the alarm's site was when it was done. What comes behind the last act is
        not applied.
        """
        head, begun = self._register.head(), self._follower.cursor
        reached, redone, early = done, 0, 0
        lost = list[tuple[int, int]]()
        """Where each has to be done, and where it stands in the register: of years, the acts themselves would not fit."""
        while reached < head and (page := await asyncio.to_thread(self._register.acts, reached, ACTS_PAGE)):
            here = await self._queue.act_ids(page[0][1].id, page[-1][1].id)
            missing = [(self._cursor_of(act), position, act) for position, act in page if act.id not in here]
            # No entry that is put again comes before these
            before = [act for cursor, _, act in missing if cursor <= begun]
            await self._replay(before, done)
            lost += [(cursor, position) for cursor, position, _ in missing if cursor > begun]
            early += len(before)
            reached = page[-1][0]
        lost.sort()
        while redone < len(lost):
            last, sites = await self._follower.read_on(lost[-1][0])
            upto = bisect_right(lost, last.position, redone, key=itemgetter(0)) if last else len(lost)
            acts = await asyncio.to_thread(self._acts_at, [position for _, position in lost[redone:upto]])
            await self._again(last, sites, acts, done)
            redone = upto
            self._say(last.position if last else self._reader.head(), early + redone, early + len(lost))
        digest = self._register.digest(reached)
        await self._queue.replay(self._register.id, reached, [], digest.hex() if digest else "")
        return early + len(lost)

    async def begin_empty(self, begin: Beginning) -> None:
        """Have an empty Redis begin, with what was open there. A site that another node has put stays."""
        for first in range(0, len(begin.stand_ins), STAND_INS_A_PUT):
            await self._queue.put(self._reader.id, 0, begin.stand_ins[first : first + STAND_INS_A_PUT])  # no cursor moves
        await self._queue.note_ghosts(begin.ghosts)
        await self._queue.replay(self._register.id, begin.done, [])
        digest = self._reader.digest(begin.start)
        await self._queue.put(self._reader.id, begin.start, [], digest.hex() if digest else "")

    async def begin(self, done: int) -> None:
        """
        Keep from the consoles what will be closed: they would act on it, and change what later events do.

        done: as for `run`. Until all journals have put back what was lost, nothing is closed.
        """
        last, head, page = self._register.last(), self._register.head(), list[tuple[int, Act]]()
        while True:
            closing = [act.alarm for _, act in page if act.act == "close"]
            await self._queue.refill(self._reader.id, last.id if last else NO_ID, closing, list(last.cursors if last else ()))
            if done >= head or not (page := await asyncio.to_thread(self._register.acts, done, ACTS_PAGE)):
                return
            done = page[-1][0]

    async def _again(self, last: Entry | None, sites: BySite, acts: Sequence[Act], done: int) -> None:
        """Put a batch of entries, and do its acts again, as they came."""
        start = min((entries[0].position for _, entries in sites.values()), default=self._reader.head() + 1) - 1
        opening = {entry.position: name for name, (_, entries) in sites.items() for entry in entries}
        # An alarm is of the site that had its account when it was opened here: which one has it may have changed since the act
        here = dict[str, str]()
        for first in range(0, len(acts), ACTS_PAGE):
            here |= await self._queue.sites_of([act.alarm for act in acts[first : first + ACTS_PAGE]])

        def site_of(act: Act) -> str:
            return here.get(act.alarm) or opening.get(opened_by(act, self._reader.id)) or act.site

        for part, now in rounds(sites, acts, lambda act: max(self._cursor_of(act), start), site_of):
            if part:
                await self._follower.apply(part, None)
            await self._replay(now, done)
        if last:
            await self._follower.apply({}, last)

    async def _replay(self, acts: Sequence[Act], done: int) -> None:
        for first in range(0, len(acts), ACTS_PAGE):
            page = [_replayed(act, self._reader.id) for act in acts[first : first + ACTS_PAGE]]
            await self._queue.replay(self._register.id, done, page)

    def _acts_at(self, positions: Sequence[int]) -> list[Act]:
        """Read acts again, by where they stand in the register."""
        return [act for position in positions for at, act in self._register.acts(position - 1, 1) if at == position]

    def _cursor_of(self, act: Act) -> int:
        return cursor_of(act, self._reader.id)

    def _say(self, cursor: int, act: int, acts: int) -> None:
        if time.monotonic() - self._said_at > SAY_S:
            self._said_at = time.monotonic()
            self._log.warning("refilling", journal=self._reader.id, cursor=cursor, head=self._reader.head(), act=act, acts=acts)


def _replayed(act: Act, journal: str) -> ReplayedAct:
    return ReplayedAct(
        id=act.id,
        act=act.act,
        alarm=act.alarm,
        operator=act.operator,
        fence=act.fence,
        outcome=act.outcome,
        note=act.note,
        events=act.events or None,
        others={other: cursor for other, cursor in act.cursors.items() if other != journal},
    )
