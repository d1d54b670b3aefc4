"""A refill that cannot go back to where nothing was open: what was open there is stood in for until it is closed again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dispatch import beginning, copier
from dispatch.alarm_queue import AlarmQueue
from protocols import dc09
from receiver.config import Guarantees
from receiver.delivered import Delivered
from tests.conftest import sia
from tests.dispatch.centre import Centre, burglary, copied, seen, shops


@pytest.fixture
async def here(tmp_path: Path, valkey: str, centre: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Centre]:
    monkeypatch.setattr(copier, "LOOK_MS", 20)
    async with Centre(tmp_path / "here", shops(10), valkey, centre) as made:
        yield made


async def close_next(queue: AlarmQueue, wanted: str) -> None:
    """Close one alarm; what else waits goes back."""
    others = []
    while (alarm := await queue.claim("Anne", 600)) and alarm.id != wanted:
        others.append(alarm)
    assert alarm
    await queue.close(alarm.id, alarm.fence or 0, alarm.events, "false alarm", "")
    for other in others:
        await queue.release(other.id, other.fence or 0)


async def test_what_was_open_where_it_begins_is_stood_in_for_until_it_is_closed_again(
    here: Centre, queue: AlarmQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what joined an alarm of before would open one that nobody closes, and swallow what came after the close."""
    monkeypatch.setattr(beginning, "BACK_MAX", 0)
    hold_up = sia("1003", "Nri1/HA001", 77)
    async with here.followed():
        await here.take(
            burglary(1), sia("1003", "Nri1/BA001", 7), burglary(4), burglary(1)
        )  # 1, 2 3, 4: the last is a repetition
        await here.dispatched(redis)
        await close_next(queue, here.id(3))
        in_hand = await queue.claim("Bob", 600)
        assert in_hand
        assert in_hand.id == here.id(1)
        await here.take(burglary(2), burglary(1), burglary(6), hold_up, sia("1001", "Nri1/HA009", 9))  # 5, 6 to 9
        await here.dispatched(redis)
        await queue.close(in_hand.id, in_hand.fence or 0, 3, "false alarm", "")
        await close_next(queue, here.id(2))
        await here.take(burglary(11), burglary(3))  # 10 joins the hold-up, 11 opens anew what 2 had been
        await here.dispatched(redis)
        await copied(here, queue)
        before = seen(await queue.open_alarms(10))
        assert [alarm[0] for alarm in before] == [here.id(9), here.id(5), here.id(11)]
        events = {str(alarm[0]): await queue.events(str(alarm[0]), 0, -1) for alarm in before}
    await redis.flushall()
    with capture_logs() as said:
        async with here.followed():
            await here.dispatched(redis)
    assert next(line["cursor"] for line in said if line["event"] == "refilling") == 4
    assert seen(await queue.open_alarms(10)) == before
    assert {str(alarm[0]): await queue.events(str(alarm[0]), 0, -1) for alarm in before} == events


async def test_each_alarm_that_a_site_had_open_where_it_begins_is_stood_in_for(
    here: Centre, queue: AlarmQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What joined the one that was closed first must not be in another that is still open."""
    monkeypatch.setattr(beginning, "BACK_MAX", 0)
    numbers = iter(range(1, 100))

    def frame(code: str, account: str = "1001") -> dc09.Frame:
        return sia(account, f"Nri1/{code}{next(numbers):03}", next(numbers))

    async with here.followed():
        await here.take(frame("BA"))  # 1
        await here.dispatched(redis)
        bob = await queue.claim("Bob", 600)
        assert bob
        await here.take(
            frame("FA"), frame("BA", "1002"), frame("FA"), frame("FR"), frame("BA")
        )  # 2 opens, 3 elsewhere, 4 to 6 join
        await here.dispatched(redis)
        await close_next(queue, here.id(2))
        await here.take(frame("HA"), frame("FR"))  # 7 opens, 8 joins the oldest
        await here.dispatched(redis)
        await queue.close(bob.id, bob.fence or 0, 3, "false alarm", "")
        await here.take(frame("BA"))  # 9 joins the hold-up
        await here.dispatched(redis)
        await copied(here, queue)
        before = seen(await queue.open_alarms(10))
        assert [(alarm[0], alarm[3]) for alarm in before] == [(here.id(7), 2), (here.id(3), 1)]
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == before
    assert [await redis.hget(f"{{arcgate:{here.name}}}:alarm:{here.id(n)}", "state") for n in (1, 2)] == [b"closed"] * 2


async def test_what_retention_has_deleted_opens_nothing_that_was_closed(here: Centre, queue: AlarmQueue, redis: Redis) -> None:
    here.journal._ledger._kept = Guarantees(node=here.node, segment_bytes=65_536)
    async with here.followed():
        await here.take(burglary(1))
        await here.take(*(burglary(n, 1) for n in range(2000, 2200)))
        await here.take(burglary(2))  # its segment is kept: it stays open
        await here.take(burglary(6))  # joins the first
        await here.dispatched(redis)
        await close_next(queue, here.id(1))
        await close_next(queue, here.id(2))
        await here.take(burglary(11))
        await here.dispatched(redis)
        await copied(here, queue)
        before = seen(await queue.open_alarms(10))
        assert [alarm[0] for alarm in before] == [here.id(202), here.id(204)]
        told = Delivered.read(here.folder)
        assert told
        dropped = await asyncio.to_thread(here.journal._ledger.drop_old, 1, told.needed, datetime.now(UTC) + timedelta(days=3))
        assert dropped
        assert dropped[-1].last > 1
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == before


async def test_what_made_an_alarm_more_urgent_later_did_not_do_so_where_it_begins(
    here: Centre, queue: AlarmQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a burglary is in hand a panic opens an alarm of its own, though another one joined the burglary later."""
    monkeypatch.setattr(beginning, "BACK_MAX", 0)
    async with here.followed():
        await here.take(sia("1001", "Nri1/BA001", 1))
        await here.dispatched(redis)
        bob = await queue.claim("Bob", 600)
        assert bob
        await here.take(burglary(2), sia("1001", "Nri1/PA002", 2))  # 2 elsewhere stays open, 3 opens its own
        await here.dispatched(redis)
        await close_next(queue, here.id(3))
        await queue.release(bob.id, bob.fence or 0)
        await here.take(sia("1001", "Nri1/PA003", 3))  # 4 joins the first, and makes it a panic
        await here.dispatched(redis)
        await close_next(queue, here.id(1))
        await here.take(sia("1001", "Nri1/PA004", 4))
        await here.dispatched(redis)
        await copied(here, queue)
        before = seen(await queue.open_alarms(10))
        assert [(alarm[0], alarm[3]) for alarm in before] == [(here.id(5), 1), (here.id(2), 1)]
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == before
    assert await redis.hget(f"{{arcgate:{here.name}}}:alarm:{here.id(3)}", "state") == b"closed"
