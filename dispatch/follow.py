"""
Follow the journal: entry by entry, find the site, decide, commit.

    JournalReader.read() -> by site -> decide() -> AlarmQueue.put() -> the cursor has moved

The cursor is in Redis, moved by the script that moves the queue: there is nothing here to reconcile. After any fault of
Redis the follower forgets what it knew, reads the cursor, and goes on from there; what was applied is skipped by the sites'
own positions. What this process knows of the sites' states is a guess that the script checks: a wrong one costs a second try.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError

from dispatch import state as states
from dispatch.alarm import Action, Placement
from dispatch.alarm_queue import AlarmQueue, AlarmRefused, Placed, PutEvent, PutResult, SiteChange, end
from dispatch.beginning import beginning
from dispatch.copier import Copier
from dispatch.engine import decide
from dispatch.own_site import OWN
from dispatch.refill import BySite, Refill, check_history
from dispatch.register import Register, RegisterReader
from dispatch.server import QueueRefused
from dispatch.sites import GHOST, Sites, ghost
from protocols import codes
from receiver.journal import Entry, JournalError, JournalReader
from receiver.log import LineWriter, lines

BATCH_ENTRIES_MAX: Final = 256
POLL_S_FIRST: Final = 0.002
POLL_S_MAX: Final = 0.02
"""How often the journal is asked whether it has grown: asking costs microseconds, waking up for it a good deal more."""
LOOK_S: Final = 1.0
"""How often a quiet follower looks whether the queue has what it had: a night without reports must not hide a loss."""
SLICE_ENTRIES: Final = 64
"""So many are decided before the loop may turn: where the receiver shares it, an ACK waits no longer than that."""
RATE_ENTRIES_MIN: Final = 1000
"""What fewer entries took in a refill says nothing of many."""
SITES_REMEMBERED: Final = 50_000
AWAY_S_FIRST: Final = 0.25
AWAY_S_MAX: Final = 2.0

_encode = msgspec.json.Encoder().encode


class _Known(msgspec.Struct):
    """What this process believes that Redis holds of a site."""

    version: int = 0
    at: int = 0
    """The last position of this journal applied."""
    state: states.SiteState = states.SiteState()


_Decided = dict[str, tuple[SiteChange, _Known]]
"""By site: what is to be committed, and what Redis will hold then."""


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands before an event's own fields where a console reads it."""

    id: str
    received_at: Any
    label: str
    priority: int
    instruction: str
    mark: str = ""


class Follower:
    """Takes one journal into the queue. `run` returns only by being cancelled."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it follows, for whom, and whom it tells
        self,
        state_dir: Path,
        sites: Sites,
        queue: AlarmQueue,
        register: Register,
        node: str,
        logged: LineWriter,
        log: Any,  # noqa: ANN401 - a structlog logger
    ) -> None:
        """Open nothing yet. node: this machine's name. logged: takes the lines of many events at once; log: all else."""
        self._state_dir, self._sites, self._queue, self._lines, self._log = state_dir, sites, queue, logged, log
        self._register, self._node = register, node
        self._copier = Copier(state_dir, queue, register, logged)
        self._reader: JournalReader | None = None
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._away: str | None = None
        self._bringing_up_since: float | None = None
        self._decided = 0
        self.cursor = 0
        self.counts: dict[str, int] = {}
        """Events by what became of them."""

    async def run(self) -> None:
        """Follow for ever. Raises WrongJournal; waits for a journal, and through every fault of Redis."""
        wait_s = AWAY_S_FIRST
        while True:
            try:
                reader = await self._open()
                await self._queue.load()
                self._bringing_up_since = time.monotonic()
                try:
                    await self._bring_up(reader)
                    await self._queue.say_ready(reader.id)
                finally:
                    self._bringing_up_since = None
                self._say_back(reader)
                wait_s = AWAY_S_FIRST
                await self._work(reader)
            except (RedisError, OSError, AlarmRefused, QueueRefused, JournalError) as error:
                self._say_away(error)
                if isinstance(error, JournalError) and self._reader:
                    self._reader.close()
                    self._reader = None
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, AWAY_S_MAX)

    async def _work(self, reader: JournalReader) -> None:
        """Follow the journal, and copy what people do to the register, until one of both meets a fault of Redis."""
        tasks = [asyncio.create_task(work) for work in (self._flow(reader), self._copier.run(reader.id, lambda: self.cursor))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(*tasks, again_s=0.01)
        for error in [task.exception() for task in tasks if not task.cancelled()]:
            if error:
                raise error

    async def _bring_up(self, reader: JournalReader) -> None:
        """See that Redis belongs to this journal, and give back to it what it has lost."""
        cursors, heads = await self._queue.cursors(), await self._queue.heads()
        self._known.clear()
        self.cursor = await self._queue.cursor(reader.id)
        done = await self._queue.cursor(f"register:{self._register.id}")
        acts = await asyncio.to_thread(RegisterReader, self._state_dir)
        try:
            check_history(reader, self._node, cursors, heads, acts.last())
            known_to, known = heads.get(f"register:{acts.id}", (0, ""))
            if (found := acts.digest(known_to)) and found.hex() != known:
                told = {"register": acts.id, "position": known_to, "known": known, "found": found.hex()}
                self._log.critical("register_altered", **told, todo="see `arcgate register verify`; acts are still copied to it")
            refill, begun = Refill(self._queue, reader, acts, self, self._log), time.monotonic()
            begin = None if self.cursor else await asyncio.to_thread(beginning, self._state_dir, reader, acts)
            if begin:
                done = max(done, begin.done)
            await refill.begin(done)
            if begin and begin.start:
                self._log.warning("refilling", journal=reader.id, cursor=begin.start, head=reader.head(), acts=acts.head() - done)
                await refill.begin_empty(begin)
                self.cursor = begin.start
            first = self.cursor
            if missing := await refill.run(done):
                seconds, entries = time.monotonic() - begun, self.cursor - first
                rate = {"s_per_100k": round(seconds * 100_000 / entries, 1)} if entries >= RATE_ENTRIES_MIN else {}
                told = {"cursor": self.cursor, "acts": missing, "entries": entries, "seconds": round(seconds, 1), "lag": self.lag}
                self._log.warning("refilled", journal=reader.id, **told, **rate)
        finally:
            acts.close()

    @property
    def lag(self) -> int:
        """How many entries wait to be dispatched."""
        try:
            return self._reader.head() - self.cursor if self._reader else 0
        except JournalError:
            return 0

    @property
    def journal(self) -> str:
        """The journal's id; empty before there is one."""
        return self._reader.id if self._reader else ""

    @property
    def away(self) -> str | None:
        """Why the queue cannot be reached or used; None where it can, and while it is given back what it has lost."""
        return self._away if self._bringing_up_since is None else None

    @property
    def bringing_up_s(self) -> float | None:
        """For how long it has been looked what Redis has lost, and that been given back; None where reports are followed."""
        return None if self._bringing_up_since is None else time.monotonic() - self._bringing_up_since

    @property
    def not_copied(self) -> str | None:
        """Why what people do cannot be written to disk; None where it can."""
        return self._copier.failing

    async def _open(self) -> JournalReader:
        """Open the journal; where there is none yet, wait for it."""
        said = False
        while self._reader is None:
            try:
                self._reader = JournalReader(self._state_dir)
            except JournalError as error:
                if not said:
                    self._log.warning("journal_awaited", error=str(error))
                said = True
                await asyncio.sleep(0.2)
        return self._reader

    async def _flow(self, reader: JournalReader) -> None:
        """Dispatch for ever. While Redis commits one batch, the next is read and decided on what the first will leave."""
        sending: asyncio.Task[bool] | None = None
        position, ahead = self.cursor, dict[str, _Known]()
        try:
            while True:
                seen = reader.changed()
                entries = await asyncio.to_thread(reader.read, position, BATCH_ENTRIES_MAX)
                sites = self._by_site(entries)
                decided = await self._decide_all(reader.id, sites, ahead)
                if sending and not await sending:  # it did not go as foreseen
                    decided = await self._decide_all(reader.id, sites, {})
                sending, ahead = None, {site: after for site, (_, after) in decided.items()}
                if entries:
                    position = entries[-1].position
                    sending = asyncio.create_task(self._commit(reader.id, entries[-1], sites, decided))
                else:
                    await self._wait(reader, seen)
        finally:
            if sending:
                await end(sending, again_s=0.01)  # sooner than the one who ends this

    async def _wait(self, reader: JournalReader, seen: int) -> None:
        """Return when the journal has grown; look at the queue meanwhile."""
        look_at, poll_s = time.monotonic() + LOOK_S, POLL_S_FIRST
        while reader.changed() == seen:
            await asyncio.sleep(poll_s)
            poll_s = min(1.5 * poll_s, POLL_S_MAX)
            if time.monotonic() > look_at:
                reader.check_place()
                await self._queue.put(reader.id, self.cursor, [])  # refused as BEHIND where the server has lost what it had
                return

    async def read_on(self, until: int) -> tuple[Entry | None, BySite]:
        """See `Applies`."""
        assert self._reader
        wanted = min(BATCH_ENTRIES_MAX, until - self.cursor)
        entries = await asyncio.to_thread(self._reader.read, self.cursor, wanted) if wanted > 0 else []
        return entries[-1] if entries else None, self._by_site(entries)

    async def apply(self, sites: BySite, last: Entry | None) -> None:
        """See `Applies`."""
        decided = await self._decide_all(self.journal, sites, {})
        await self._commit(self.journal, last, sites, decided)

    async def _commit(self, journal: str, last: Entry | None, sites: BySite, decided: _Decided) -> bool:
        """
        Commit a batch up to `last`, or a part of one; sites whose state was another one are decided again.

        Says whether there was none.
        """
        position, digest = (last.position, last.digest) if last else (self.cursor, "")
        foreseen = True
        while True:
            result = await self._queue.put(journal, position, [change for change, _ in decided.values()], digest)
            self._learn(result, decided)
            self._say_placed(result.placed, decided)
            if not result.moved:
                self.cursor = position
                return foreseen
            foreseen = False
            decided = await self._decide_all(journal, {now.site: sites[now.site] for now in result.moved}, {})

    def _by_site(self, entries: Iterable[Entry]) -> BySite:
        sites: BySite = {}
        for entry in entries:
            report = entry.report
            if not report.events:
                continue
            event = report.events[0]  # a frame is of one account
            site = (
                OWN if event.account == OWN.id else self._sites.find(report.listener, event.receiver, event.line, event.account)
            )
            site = site or ghost(report.listener, event.account)
            sites.setdefault(site.id, (site, []))[1].append(entry)
        return sites

    async def _decide_all(self, journal: str, sites: BySite, ahead: Mapping[str, _Known]) -> _Decided:
        """Decide each site's entries on what Redis holds of it, or will hold once what is on its way is committed (`ahead`)."""
        decided: _Decided = {}
        for site, entries in sites.values():
            known = ahead.get(site.id) or self._known.get(site.id) or _Known()
            fresh = [entry for entry in entries if entry.position > known.at]
            if not fresh:
                continue
            state, events = known.state, list[PutEvent]()
            for entry in fresh:
                decision = decide(site, state, entry, journal, entry.report.received_at)
                state = decision.state
                events += [
                    _put_event(placement, entry, site.language)
                    for placement in decision.placements
                    if placement.action is not Action.LOG
                ]
                self._decided += 1
                if self._decided % SLICE_ENTRIES == 0:
                    await asyncio.sleep(0)
            change = SiteChange(
                site=site.id,
                name=site.name,
                version=known.version,
                state=states.encode(state).decode(),
                position=fresh[-1].position,
                ghost=site.id.startswith(GHOST),
                events=tuple(events),
            )
            decided[site.id] = change, _Known(known.version + 1, change.position, state)
        return decided

    def _learn(self, result: PutResult, decided: _Decided) -> None:
        """Remember what Redis holds now, of the sites that were heard last."""
        known = {site: after for site, (_, after) in decided.items()}
        known |= {now.site: _Known(now.version, now.at, states.decode(now.state)) for now in result.moved}
        for site, now in known.items():
            self._known[site] = now
            self._known.move_to_end(site)
        while len(self._known) > SITES_REMEMBERED:
            self._known.popitem(last=False)

    def _say_placed(self, placed: Iterable[Placed], decided: _Decided) -> None:
        """Tell what became of each event: one line each, all in one go."""
        site_of = {event.id: change.site for change, _ in decided.values() for event in change.events}
        rows = []
        for event in placed:
            self.counts[event.what] = self.counts.get(event.what, 0) + 1
            priority = event.priority.name.lower()
            line = {"event": _LINES[event.what], "id": event.event, "alarm": event.alarm, "site": site_of[event.event]}
            rows.append(line | {"priority": priority})
        if rows:
            self._lines.write(lines("info", rows))

    def _say_away(self, error: Exception) -> None:
        """Say it once when it begins; the supervisor says it again as time goes on."""
        if self._away is None:
            self._log.critical("queue_away", error=str(error), lag=self.lag, effect="reports are kept and acknowledged, but wait")
        self._away = str(error) or type(error).__name__

    def _say_back(self, reader: JournalReader) -> None:
        self._log.info("dispatching", journal=reader.id, cursor=self.cursor, lag=self.lag, after=self._away)
        self._away = None


_LINES: Final = {
    "opened": "alarm_queued",
    "joined": "event_joined",
    "raised": "alarm_raised",
    "repeated": "event_repeated",
    "logged": "event_logged",
}


def _put_event(placement: Placement, entry: Entry, language: str) -> PutEvent:
    event = placement.event
    label = codes.label(event, language)
    received_at = entry.report.received_at
    head = _Head(placement.id, received_at, label, int(placement.priority), placement.instruction, placement.mark)
    return PutEvent(
        id=placement.id,
        at=int(received_at.timestamp() * 1000),
        action=placement.action,
        priority=placement.priority,
        life=event.life_safety,
        account=event.account,
        category=event.category,
        label=label,
        instruction=placement.instruction,
        steps=_encode(placement.steps).decode(),
        body=(_encode(head)[:-1] + b"," + _encode(event)[1:]).decode(),
        repeat_of=placement.repeat_of,
        needs=placement.needs,
    )
