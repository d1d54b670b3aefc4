"""From the journal to the queue on real servers: nothing left out and nothing twice, whatever happens to Redis."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dispatch import alarm_queue, follow
from dispatch.alarm import Priority
from dispatch.alarm_queue import AlarmQueue, SiteChange
from dispatch.refill import WrongJournal
from dispatch.sites import Site, Sites
from protocols import dc09
from protocols.errors import Reason
from protocols.event import CENTRE, Category, Event, Format, Qualifier
from receiver.journal import Report
from tests.conftest import sia
from tests.dispatch.centre import ENCRYPTED, NOW, Centre, burglary, shops
from tests.dispatch.desk import claim, fence
from tests.valkey import Valkey, events_in_alarms


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LOOK_S", 0.05)
    monkeypatch.setattr(follow, "AWAY_S_FIRST", 0.02)
    monkeypatch.setattr(follow, "AWAY_S_MAX", 0.1)


@pytest.fixture
async def here(tmp_path: Path, valkey: str, centre: str) -> AsyncIterator[Centre]:
    async with Centre(tmp_path / "here", shops(), valkey, centre) as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


async def test_entries_become_alarms_and_the_cursor_moves(here: Centre, queue: AlarmQueue, redis: Redis) -> None:
    async with here.followed() as follower:
        await here.take(sia("1001", "Nri1/BA5"))
        await here.dispatched(redis)
        await here.take(sia("1002", "Nri1/FA7"), sia("1001", "Nri1/BA6/TA7", 2), sia("1001", "Nri1/OP5", 3))
        await here.dispatched(redis)
        assert follower.lag == 0
    fire, burglary_alarm = await queue.open_alarms(10)
    assert (fire.site, fire.priority, fire.events, fire.opened_at) == ("shop2", Priority.FIRE, 1, 1772452802000)
    assert (burglary_alarm.id, burglary_alarm.site, burglary_alarm.events) == (here.id(1), "shop1", 4)
    assert [event["id"] for event in await queue.events(here.id(1), 0, -1)] == [
        here.id(1), here.id(3), here.id(3, 1), here.id(4),
    ]  # fmt: skip
    assert follower.counts == {"opened": 2, "joined": 3}


async def test_what_a_receiver_says_of_itself_is_an_alarm_of_the_centre(here: Centre, queue: AlarmQueue) -> None:
    for qualifier in (Qualifier.NEW, Qualifier.RESTORE):
        event = Event(CENTRE, Format.ARCGATE, "receiver_link_lost", qualifier, Category.GENERATED, text=f"Link: {qualifier}")
        await here.keep([Report(NOW, "sg", "", "", (event,), qualifier)])
    await here.all_dispatched()
    (alarm,) = await queue.open_alarms(10)
    assert (alarm.site, alarm.events) == ("(centre)", 2)


async def test_each_event_s_line_has_its_id_and_its_alarm(here: Centre) -> None:
    await here.take(sia("1001", "Nri1/BA5"), sia("1001", "Nri1/FA6", 2), sia("1001", "Nri1/FA6", 2), sia("1002", "Nri1/CL9"))
    await here.all_dispatched()
    lines = [(line["event"], line["id"], line["alarm"], line["site"], line["priority"]) for line in here.logged()]
    assert lines == [
        ("alarm_queued", here.id(1), here.id(1), "shop1", "intrusion"),
        ("alarm_raised", here.id(2), here.id(1), "shop1", "fire"),
        ("event_repeated", here.id(3), here.id(1), "shop1", "fire"),
        ("event_logged", here.id(4), "", "shop2", "log"),
    ]


async def test_a_label_is_in_the_language_of_the_site(tmp_path: Path, valkey: str, centre: str, queue: AlarmQueue) -> None:
    sites = Sites()
    sites.add(Site(("1001",), "boulangerie", "Boulangerie", language="fr"))
    sites.add(Site(("1002",), "bakery", "Bakery"))
    async with Centre(tmp_path / "here", sites, valkey, centre) as here:
        await here.take(sia("1001", "Nri1/TA5"), sia("1002", "Nri1/TA5"))
        await here.all_dispatched()
        assert {alarm.site: alarm.label for alarm in await queue.open_alarms(10)} == {
            "boulangerie": "Alarme autoprotection",
            "bakery": "Tamper alarm",
        }
        (event,) = await queue.events(here.id(1), 0, -1)
        assert event["label"] == "Alarme autoprotection"


async def test_a_restart_goes_on_where_the_last_one_stopped(here: Centre, redis: Redis) -> None:
    for batch in range(3):
        await here.take(*(burglary(number) for number in range(batch * 300, (batch + 1) * 300)))
        await here.all_dispatched()
    assert await events_in_alarms(redis, here.name) == here.each_once()
    assert len(here.logged()) == 900


async def test_a_batch_in_which_a_site_moved_is_decided_again_on_what_the_site_holds(
    here: Centre, queue: AlarmQueue, redis: Redis
) -> None:
    async with here.followed():
        await here.take(burglary(0), burglary(1))
        await here.dispatched(redis)
        change = SiteChange(site="shop1", name="", version=1, state="{}", position=1)
        assert not (await queue.put("another journal", 1, [change])).moved
        await here.take(burglary(5), burglary(6))
        await here.dispatched(redis)
    assert await events_in_alarms(redis, here.name) == here.each_once()
    assert await redis.hget(f"{{arcgate:{here.name}}}:site:shop1", "version") == b"3"


async def test_two_followers_of_two_journals_share_the_sites_of_one_centre(here: Centre, tmp_path: Path, redis: Redis) -> None:
    async with Centre(tmp_path / "there", here.sites, here.url, here.name) as there, here.followed(), there.followed():
        for start in range(0, 600, 20):
            await asyncio.gather(
                here.take(*(burglary(number) for number in range(start, start + 20))),
                there.take(*(burglary(number) for number in range(1000 + start, 1020 + start))),
            )
        await here.dispatched(redis)
        await there.dispatched(redis)
        assert await events_in_alarms(redis, here.name) == here.each_once() + there.each_once()
        for n in range(5):
            held = await redis.hgetall(f"{{arcgate:{here.name}}}:site:shop{n}")
            assert {int(held[f"at:{node.journal.id}".encode()]) for node in (here, there)} == {596 + n}


async def test_what_was_sent_to_one_node_and_repeated_to_the_other_is_known(
    here: Centre, tmp_path: Path, queue: AlarmQueue
) -> None:
    async with Centre(tmp_path / "there", here.sites, here.url, here.name) as there:
        await here.take(sia("1001", "Nri1/BA5"))
        await here.all_dispatched()
        await there.take(sia("1001", "Nri1/BA5"))
        await there.all_dispatched()
    (alarm,) = await queue.open_alarms(10)
    assert (alarm.events, alarm.repeats) == (1, 1)


async def test_a_queue_that_was_emptied_is_filled_again_though_nothing_new_comes(here: Centre, redis: Redis) -> None:
    await here.take(*(burglary(number) for number in range(600)))
    with capture_logs() as said:
        async with here.followed():
            await here.dispatched(redis)
            await redis.flushall()
            await here.dispatched(redis)
    assert await events_in_alarms(redis, here.name) == here.each_once()
    assert any("BEHIND" in line.get("error", "") for line in said)


async def test_a_queue_that_is_an_older_copy_is_brought_up_to_date(tmp_path: Path, server: Valkey) -> None:
    """As after a failover to a replica that was behind."""
    async with Centre(tmp_path / "here", shops(), server.url, "main") as here, here.followed():
        await here.take(*(burglary(number) for number in range(300)))
        await here.dispatched(here.redis)
        shutil.copytree(server.folder / "appendonlydir", tmp_path / "copy")
        await here.take(*(burglary(number) for number in range(300, 800)))
        await here.dispatched(here.redis)
        server.stop()
        shutil.rmtree(server.folder / "appendonlydir")
        shutil.move(tmp_path / "copy", server.folder / "appendonlydir")
        server.start()
        await here.dispatched(here.redis)
        assert await events_in_alarms(here.redis, "main") == here.each_once()


async def test_a_cursor_beyond_the_journal_stops_it_and_says_what_to_do(here: Centre, queue: AlarmQueue) -> None:
    await here.take(burglary(0))
    await queue.put(here.journal.id, 7, [])
    async with here.followed():
        with pytest.raises(WrongJournal, match=rf"applied entry 7 of journal {here.journal.id}, whose last is 1"):
            await asyncio.wait_for(here.following, 5)


@pytest.mark.parametrize("frozen", [False, True], ids=["killed", "frozen"])
async def test_while_redis_is_away_reports_wait_and_then_all_are_queued_once(
    tmp_path: Path, server: Valkey, monkeypatch: pytest.MonkeyPatch, *, frozen: bool
) -> None:
    monkeypatch.setattr(alarm_queue, "ANSWER_S_MAX", 0.3)
    with capture_logs() as said:
        async with Centre(tmp_path / "here", shops(), server.url, "main") as here, here.followed() as follower:
            await here.take(*(burglary(number) for number in range(300)))
            (server.freeze if frozen else server.stop)()
            await here.take(*(burglary(number) for number in range(300, 600)))
            async with asyncio.timeout(5):
                while not follower.away:  # noqa: ASYNC110 - it is asked, it does not tell
                    await asyncio.sleep(0.01)
            await here.take(*(burglary(number) for number in range(600, 900)))
            (server.thaw if frozen else server.start)()
            await here.dispatched(here.redis)
            assert await events_in_alarms(here.redis, "main") == here.each_once()
            assert follower.away is None
    assert [line["event"] for line in said[-2:]] == ["queue_away", "dispatching"]
    assert said[-2]["log_level"] == "critical"


async def test_a_retransmission_is_counted_in_its_open_alarm_and_after_the_close_it_is_raised_anew(
    here: Centre, queue: AlarmQueue, redis: Redis
) -> None:
    async with here.followed():
        await here.take(*[sia("1001", "Nri1/BA5")] * 3)
        await here.dispatched(redis)
        alarm = await claim(queue)
        assert (alarm.events, alarm.repeats) == (1, 2)
        await queue.close(alarm.id, fence(alarm), 1, "handled", "")
        await here.take(sia("1001", "Nri1/BA5"))
        await here.dispatched(redis)
    (again,) = await queue.open_alarms(10)
    assert (again.id, again.site, again.events, again.repeats) == (here.id(4), "shop1", 1, 0)


async def test_accounts_that_no_site_names_are_ghosts_and_many_are_one_alarm_but_for_life_safety(
    here: Centre, queue: AlarmQueue
) -> None:
    await here.take(*(sia(str(2000 + n), "Nri1/BA1") for n in range(30)), sia("3000", "Nri1/PA1"))
    await here.all_dispatched()
    alarms = {alarm.site: alarm for alarm in await queue.open_alarms(100)}
    assert len(alarms) == 22
    assert (alarms["ghost:2000"].name, alarms["ghost:2000"].priority) == ("Unknown account 2000", Priority.INTRUSION)
    assert alarms["ghosts"].events == 10
    assert alarms["ghost:3000"].priority is Priority.LIFE


async def test_refused_frames_raise_one_alarm_for_a_site_and_none_for_an_unknown_account(here: Centre, queue: AlarmQueue) -> None:
    stranger = dc09.Frame(id_token="*SIA-DCS", sequence="0001", account="9999", data="A" * 32)
    await here.take(ENCRYPTED, stranger, dc09.Frame(id_token="*SIA-DCS", sequence="0002", account="1001", data="B" * 32))
    await here.all_dispatched()
    (alarm,) = await queue.open_alarms(10)
    assert (alarm.site, alarm.priority, alarm.events, alarm.repeats) == ("shop1", Priority.TECHNICAL, 1, 1)
    assert "Reports are being refused" in alarm.label
    assert [line["id"] for line in here.logged()] == [here.id(1), here.id(3)]


async def test_a_flood_of_refused_frames_is_one_alarm_with_a_count_which_can_be_closed(
    here: Centre, queue: AlarmQueue, redis: Redis
) -> None:
    async with here.followed():
        await here.refuse("1001", Reason.WRONG_KEY, times=600)
        await here.dispatched(redis)
        alarm = await claim(queue)
        assert (alarm.id, alarm.events, alarm.repeats) == (here.id(1), 1, 599)
        await here.refuse("1001", Reason.WRONG_KEY, times=5)
        await here.refuse("1001", Reason.PLAIN, times=5)
        await here.take(sia("1001", "Nri1/FA7"))
        await here.dispatched(redis)
        now = await queue.alarm(alarm.id)
        assert now
        assert (now.events, now.repeats) == (2, 608)
        (fire,) = [other for other in await queue.open_alarms(9) if other.id != alarm.id]
        assert fire.priority is Priority.FIRE
        await queue.close(alarm.id, fence(alarm), 2, "told the installer", "")
        await here.refuse("1001", Reason.WRONG_KEY, times=3)
        await here.dispatched(redis)
    assert await redis.hlen(f"{{arcgate:{here.name}}}:seen:{fire.id}") < 5
    (alarm,) = await queue.open_alarms(9)
    assert (alarm.id, alarm.events, alarm.repeats) == (fire.id, 2, 2)


async def test_a_hold_up_with_a_time_that_is_refused_again_is_raised_marked_at_its_own_priority(
    here: Centre, queue: AlarmQueue, redis: Redis
) -> None:
    hold_up = Event("1001", Format.SIA, "HA", Qualifier.NEW, Category.HOLD_UP, zone="3")
    opening = Event("1001", Format.SIA, "OP", Qualifier.NEW, Category.OPENING)
    async with here.followed():
        await here.refuse("1001", Reason.OLD_TIME, hold_up, opening)
        await here.dispatched(redis)
        assert [(a.priority, a.events) for a in await queue.open_alarms(9)] == [(Priority.TECHNICAL, 1)]
        await here.refuse("1001", Reason.OLD_TIME, hold_up, opening)
        await here.dispatched(redis)
    (alarm,) = await queue.open_alarms(9)
    assert (alarm.priority, alarm.category, alarm.events, alarm.repeats) == (Priority.LIFE, Category.HOLD_UP, 2, 1)
    assert "Do NOT call the premises" in alarm.steps[0]
    refused, raised = await queue.events(alarm.id, 0, -1)
    assert (refused["code"], refused["mark"]) == ("refused_old_time", "why: old_time")
    assert (raised["code"], raised["zone"], raised["mark"]) == ("HA", "3", "refused: why: old_time")


async def test_a_hold_up_in_a_refused_frame_opens_its_own_alarm_beside_a_lesser_one_in_hand(
    here: Centre, queue: AlarmQueue, redis: Redis
) -> None:
    hold_up = Event("1001", Format.SIA, "HA", Qualifier.NEW, Category.HOLD_UP)
    async with here.followed():
        await here.refuse("1001", Reason.OLD_TIME)
        await here.dispatched(redis)
        await claim(queue)
        await here.refuse("1001", Reason.OLD_TIME, hold_up, times=3)
        await here.dispatched(redis)
    alarms = await queue.open_alarms(9)
    assert [(a.id, a.priority, a.events) for a in alarms] == [
        (here.id(2, 1), Priority.LIFE, 3),
        (here.id(1), Priority.TECHNICAL, 1),
    ]


async def test_a_row_of_refusals_goes_on_at_another_node(here: Centre, tmp_path: Path, queue: AlarmQueue) -> None:
    hold_up = Event("1001", Format.SIA, "HA", Qualifier.NEW, Category.HOLD_UP)
    async with Centre(tmp_path / "there", here.sites, here.url, here.name) as there:
        await here.refuse("1001", Reason.OLD_TIME, hold_up)
        await here.all_dispatched()
        await there.refuse("1001", Reason.OLD_TIME, hold_up)
        await there.all_dispatched()
    (alarm,) = await queue.open_alarms(10)
    assert (alarm.priority, alarm.events, alarm.repeats) == (Priority.LIFE, 2, 1)


async def test_refusals_over_many_accounts_without_a_site_become_one_alarm(here: Centre, queue: AlarmQueue) -> None:
    """They have keys, so the centre knows them; where its own clock is wrong, all are refused at once."""
    for n in range(30):
        await here.refuse(str(2000 + n), Reason.OLD_TIME, times=2)
    await here.all_dispatched()
    alarms = {alarm.site: alarm for alarm in await queue.open_alarms(100)}
    assert len(alarms) == 21
    assert (alarms["ghosts"].events, alarms["ghosts"].repeats) == (10, 10)


async def test_what_was_wrong_with_a_frame_that_was_taken_is_told_to_the_console(here: Centre, queue: AlarmQueue) -> None:
    event = Event("1001", Format.SIA, "BA", Qualifier.NEW, Category.BURGLARY)
    here.journal.append([Report(NOW, "ip", "", "", (event,), "A", "the panel's clock is 50 s behind")], lambda: None)
    await here.take(sia("1001", "Nri1/BA6"))
    await here.all_dispatched()
    first, second = await queue.events(here.id(1), 0, -1)
    assert first["mark"] == "the panel's clock is 50 s behind"
    assert "mark" not in second


async def test_a_clock_that_is_off_is_a_fault_and_its_restore_joins(here: Centre, queue: AlarmQueue) -> None:
    off = Event("1001", Format.ARCGATE, "clock_off", Qualifier.NEW, Category.GENERATED, text="The panel's clock is 90 s behind")
    back = Event("1001", Format.ARCGATE, "clock_off", Qualifier.RESTORE, Category.GENERATED, text="The panel's clock is right")
    await here.keep([Report(NOW, "ip", "", "", (event,)) for event in (off, back)])
    await here.all_dispatched()
    (alarm,) = await queue.open_alarms(10)
    assert (alarm.priority, alarm.label, alarm.events) == (Priority.FAULT, "The panel's clock is 90 s behind", 2)


async def test_a_journal_that_is_not_there_yet_is_waited_for(tmp_path: Path, valkey: str, centre: str, redis: Redis) -> None:
    late = Centre(tmp_path / "late", shops(), valkey, centre)
    with capture_logs() as said:
        async with late.followed():
            async with asyncio.timeout(5):
                while not said:  # noqa: ASYNC110 - it is asked, it does not tell
                    await asyncio.sleep(0.01)
            async with late:
                await late.take(burglary(0))
                await late.dispatched(redis)
    assert said[0]["event"] == "journal_awaited"
    assert "there is none yet" in said[0]["error"]


async def test_an_entry_without_events_holds_nothing_up(here: Centre, redis: Redis) -> None:
    here.journal.append([Report(NOW, "ip", "127.0.0.1:4711", "", ())], lambda: None)
    await here.take(burglary(1))
    await here.all_dispatched()
    assert (await events_in_alarms(redis, here.name)).keys() == {here.id(2)}
