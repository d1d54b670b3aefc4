"""A refill puts many sites' entries at once, and does many acts at once: of each site, all comes in the order it came in."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dispatch import beginning, copier, follow
from dispatch.alarm import Alarm
from dispatch.alarm_queue import AlarmQueue
from dispatch.sites import Site
from tests.conftest import sia
from tests.dispatch.centre import Centre, burglary, copied, seen, shops

SHOPS, STRANGERS = 4, 300
CODES = ("BA", "BR", "FA", "FR", "HA", "AT", "YX")


@pytest.fixture
async def here(tmp_path: Path, valkey: str, centre: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Centre]:
    monkeypatch.setattr(copier, "LOOK_MS", 20)
    monkeypatch.setattr(follow, "BATCH_ENTRIES_MAX", 50)
    async with Centre(tmp_path / "here", shops(SHOPS), valkey, centre) as made:
        yield made


async def held(queue: AlarmQueue) -> list[tuple[object, ...]]:
    alarms = await queue.open_alarms(1000)
    return [(*seen([alarm])[0], alarm.site, await queue.events(alarm.id, 0, -1)) for alarm in alarms]


async def act(queue: AlarmQueue, chance: random.Random, in_hand: list[Alarm]) -> None:
    """Do what an operator may: take the next alarm, close one or give it back."""
    if len(in_hand) < 5 and (alarm := await queue.claim(chance.choice(("Anne", "Bob")), 600)):
        in_hand.append(alarm)
    if in_hand and chance.random() < 0.6:
        alarm = in_hand.pop(chance.randrange(len(in_hand)))
        now = await queue.alarm(alarm.id)
        assert now
        if chance.random() < 0.8:
            await queue.close(alarm.id, alarm.fence or 0, now.events, "false alarm", "")
        else:
            await queue.release(alarm.id, alarm.fence or 0)


@pytest.mark.parametrize("interruptions", [0, 8])
@pytest.mark.parametrize("seed", range(4))
async def test_any_history_of_reports_and_acts(
    here: Centre, queue: AlarmQueue, redis: Redis, seed: int, interruptions: int
) -> None:
    """Also of strangers, of whom there are more than are shown one by one; and of alarms in hand that others join."""
    chance = random.Random(seed)  # noqa: S311 - the same history each time
    in_hand = list[Alarm]()
    async with here.followed():
        for n in range(120):
            frames = []
            flood = n % 40 == 10
            for m in range(25 if flood else chance.randint(1, 4)):
                stranger = flood or chance.random() < 0.4
                account = 5000 + chance.randrange(STRANGERS) if stranger else 1000 + chance.randrange(SHOPS)
                frames.append(sia(str(account), f"Nri1/{chance.choice(CODES)}{n:03}{m}", n * 25 + m + 1))
            await here.take(*frames)
            await here.dispatched(redis)
            await act(queue, chance, in_hand)
        await copied(here, queue)
        before = await held(queue)
        assert "ghosts" in {site for *_, site, _ in before}
    await redis.flushall()
    with capture_logs() as said:
        for _ in range(interruptions):
            async with here.followed():
                await asyncio.sleep(chance.uniform(0.005, 0.06))
        async with here.followed():
            await here.dispatched(redis)
    assert await held(queue) == before
    assert [line["acts"] > 100 for line in said if line["event"] == "refilled"] == [True]


@pytest.mark.parametrize("batch", [2, 50])
async def test_of_an_account_that_no_site_had_when_its_alarm_was_closed(
    here: Centre, queue: AlarmQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """The act names a ghost; the alarm is put under the site that has the account now, and what came later must not join it."""
    monkeypatch.setattr(follow, "BATCH_ENTRIES_MAX", batch)
    async with here.followed():
        await here.take(burglary(2), sia("4711", "Nri1/BA001", 1), sia("4711", "Nri1/BA002", 2))
        await here.dispatched(redis)
        assert await queue.claim("Anne", 600)
        alarm = await queue.claim("Anne", 600)
        assert alarm
        await queue.close(alarm.id, alarm.fence or 0, 2, "false alarm", "")
        await here.take(sia("4711", "Nri1/BA003", 3))
        await here.dispatched(redis)
        assert await queue.claim("Bob", 600)  # so that all comes again before this act
        await copied(here, queue)
        before = seen(await queue.open_alarms(10))
        assert [alarm[0] for alarm in before] == [here.id(1), here.id(4)]
    here.sites.add(Site(("4711",), "new", "New"))
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == before


async def test_a_flood_of_strangers_goes_on_where_the_first_of_them_are_closed_and_not_put_again(
    here: Centre, queue: AlarmQueue, redis: Redis
) -> None:
    """Else a second twenty of them would be shown one by one, beside the flood's alarm."""
    async with here.followed():
        await here.take(*(sia(str(7000 + n), "Nri1/BA001", 1) for n in range(20)))
        await here.dispatched(redis)
        while alarm := await queue.claim("Anne", 600):
            await queue.close(alarm.id, alarm.fence or 0, alarm.events, "false alarm", "")
        await here.take(burglary(1), *(sia(str(7000 + n), "Nri1/BA001", 1) for n in range(20, 23)))
        await here.dispatched(redis)
        assert await queue.claim("Anne", 600)
        flood = await queue.claim("Anne", 600)
        assert flood
        await queue.close(flood.id, flood.fence or 0, 3, "false alarm", "")
        await here.take(*(sia(str(7000 + n), "Nri1/BA001", 1) for n in range(23, 25)))
        await here.dispatched(redis)
        assert await queue.claim("Anne", 600)
        await copied(here, queue)
        before = await held(queue)
        assert [(row[0], row[3], row[-2]) for row in before] == [(here.id(21), 1, "shop1"), (here.id(25), 2, "ghosts")]
    await redis.flushall()
    with capture_logs() as said:
        async with here.followed():
            await here.dispatched(redis)
    assert next(line["cursor"] for line in said if line["event"] == "refilling") == 20
    assert await held(queue) == before


async def test_a_flood_that_a_refill_stood_in_for_is_closed_again_by_the_next_refill_too(
    here: Centre, queue: AlarmQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done with a later flood's alarm is done where that is, and not where the first refill began."""
    monkeypatch.setattr(beginning, "BACK_MAX", 0)
    strangers = iter(range(7000, 8000))

    async def flood(count: int) -> None:
        await here.take(*(sia(str(next(strangers)), "Nri1/BA001", 1) for _ in range(count)))
        await here.dispatched(redis)

    async def close_all(but: str) -> None:
        while alarm := await queue.claim("Anne", 600):
            if alarm.id != but:
                await queue.close(alarm.id, alarm.fence or 0, alarm.events, "false alarm", "")

    async with here.followed():
        await flood(22)  # 21 opens the flood's alarm
        await here.take(burglary(1))  # 23 stays open: a refill begins there
        await close_all(here.id(23))
        await copied(here, queue)
        before = seen(await queue.open_alarms(10))
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
        await copied(here, queue)
        assert seen(await queue.open_alarms(10)) == before
        await asyncio.sleep(0)
        here.seconds += 120
        await flood(22)
        await close_all("")
        await copied(here, queue)
        assert seen(await queue.open_alarms(10)) == before
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == before
