"""What a put commits on a real server: what joins what, ghosts, repeats, and a batch with its cursor."""

from typing import Any

import pytest
from redis.asyncio import Redis

from dispatch.alarm import Priority
from dispatch.alarm_queue import AlarmQueue, SiteChange
from protocols.event import Category
from tests.dispatch.desk import AT, JOIN, LIFE, Follower, J, claim, event, fence, refused, run_out


async def test_a_closed_alarm_is_kept_a_day_and_a_later_event_opens_another(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    await follower.put("s", event(1))
    alarm = await claim(queue)
    await queue.close(alarm.id, fence(alarm), 1, "handled", "")
    for kind in ("alarm", "events", "seen"):
        assert 86_390 < await redis.ttl(f"{{arcgate:{centre}}}:{kind}:{alarm.id}") <= 86_400
    assert [placed.what for placed in await follower.put("s", event(1))] == []
    assert [placed.what for placed in await follower.put("s", event(2))] == ["opened"]
    assert await redis.ttl(f"{{arcgate:{centre}}}:alarm:{event(2).id}") == -1


@pytest.mark.parametrize(
    ("first", "claimed", "then", "what"),
    [
        ((Priority.INTRUSION, {}), False, (Priority.INTRUSION, {}), "joined"),
        ((Priority.INTRUSION, {}), False, (Priority.FAULT, {}), "joined"),
        ((Priority.INTRUSION, {}), False, (Priority.CONFIRMED, {}), "raised"),
        ((Priority.INTRUSION, {}), True, (Priority.INTRUSION, {}), "joined"),
        ((Priority.INTRUSION, {}), True, (Priority.CONFIRMED, {}), "raised"),
        ((Priority.INTRUSION, {}), True, (Priority.SCHEDULE, JOIN), "joined"),
        ((Priority.INTRUSION, {}), False, (Priority.LIFE, LIFE), "raised"),
        ((Priority.INTRUSION, {}), True, (Priority.LIFE, LIFE), "opened"),
        ((Priority.INTRUSION, {}), True, (Priority.FAULT, LIFE), "opened"),
        ((Priority.LIFE, LIFE), True, (Priority.LIFE, LIFE), "joined"),
        ((Priority.LIFE, LIFE), True, (Priority.FIRE, LIFE), "joined"),
        ((Priority.FIRE, LIFE), True, (Priority.LIFE, LIFE), "opened"),
        ((Priority.LIFE, {}), True, (Priority.LIFE, LIFE), "opened"),
        (None, False, (Priority.SCHEDULE, JOIN), "logged"),
        (None, False, (Priority.LIFE, LIFE | JOIN), "opened"),
        (None, False, (Priority.INTRUSION, {}), "opened"),
    ],
)
async def test_what_joins_what(  # noqa: PLR0913, PLR0917 - the table's columns
    queue: AlarmQueue,
    follower: Follower,
    first: tuple[Priority, dict[str, Any]] | None,
    claimed: bool,  # noqa: FBT001 - a column of the table
    then: tuple[Priority, dict[str, Any]],
    what: str,
) -> None:
    if first:
        await follower.put("s", event(1, first[0], **first[1]))
        if claimed:
            await claim(queue)
    (placed,) = await follower.put("s", event(2, then[0], **then[1]))
    opened = placed.what == "opened"
    assert placed.what == what
    assert placed.alarm == ("" if what == "logged" else event(2 if opened else 1).id)
    assert placed.priority == (then[0] if opened or not first else min(first[0], then[0]))


async def test_a_more_urgent_event_gives_the_alarm_its_meaning_and_rank_but_not_its_age(
    queue: AlarmQueue, follower: Follower
) -> None:
    await follower.put("s1", event(1, Priority.FAULT), event(2, Priority.LIFE, **LIFE), event(3, Priority.FIRE, **LIFE))
    await follower.put("s4", event(4, Priority.LIFE, at=AT))
    older, alarm = await claim(queue), await claim(queue)
    assert (older.site, alarm.site) == ("s4", "s1")
    assert (alarm.priority, alarm.category, alarm.label, alarm.steps) == (Priority.LIFE, Category.HOLD_UP, "label 2", ("step 2",))
    assert (alarm.opened_at, alarm.events) == (AT + 1, 3)
    assert await queue.events(alarm.id, 0, -1) == [{"number": 1}, {"number": 2}, {"number": 3}]
    assert await queue.events(alarm.id, 1, 1) == [{"number": 2}]


async def test_an_alarm_raised_in_hand_keeps_its_new_rank_when_it_is_released(queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("s1", event(1, Priority.FAULT))
    alarm = await claim(queue)
    await follower.put("s2", event(2, Priority.INTRUSION))
    await follower.put("s1", event(3, Priority.CONFIRMED))
    await queue.release(alarm.id, fence(alarm))
    assert [alarm.site for alarm in await queue.open_alarms(10)] == ["s1", "s2"]


async def test_an_expired_alarm_counts_as_waiting_when_a_life_event_comes(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    await follower.put("s", event(1))
    await run_out(redis, centre, await claim(queue))
    assert [placed.what for placed in await follower.put("s", event(2, Priority.LIFE, **LIFE))] == ["raised"]


async def test_a_repeat_is_counted_on_its_alarm_and_raised_anew_once_that_is_closed(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    await follower.put("s", event(1))
    alarm = await claim(queue)
    await follower.put("s", event(2, Priority.LIFE, **LIFE))
    for original, number in ((1, 3), (2, 4), (1, 5)):
        (placed,) = await follower.put("s", event(number, repeat_of=event(original).id))
        assert (placed.what, placed.alarm) == ("repeated", event(original).id)
    now = await queue.alarm(alarm.id)
    assert now is not None
    assert (now.events, now.repeats) == (1, 2)
    assert await redis.hgetall(f"{{arcgate:{centre}}}:seen:{alarm.id}") == {event(1).id.encode(): b"3"}
    await queue.close(alarm.id, fence(alarm), 1, "handled", "")
    (placed,) = await follower.put("s", event(6, repeat_of=event(1).id))
    assert (placed.what, placed.alarm) == ("joined", event(2).id)


async def test_a_repeat_that_was_raised_anew_is_counted_there_from_then_on(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    """A panel that repeats on after the close makes one more alarm with a count, not one more event each time."""
    await follower.put("s", event(1))
    alarm = await claim(queue)
    await queue.close(alarm.id, fence(alarm), 1, "handled", "")
    what = [(await follower.put("s", event(number, repeat_of=event(1).id)))[0].what for number in range(2, 6)]
    assert what == ["opened", "repeated", "repeated", "repeated"]
    (now,) = await queue.open_alarms(10)
    assert (now.id, now.events, now.repeats) == (event(2).id, 1, 3)
    assert await redis.hget(f"{{arcgate:{centre}}}:seen:{now.id}", event(2).id) == b"4"
    await follower.put("s2", event(6))
    await follower.put("s2", event(7, repeat_of="another journal-000000000009-0"))
    (placed,) = await follower.put("s2", event(8, repeat_of="another journal-000000000009-0"))
    assert (placed.what, placed.alarm) == ("repeated", event(6).id)


async def test_an_alarm_is_as_old_as_the_entry_that_its_events_need(queue: AlarmQueue, follower: Follower) -> None:
    """So a refill begins early enough to decide the same again."""
    await follower.put("s", event(5))
    await follower.put("s", event(6, needs="another journal-000000000001-0"), event(7, needs="no id"))
    assert await queue.oldest(J) == 5
    await follower.put("s", event(8, needs=event(3).id))
    assert await queue.oldest(J) == 3
    await follower.put("s", event(9, needs=event(4).id))
    assert await queue.oldest(J) == 3
    await follower.put("s2", event(10, needs=event(2).id))
    assert await queue.oldest(J) == 2
    for _ in range(2):
        alarm = await claim(queue)
        await queue.close(alarm.id, fence(alarm), alarm.events, "handled", "")
    assert await queue.oldest(J) is None


async def test_an_event_is_not_put_twice_into_any_open_alarm(queue: AlarmQueue, follower: Follower) -> None:
    """Not even where it would now join another than it did."""
    await follower.put("s", event(1))
    alarm = await claim(queue)
    await follower.put("s", event(2, Priority.LIFE, **LIFE), event(3))
    await queue.release(alarm.id, fence(alarm))
    assert await follower.put("s", event(1), event(2, Priority.LIFE, **LIFE), event(3)) == ()
    assert {alarm.id: alarm.events for alarm in await queue.open_alarms(10)} == {event(1).id: 2, event(2).id: 1}


async def test_twenty_ghosts_a_minute_have_alarms_of_their_own_and_the_rest_is_one_alarm(
    queue: AlarmQueue, follower: Follower
) -> None:
    for number in range(1, 31):
        await follower.put(f"ghost {number}", event(number), ghost=True)
    alarms = await queue.open_alarms(100)
    flood = alarms[-1]
    assert (len(alarms), flood.site, flood.name, flood.events) == (21, "ghosts", "Unknown accounts", 10)
    assert (flood.id, flood.label) == (event(21).id, "label 21")

    assert [p.alarm for p in await follower.put("ghost 1", event(40), ghost=True)] == [event(1).id]
    assert [p.what for p in await follower.put("ghost 99", event(41, Priority.LIFE, **LIFE), ghost=True)] == ["opened"]
    assert [p.what for p in await follower.put("ghost 25", event(42, repeat_of=event(25).id), ghost=True)] == ["repeated"]
    assert [p.what for p in await follower.put("ghost 98", event(43, **JOIN), ghost=True)] == ["logged"]
    assert [p.what for p in await follower.put("ghost 97", event(44, Priority.FIRE), ghost=True)] == ["raised"]
    assert [p.what for p in await follower.put("ghost 30", event(30), ghost=True)] == []
    assert [p.what for p in await follower.put("known", event(45))] == ["opened"]

    (placed,) = await follower.put("ghost 96", event(46, at=AT + 61_000), ghost=True)
    assert (placed.what, placed.alarm) == ("opened", event(46).id)


async def test_a_batch_succeeds_in_part_and_the_cursor_waits_for_the_rest(queue: AlarmQueue) -> None:
    def change(site: str, version: int, number: int) -> SiteChange:
        return SiteChange(site=site, name="", version=version, state=f"state {number}", position=number, events=(event(number),))

    await queue.put(J, 5, [change("a", 0, 4), change("b", 0, 5)])
    assert await queue.cursor(J) == 5
    result = await queue.put(J, 8, [change("a", 1, 6), change("b", 0, 7), change("new", 3, 8)])
    assert [(p.event, p.what) for p in result.placed] == [(event(6).id, "joined")]
    assert [(now.site, now.version, now.state, now.at) for now in result.moved] == [("b", 1, "state 5", 5), ("new", 0, "", 0)]
    assert await queue.cursor(J) == 5
    result = await queue.put(J, 8, [change("b", 1, 7), change("new", 0, 8)])
    assert [p.what for p in result.placed] == ["joined", "opened"]
    assert await queue.cursor(J) == 8
    await queue.put(J, 7, [])
    assert await queue.cursor(J) == 8


async def test_journals_have_cursors_of_their_own(queue: AlarmQueue) -> None:
    change = SiteChange(site="a", name="", version=0, state="one", position=3)
    await queue.put("j1", 3, [change])
    (now,) = (await queue.put("j2", 9, [change])).moved
    assert (now.version, now.state, now.at) == (1, "one", 0)
    assert (await queue.cursor("j1"), await queue.cursor("j2")) == (3, 0)


async def test_a_server_that_lost_what_it_acknowledged_is_noticed(queue: AlarmQueue, redis: Redis, centre: str) -> None:
    """A failover between two puts, with no fault of the connection seen: the cursor must not step over what was lost."""
    change = SiteChange(site="a", name="", version=0, state="", position=3, events=(event(3),))
    await queue.put(J, 3, [change])
    await redis.delete(*[key async for key in redis.scan_iter(f"{{arcgate:{centre}}}:*", count=1000)])
    await refused("BEHIND", queue.put(J, 4, []))
    assert await queue.cursor(J) == 0
    assert [placed.what for placed in (await queue.put(J, 3, [change])).placed] == ["opened"]


async def test_a_hold_up_shows_its_own_steps_where_it_joins_another_alarm_of_its_class(
    queue: AlarmQueue, follower: Follower
) -> None:
    await follower.put("s", event(1, Priority.LIFE, life=True, category=Category.MEDICAL, steps='["Speak with the person"]'))
    (placed,) = await follower.put("s", event(2, Priority.LIFE, steps='["Never call the premises"]', **LIFE))
    assert (placed.alarm, placed.what) == (event(1).id, "raised")
    alarm = await claim(queue)
    assert (alarm.category, alarm.steps) == (Category.HOLD_UP, ("Never call the premises",))


async def test_a_restore_joins_the_open_alarm_of_its_own_category(queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("s", event(1))
    await claim(queue)
    await follower.put("s", event(2, Priority.FIRE, life=True, category=Category.FIRE))
    (placed,) = await follower.put("s", event(3, Priority.LOG, category=Category.FIRE, **JOIN))
    assert placed.alarm == event(2).id


async def test_what_is_known_of_a_stranger_is_forgotten_unless_his_alarm_is_open(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    await follower.put("ghost:1", event(1), ghost=True)
    assert await redis.ttl(f"{{arcgate:{centre}}}:site:ghost:1") == -1
    alarm = await claim(queue)
    await queue.close(alarm.id, fence(alarm), 1, "unknown panel", "")
    assert 0 < await redis.ttl(f"{{arcgate:{centre}}}:site:ghost:1") <= 86_400
