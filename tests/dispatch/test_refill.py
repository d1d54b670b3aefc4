"""An empty or older Redis is brought up: nothing closed opens again, nothing open is missing, the ranks are as they were."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dispatch import copier, follow, refill
from dispatch.alarm import Alarm, AlarmState
from dispatch.alarm_queue import AlarmQueue, AlarmRefused
from dispatch.refill import WrongJournal, check_history, first_act_needed, start_at
from dispatch.register import Act, Register, RegisterReader, order
from protocols import dc09
from protocols.errors import Reason
from protocols.event import Category, Event, Format, Qualifier
from receiver.config import Guarantees
from receiver.delivered import Delivered
from receiver.journal import JournalReader
from receiver.ledger import Ledger
from tests.conftest import sia
from tests.dispatch.centre import Centre, burglary, shops
from tests.valkey import Valkey

CODES = ("BA", "FA", "HA", "AT", "GA")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LOOK_S", 0.05)
    monkeypatch.setattr(follow, "AWAY_S_FIRST", 0.02)
    monkeypatch.setattr(follow, "AWAY_S_MAX", 0.1)
    monkeypatch.setattr(copier, "LOOK_MS", 20)


@pytest.fixture
async def here(tmp_path: Path, valkey: str, centre: str) -> AsyncIterator[Centre]:
    async with Centre(tmp_path / "here", shops(200), valkey, centre) as made:
        yield made


async def close_some(queue: AlarmQueue, share: int, of: int) -> None:
    """Claim every alarm; close so many of each few, give some back, keep one claimed."""
    claimed = []
    while alarm := await queue.claim("Anne", 600):
        claimed.append(alarm)
    for n, alarm in enumerate(claimed):
        assert alarm.fence
        if n % of < share:
            await queue.close(alarm.id, alarm.fence, alarm.events, "false alarm", f"note {n}")
        elif n:
            await queue.release(alarm.id, alarm.fence)


def seen(alarms: list[Alarm]) -> list[tuple[object, ...]]:
    return [(a.id, a.priority, a.opened_at, a.events, a.category, a.state, a.owner, a.fence) for a in alarms]


async def copied(here: Centre, queue: AlarmQueue) -> None:
    """Wait until the register has every act, and the receiver was told how far dispatch is."""

    async def all_copied() -> bool:
        told = Delivered(here.journal.id, here.journal.durable, await queue.oldest(here.journal.id))
        return order(here.follower._register.last_id) >= order(await queue.last_act()) and Delivered.read(here.folder) == told

    async with asyncio.timeout(10):
        while not await all_copied():  # noqa: ASYNC110 - Redis and a file are asked, they do not tell
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("back_max", [refill.BACK_MAX, 0], ids=["from where nothing was open", "from the oldest open alarm"])
@pytest.mark.parametrize("started_anew", [False, True], ids=["while it runs", "before its start"])
async def test_an_emptied_redis_holds_afterwards_what_it_held(  # noqa: PLR0913 - fixtures
    here: Centre, queue: AlarmQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch, *, started_anew: bool, back_max: int
) -> None:
    monkeypatch.setattr(refill, "BACK_MAX", back_max)
    async with here.followed():
        for n in range(200):
            await here.take(sia(str(1000 + n), f"Nri1/{CODES[n % 5]}{n % 99}", n + 1))
        await here.dispatched(redis)
        await close_some(queue, 9, 10)
        await here.take(*(burglary(n, 200) for n in range(1000, 1100)))
        await here.dispatched(redis)
        await copied(here, queue)
        before = seen(await queue.open_alarms(1000))
        assert 100 < len(before) < 200
        if not started_anew:
            await redis.flushall()
            await here.dispatched(redis)
    if started_anew:
        await redis.flushall()
        async with here.followed():
            await here.dispatched(redis)
            await copied(here, queue)
    assert seen(await queue.open_alarms(1000)) == before


async def test_what_a_refused_frame_reported_is_raised_again_by_a_refill(here: Centre, queue: AlarmQueue, redis: Redis) -> None:
    """It was raised because of a refusal before it, whose own alarm is closed: a refill has to begin there all the same."""
    hold_up = Event("1001", Format.SIA, "HA", Qualifier.NEW, Category.HOLD_UP)
    async with here.followed():
        await here.take(*(burglary(n, 100) for n in range(50, 60)))
        await here.refuse("1001", Reason.OLD_TIME)
        await here.dispatched(redis)
        await close_some(queue, 1, 1)
        await here.take(burglary(2, 100))
        await here.refuse("1001", Reason.OLD_TIME, hold_up)
        await here.dispatched(redis)
        await copied(here, queue)
        before = seen(await queue.open_alarms(10))
        events = await queue.events(here.id(13), 0, -1)
        assert [event["code"] for event in events] == ["refused_old_time", "HA"]
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == before
    assert await queue.events(here.id(13), 0, -1) == events
    assert len(await redis.keys("*:alarm:*")) == 3


async def test_it_begins_at_the_oldest_open_alarm_and_not_at_the_first_entry(
    here: Centre, queue: AlarmQueue, redis: Redis
) -> None:
    async with here.followed():
        await here.take(*(burglary(n, 100) for n in range(300)))
        await here.dispatched(redis)
        await close_some(queue, 1, 1)
        await here.take(burglary(500), burglary(501), burglary(505))
        await here.dispatched(redis)
        await copied(here, queue)
        before = seen(await queue.open_alarms(10))
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == before
    assert await redis.keys("*:alarm:*") != []
    assert len(await redis.keys("*:alarm:*")) == 2


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
    monkeypatch.setattr(refill, "BACK_MAX", 0)
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
    monkeypatch.setattr(refill, "BACK_MAX", 0)
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


async def test_an_older_copy_is_brought_up_with_what_people_did_since(tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey")
    server.start()
    try:
        async with Centre(tmp_path / "here", shops(40), server.url, "main") as here:
            queue = AlarmQueue(here.redis, "main")
            async with here.followed():
                await here.take(*(burglary(n, 40) for n in range(60)))
                await here.dispatched(here.redis)
                first = await queue.claim("Anne", 600)
                assert first
                assert first.fence
                await copied(here, queue)
                shutil.copytree(server.folder / "appendonlydir", tmp_path / "copy")
                await queue.close(first.id, first.fence, first.events, "false alarm", "")
                await close_some(queue, 3, 4)
                await here.take(*(burglary(n, 40) for n in range(100, 130)))
                await here.dispatched(here.redis)
                await copied(here, queue)
                before = seen(await queue.open_alarms(1000))
            server.stop()
            shutil.rmtree(server.folder / "appendonlydir")
            shutil.move(tmp_path / "copy", server.folder / "appendonlydir")
            server.start()
            async with here.followed():
                await here.dispatched(here.redis)
                await copied(here, queue)
            assert seen(await queue.open_alarms(1000)) == before
    finally:
        server.stop()


async def test_with_two_nodes_nothing_is_closed_before_both_have_put_back_what_was_lost(
    here: Centre, queue: AlarmQueue, redis: Redis, tmp_path: Path
) -> None:
    """The second is known by what people have done: an emptied server does not know it."""
    async with Centre(tmp_path / "there", here.sites, here.url, here.name) as there, here.followed():
        async with there.followed():
            await there.take(burglary(1))
            await there.dispatched(redis)
            await here.take(burglary(2))
            await here.dispatched(redis)
            mine = await queue.claim("Anne", 600)
            assert mine
            await copied(here, queue)
        await redis.flushall()
        await here.dispatched(redis)
        assert seen(await queue.open_alarms(10)) == seen([mine])
        with pytest.raises(AlarmRefused, match=rf"NOTYET .* from ([^:]* )?{there.journal.id}[ :]"):
            await queue.close(mine.id, mine.fence or 0, mine.events, "real", "")
        async with there.followed():
            await there.dispatched(redis)
            async with asyncio.timeout(5):
                while await redis.exists(f"{{arcgate:{here.name}}}:awaited"):  # noqa: ASYNC110 - Redis is asked
                    await asyncio.sleep(0.01)
            await queue.close(mine.id, mine.fence or 0, mine.events, "real", "")


async def test_an_act_that_was_lost_with_redis_leaves_its_alarm_open(here: Centre, queue: AlarmQueue, redis: Redis) -> None:
    """It was answered, and not yet copied: the alarm is seen again."""
    async with here.followed():
        await here.take(burglary(1))
        await here.dispatched(redis)
        await copied(here, queue)
    alarm = await queue.claim("Anne", 600)
    assert alarm
    assert alarm.fence
    await queue.close(alarm.id, alarm.fence, 1, "false alarm", "")
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    (again,) = await queue.open_alarms(10)
    assert (again.id, again.state) == (alarm.id, AlarmState.WAITING)


def act(number: int, name: str, opened: int, cursor: int, journal: str) -> Act:
    return Act(f"{number}-0", name, f"{journal}-{opened:012d}-0", "s", "Anne", number, 1, 3, {journal: cursor})


@pytest.mark.parametrize(
    ("oldest", "acts", "start"),
    [
        (None, [], 100),
        (40, [], 39),
        (40, [("close", 10, 30), ("close", 20, 60)], 9),
        (40, [("close", 5, 8), ("close", 10, 15), ("close", 20, 60)], 19),
        (40, [("claim", 10, 60), ("close", 45, 60)], 39),
        (None, [("close", 10, 99)], 100),
        (80, [("close", 10, 30), ("claim", 80, 90), ("close", 20, 60)], 79),
    ],
)
async def test_where_it_begins(
    here: Centre, oldest: int | None, acts: list[tuple[str, int, int]], start: int, tmp_path: Path
) -> None:
    """Where an alarm was open at the place where it would begin, it begins where that one was opened."""
    Delivered(here.journal.id, 100, oldest).write(here.folder)
    register = Register(tmp_path)
    register.append(act(n, name, opened, cursor, here.journal.id) for n, (name, opened, cursor) in enumerate(acts, 1))
    reader, told = JournalReader(here.folder), RegisterReader(tmp_path)
    assert start_at(here.folder, reader, told) == start
    assert refill.stand_ins(start, reader, told) == []
    needed = [n for n, (_, _, cursor) in enumerate(acts, 1) if cursor > start]
    assert first_act_needed(here.folder, reader, told) == min(needed, default=len(acts) + 1)
    for each in (reader, told, register):
        each.close()


async def test_a_journal_that_does_not_belong_to_redis_is_refused_in_words(here: Centre) -> None:
    await here.take(burglary(1), burglary(2), burglary(3))
    reader = JournalReader(here.folder)
    mine = here.journal.id
    digest = (reader.digest(2) or b"").hex()
    check_history(reader, "here", {mine: 2, "there-00000000": 9, f"register:{mine}": 8}, {mine: (2, digest)}, None)
    for node, cursors, heads, words in (
        ("other", {}, {}, "was begun by node here, and this is node other"),
        ("here", {"here-00000000": 2}, {}, "journal forget here-00000000"),
        ("here", {mine: 4}, {}, "applied entry 4 .* whose last is 3"),
        ("here", {mine: 2}, {mine: (2, "00" * 32)}, "entry 2 of journal .* was rewritten"),
    ):
        with pytest.raises(WrongJournal, match=words):
            check_history(reader, node, cursors, heads, None)
    with pytest.raises(WrongJournal, match="an act of the register was done at entry 4"):
        check_history(reader, "here", {}, {}, act(1, "close", 2, 4, mine))
    reader.close()


async def test_a_redis_that_is_older_than_what_retention_has_left_is_refused(tmp_path: Path) -> None:
    """What it has not applied is gone: an empty one is filled from what is left."""
    with closing(Ledger(tmp_path / "journal", Guarantees(node="here", segment_bytes=65_536))) as ledger:
        for _ in range(3):
            ledger.insert(ledger.chain([b"x" * 40_000] * 2))
        ledger.drop_old(1, 99, datetime.now(UTC) + timedelta(days=3))
    with closing(JournalReader(tmp_path)) as reader:
        assert reader.first() == 5
        for cursor in (0, 4, 6):
            check_history(reader, "here", {reader.id: cursor}, {}, None)
        with pytest.raises(WrongJournal, match=r"applied entry 3 .* deleted the entries up to 4: this Redis is an older copy"):
            check_history(reader, "here", {reader.id: 3}, {}, None)


async def test_a_register_that_was_rewritten_is_told_and_reports_go_on(here: Centre, queue: AlarmQueue, redis: Redis) -> None:
    async with here.followed():
        await here.take(burglary(1))
        await here.dispatched(redis)
        assert await queue.claim("Anne", 600)
        await copied(here, queue)
        name, key = f"register:{here.follower._register.id}", f"{{arcgate:{here.name}}}:heads"
        async with asyncio.timeout(5):
            while not await redis.hget(key, name):  # noqa: ASYNC110 - Redis is asked
                await asyncio.sleep(0.01)
    await redis.hset(key, name, f"1 {'00' * 32}")
    with capture_logs() as said:
        async with here.followed():
            await here.take(burglary(2))
            await here.dispatched(redis)
    (line,) = [line for line in said if line["event"] == "register_altered"]
    assert (line["log_level"], line["position"], line["known"]) == ("critical", 1, "00" * 32)
