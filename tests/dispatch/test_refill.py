"""An empty or older Redis is brought up: nothing closed opens again, nothing open is missing, the ranks are as they were."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dispatch import beginning, copier, follow, own_site, refill
from dispatch.alarm import Alarm, AlarmState
from dispatch.alarm_queue import AlarmQueue, AlarmRefused, ReplayedAct
from dispatch.refill import WrongJournal, check_history
from dispatch.register import Act
from dispatch.sites import Site
from protocols.errors import Reason
from protocols.event import Category, Event, Format, Qualifier
from receiver.config import Guarantees
from receiver.delivered import Delivered
from receiver.journal import JournalReader
from receiver.ledger import Ledger
from tests.conftest import sia
from tests.dispatch.centre import Centre, burglary, copied, seen, shops
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


async def last_three_opened(here: Centre, queue: AlarmQueue, redis: Redis) -> None:
    """Close all that 300 reports open, then open three more."""
    await here.take(*(burglary(n, 100) for n in range(300)))
    await here.dispatched(redis)
    await close_some(queue, 1, 1)
    await here.take(burglary(500), burglary(501), burglary(505))
    await here.dispatched(redis)


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


@pytest.mark.parametrize("back_max", [beginning.BACK_MAX, 0], ids=["from where nothing was open", "from the oldest open alarm"])
@pytest.mark.parametrize("started_anew", [False, True], ids=["while it runs", "before its start"])
async def test_an_emptied_redis_holds_afterwards_what_it_held(  # noqa: PLR0913 - fixtures
    here: Centre, queue: AlarmQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch, *, started_anew: bool, back_max: int
) -> None:
    monkeypatch.setattr(beginning, "BACK_MAX", back_max)
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


async def test_what_a_refused_frame_reported_and_was_closed_stays_closed(here: Centre, queue: AlarmQueue, redis: Redis) -> None:
    """It was raised because of a refusal before the oldest alarm that is open: a refill has to begin there all the same."""
    here.sites.add(Site(("7001", "7002"), "two", "Two accounts"))
    hold_up = Event("7001", Format.SIA, "HA", Qualifier.NEW, Category.HOLD_UP)

    async def claim() -> Alarm:
        await here.dispatched(redis)
        alarm = await queue.claim("Anne", 600)
        assert alarm
        return alarm

    async def close(alarm: Alarm, events: int) -> None:
        await queue.close(alarm.id, alarm.fence or 0, events, "false alarm", "")

    async with here.followed():
        await here.refuse("7001", Reason.OLD_TIME)
        await close(await claim(), 1)
        await here.take(burglary(2), sia("7002", "Nri1/BA001", 1))
        open_still, in_hand = await claim(), await claim()
        await here.refuse("7001", Reason.OLD_TIME, hold_up)  # opens an alarm of its own
        robbed = await claim()
        await here.refuse("7001", Reason.OLD_TIME, hold_up)
        await here.dispatched(redis)
        await close(robbed, 3)
        await close(in_hand, 2)
        await copied(here, queue)
        assert seen(await queue.open_alarms(10)) == seen([open_still])
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == seen([open_still])


async def test_it_begins_at_the_oldest_open_alarm_and_not_at_the_first_entry(
    here: Centre, queue: AlarmQueue, redis: Redis
) -> None:
    async with here.followed():
        await last_three_opened(here, queue, redis)
        await copied(here, queue)
        before = seen(await queue.open_alarms(10))
    told = Delivered.read(here.folder)
    assert told
    with closing(JournalReader(here.folder)) as reader:
        assert (told.cursor, told.head, told.digest) == (303, 303, (reader.digest(303) or b"").hex())
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == before
    assert await redis.keys("*:alarm:*") != []
    assert len(await redis.keys("*:alarm:*")) == 2


async def test_a_register_of_years_is_gone_through_a_page_at_a_time(
    here: Centre, queue: AlarmQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its acts at once would be more than fits into memory, and than is sent to Redis before its time is up."""
    monkeypatch.setattr(refill, "ACTS_PAGE", 16)
    asked, replayed = list[int](), list[int]()
    sites_of, replay = AlarmQueue.sites_of, AlarmQueue.replay

    async def ask(self: AlarmQueue, alarm_ids: Sequence[str]) -> dict[str, str]:
        asked.append(len(alarm_ids))
        return await sites_of(self, alarm_ids)

    async def put(self: AlarmQueue, register: str, position: int, acts: Sequence[ReplayedAct], digest: str = "") -> int:
        replayed.append(len(acts))
        return await replay(self, register, position, acts, digest)

    async with here.followed():
        await last_three_opened(here, queue, redis)
        await close_some(queue, 1, 2)
        await copied(here, queue)
        before = seen(await queue.open_alarms(10))
    await redis.flushall()
    monkeypatch.setattr(AlarmQueue, "sites_of", ask)
    monkeypatch.setattr(AlarmQueue, "replay", put)
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == before
    assert sum(replayed) > 200
    assert max(replayed) == 16
    assert max(asked) < 16


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


async def test_an_older_copy_of_the_journal_beside_an_empty_redis_skips_nothing(
    here: Centre, queue: AlarmQueue, redis: Redis
) -> None:
    """What was delivered is told of entries that are gone: their positions are given to the next reports."""
    await here.take(burglary(1))
    Delivered(here.journal.id, 100, 90).write(here.folder)
    async with here.followed():
        await here.take(burglary(2))
        await here.dispatched(redis)
    assert [alarm.id for alarm in await queue.open_alarms(10)] == [here.id(1), here.id(2)]


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
        check_history(reader, "here", {}, {}, Act("1-0", "close", here.id(2), "s", "Anne", 1, 1, 3, {mine: 4}))
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


async def test_what_the_gateway_said_of_itself_opens_nothing_of_its_own_site_again(
    here: Centre, queue: AlarmQueue, redis: Redis
) -> None:
    """It comes from no entry of the journal; what is done there still comes behind the entries of that site."""
    async with here.followed():
        await here.take(burglary(1))
        await here.refuse(own_site.OWN.id, Reason.WRONG_KEY)
        await here.dispatched(redis)
        await own_site.tell(queue, here.journal.id, "disk_full", "The disk is full", (), datetime.now(UTC))
        burgled, told = await queue.claim("Anne", 600), await queue.claim("Anne", 600)
        assert burgled
        assert told
        assert (told.id, told.events) == (here.id(2), 2)
        await queue.close(told.id, told.fence or 0, 2, "mended", "")
        await copied(here, queue)
    await redis.flushall()
    async with here.followed():
        await here.dispatched(redis)
    assert seen(await queue.open_alarms(10)) == seen([burgled])
