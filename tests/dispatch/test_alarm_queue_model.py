"""The queue on a real server against a small model of it, under any order of puts, of consoles' acts, and of losing it all."""

import asyncio
import secrets
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from dispatch.alarm import Alarm, Priority
from dispatch.alarm_queue import AlarmQueue, AlarmRefused, Placed, PutEvent, connect
from tests.dispatch.desk import AT, JOIN, LIFE, Follower, J, event, fence, look_at, replayed, run_out

PRIORITIES = st.sampled_from([Priority.LIFE, Priority.FIRE, Priority.INTRUSION, Priority.FAULT])


class Modelled(msgspec.Struct):
    """What the model holds of an open alarm."""

    id: str
    site: str
    priority: int
    opened_at: int
    events: int = 1
    repeats: int = 0
    returned: int = 0
    life: bool = False
    silent: bool = False
    """Whether its most urgent event is a hold-up; else that is a burglary."""
    owner: str | None = None

    @property
    def rank(self) -> tuple[int, int, str]:
        return self.priority, self.opened_at, self.id


class Queue(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = connect(self.url, Path())
        self.centre = secrets.token_hex(6)
        self.queue = AlarmQueue(self.redis, self.centre)
        self.runner.run(self.queue.load())
        self.runner.run(look_at(self.queue))
        self.follower = Follower(self.queue)
        self.model: list[Modelled] = []
        """In the order of opening."""
        self.claims: list[Alarm] = []
        """Each claim ever given, with its fence."""
        self.number = 0
        self.reports: list[tuple[str, PutEvent]] = []
        """As the journal has them: what was put, in order."""
        self.register: list[tuple[str, dict[str, str]]] = []
        """As a register has them: all acts, in order."""

    def teardown(self) -> None:
        self.runner.run(self.redis.aclose())
        self.runner.close()

    def held(self, claim: Alarm) -> Modelled | None:
        """The alarm, where this claim is its present one."""
        newest = [other for other in self.claims if other.id == claim.id][-1]
        return next((a for a in self.model if a.id == claim.id and a.owner and newest.fence == claim.fence), None)

    def report(self, site: str, event: PutEvent) -> tuple[Placed, ...]:
        self.reports.append((site, event))
        return self.runner.run(self.follower.put(site, event))

    @rule(site=st.sampled_from("ab"), priority=PRIORITIES, life=st.booleans(), join=st.booleans(), age=st.integers(0, 9))
    def put(self, site: str, priority: Priority, life: bool, join: bool, age: int) -> None:  # noqa: FBT001 - what hypothesis draws
        self.number += 1
        put = event(self.number, priority, at=AT - age, **(LIFE if life else {}), **(JOIN if join else {}))
        (placed,) = self.report(site, put)
        mine = [a for a in self.model if a.site == site]
        if life:
            mine = [a for a in mine if not a.owner or (a.life and a.priority <= priority)]
        if mine:
            joined = mine[0] if life else next((a for a in mine if not a.silent), mine[0])
            raised = priority < joined.priority or (priority == joined.priority and life and not joined.silent)
            assert (placed.alarm, placed.what) == (joined.id, "raised" if raised else "joined")
            joined.silent = life if raised else joined.silent
            joined.events += 1
            joined.priority = min(joined.priority, priority)
            joined.life = joined.life or life
        elif join and not life:
            assert placed.what == "logged"
        else:
            assert (placed.alarm, placed.what) == (put.id, "opened")
            self.model.append(Modelled(id=put.id, site=site, priority=priority, opened_at=AT - age, life=life, silent=life))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        alarm = data.draw(st.sampled_from(self.model))
        again = event(int(alarm.id.split("-")[1]))
        assert self.report(alarm.site, again) == ()
        (placed,) = self.report(alarm.site, event(0, repeat_of=alarm.id))
        assert (placed.alarm, placed.what) == (alarm.id, "repeated")
        alarm.repeats += 1

    @rule(operator=st.sampled_from(["alice", "bob"]))
    def claim(self, operator: str) -> None:
        waiting = sorted((a for a in self.model if not a.owner), key=lambda a: a.rank)
        claimed = self.runner.run(self.queue.claim(operator, 600))
        assert (claimed.id if claimed else None) == (waiting[0].id if waiting else None)
        if claimed:
            assert not self.claims or fence(claimed) > fence(self.claims[-1])
            waiting[0].owner = operator
            self.claims.append(claimed)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), verb=st.sampled_from(["renew", "release", "close", "close unseen", "expire"]))
    def act(self, data: st.DataObject, verb: str) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        alarm = self.held(claim)
        expected = None if alarm else "FENCED"
        if verb == "close unseen" and alarm:
            expected = "CHANGED"
        assert self.runner.run(self.do(verb, claim, alarm)) == expected
        if expected or not alarm:
            return
        if verb in {"release", "expire"}:
            alarm.owner = None
            alarm.returned += verb == "expire"
        elif verb == "close":
            self.model.remove(alarm)

    async def do(self, verb: str, claim: Alarm, alarm: Modelled | None) -> str | None:
        """The verb's error code, if any. A lease that runs out shows as the renewal that it does not refuse any more."""
        seen = alarm.events if alarm else 10**6
        try:
            if verb == "renew":
                await self.queue.renew(claim.id, fence(claim), 600)
            elif verb == "release":
                await self.queue.release(claim.id, fence(claim))
            elif verb == "expire":
                await self.queue.renew(claim.id, fence(claim), 600)
                await run_out(self.redis, self.centre, claim)
            else:
                await self.queue.close(claim.id, fence(claim), seen - (verb == "close unseen"), "handled", "")
        except AlarmRefused as refusal:
            return refusal.code
        return None

    @rule()
    def lose_all_and_refill(self) -> None:
        self.runner.run(self.refill())

    async def refill(self) -> None:
        """What a dispatcher does with an empty server: reports and acts, in the order in which they were."""
        keys = [key async for key in self.redis.scan_iter(f"{{arcgate:{self.centre}}}:*", count=1000)]
        await self.redis.delete("none", *keys)
        self.queue = AlarmQueue(self.redis, self.centre)
        self.follower = Follower(self.queue)
        for place, (act, fields) in enumerate(self.register, 1):
            await self.put_up_to(msgspec.json.decode(fields["cursors"], type=dict[str, int])[J])
            await self.queue.replay("r1", place, [replayed(act, fields)])
        await self.put_up_to(len(self.reports))
        await look_at(self.queue)

    async def put_up_to(self, position: int) -> None:
        for site, reported in self.reports[self.follower.position : position]:
            await self.follower.put(site, reported)

    @invariant()
    def the_list_is_the_model(self) -> None:
        self.runner.run(self.queue.expire())
        listed = self.runner.run(self.queue.open_alarms(1000))
        assert [(a.id, a.priority, a.events, a.repeats, a.returned, a.owner) for a in listed] == [
            (a.id, a.priority, a.events, a.repeats, a.returned, a.owner) for a in sorted(self.model, key=lambda a: a.rank)
        ]
        assert sum(self.runner.run(self.queue.counts()).values()) == len(self.model)
        positions = [int(alarm.id.split("-")[1]) for alarm in self.model]
        assert self.runner.run(self.queue.oldest(J)) == min(positions, default=None)
        self.register += self.runner.run(self.queue.acts(self.register[-1][0] if self.register else "0", 0))


def test_the_queue_does_what_its_model_does(valkey: str) -> None:
    Queue.url = valkey
    run_state_machine_as_test(Queue, settings=settings(max_examples=30, stateful_step_count=25, deadline=None))
