"""What the tests of the queue share: events to put, a follower that puts them, and a console's short cuts."""

from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from dispatch.alarm import Action, Alarm, Priority
from dispatch.alarm_queue import AlarmQueue, AlarmRefused, Placed, PutEvent, ReplayedAct, SiteChange
from protocols.event import Category

AT = 1_700_000_000_000
J = "j1"
LIFE: dict[str, Any] = {"life": True, "category": Category.HOLD_UP}
JOIN: dict[str, Any] = {"action": Action.JOIN}


def event(number: int, priority: Priority = Priority.INTRUSION, at: int | None = None, **others: Any) -> PutEvent:
    fields: dict[str, Any] = {
        "action": Action.RAISE,
        "life": False,
        "account": "0042",
        "category": Category.BURGLARY,
        "label": f"label {number}",
        "instruction": "default",
        "steps": f'["step {number}"]',
        "body": f'{{"number": {number}}}',
    }
    return PutEvent(id=f"{J}-{number:012d}-0", at=AT + number if at is None else at, priority=priority, **fields | others)


def replayed(act_id: str, fields: dict[str, str]) -> ReplayedAct:
    """An act of the stream, as a register gives it back."""
    values = [act_id, *(fields.get(name, "") for name in ReplayedAct.__struct_fields__[1:-1])]
    return msgspec.convert(values, ReplayedAct, strict=False)


async def look_at(queue: AlarmQueue, journal: str = J, *others: str) -> None:
    """Say that the server was looked at for a journal, and lacks nothing of it. others: journals that feed this queue too."""
    await queue.refill(journal, "0-0", [], others)
    await queue.say_ready(journal)


class Follower:
    """Puts events as a follower does: it knows each site's version, and where it is in the journal."""

    def __init__(self, queue: AlarmQueue) -> None:
        self.queue = queue
        self.versions: dict[str, int] = {}
        self.position = 0

    async def put(self, site: str, *events: PutEvent, ghost: bool = False) -> tuple[Placed, ...]:
        self.position += 1
        version = self.versions.get(site, 0)
        change = SiteChange(
            site=site, name=f"Site {site}", version=version, state="{}", position=self.position, ghost=ghost, events=events
        )
        result = await self.queue.put(J, self.position, [change])
        assert not result.moved
        self.versions[site] = version + 1
        return result.placed


async def claim(queue: AlarmQueue, operator: str = "alice", lease_s: float = 30) -> Alarm:
    alarm = await queue.claim(operator, lease_s)
    assert alarm is not None
    return alarm


def fence(alarm: Alarm) -> int:
    assert alarm.fence is not None
    return alarm.fence


async def refused(code: str, verb: Awaitable[object]) -> str:
    with pytest.raises(AlarmRefused) as caught:
        await verb
    assert caught.value.code == code
    return caught.value.message


async def run_out(redis: Redis, centre: str, alarm: Alarm) -> None:
    """The lease's end, as the clock would bring it."""
    await redis.hset(f"{{arcgate:{centre}}}:alarm:{alarm.id}", "lease_until", "1")
    await redis.zadd(f"{{arcgate:{centre}}}:claimed", {alarm.id: 1})
