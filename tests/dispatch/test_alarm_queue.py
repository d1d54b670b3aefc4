"""The queue on a real server: its order, its leases and fences, what it tells, and what it refuses."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

from dispatch.alarm import Alarm, AlarmState, Priority
from dispatch.alarm_queue import AlarmQueue, SiteChange, connect, end
from dispatch.server import QueueRefused
from protocols.event import Category
from tests.dispatch.desk import AT, Follower, J, claim, event, fence, refused, run_out


async def test_the_most_urgent_alarm_is_first_and_then_the_oldest(queue: AlarmQueue, follower: Follower) -> None:
    priorities = [Priority.FAULT, Priority.INTRUSION, Priority.LIFE, Priority.INTRUSION, Priority.SCHEDULE, Priority.FIRE]
    for number, priority in enumerate(priorities, 1):
        await follower.put(f"s{number}", event(number, priority, at=AT - number))
    expected = sorted((priority, AT - number) for number, priority in enumerate(priorities, 1))
    assert [(alarm.priority, alarm.opened_at) for alarm in await queue.open_alarms(100)] == expected
    assert [(alarm.priority, alarm.opened_at) for alarm in [await claim(queue) for _ in priorities]] == expected
    assert await queue.claim("alice", 30) is None


async def test_a_claimed_alarm_has_all_its_fields(queue: AlarmQueue, follower: Follower) -> None:
    before_us = time.time_ns() // 1000
    await follower.put("é", event(1, Priority.FIRE, category=Category.FIRE))
    alarm = await claim(queue, "alice", 30)
    assert alarm == Alarm(
        id=f"{J}-000000000001-0", site="é", name="Site é", account="0042", priority=Priority.FIRE, category=Category.FIRE,
        label="label 1", instruction="default", steps=("step 1",), state=AlarmState.CLAIMED, opened_at=AT + 1, events=1,
        repeats=0, returned=0, owner="alice", fence=alarm.fence, lease_until=alarm.lease_until,
    )  # fmt: skip
    assert before_us <= fence(alarm) <= time.time_ns() // 1000 + 1
    assert alarm.lease_until is not None
    assert alarm.lease_until == fence(alarm) // 1000 + 30_000
    assert await queue.alarm(alarm.id) == alarm
    assert await queue.alarm("no such") is None


async def test_fifty_consoles_claim_two_thousand_alarms_and_none_twice(queue: AlarmQueue) -> None:
    changes = [SiteChange(site=f"s{n}", name="", version=0, state="", position=1, events=(event(n),)) for n in range(2000)]
    await queue.put(J, 1, changes)

    async def console(name: str) -> list[Alarm]:
        mine = []
        while alarm := await queue.claim(name, 30):
            mine.append(alarm)
        return mine

    claimed = list(itertools.chain(*await asyncio.gather(*(console(f"operator {n}") for n in range(50)))))
    assert len(claimed) == len({alarm.id for alarm in claimed}) == len({alarm.fence for alarm in claimed}) == 2000


async def test_an_expired_lease_returns_the_alarm_at_its_rank_and_fences_its_owner(queue: AlarmQueue, follower: Follower) -> None:
    for number in (1, 2):
        await follower.put(f"s{number}", event(number))
    dead = await claim(queue, "dead", 0.1)
    async with asyncio.timeout(5):
        while not await queue.expire():  # noqa: ASYNC110 - the clock is the server's own
            await asyncio.sleep(0.01)
    for verb in (
        queue.renew(dead.id, fence(dead), 30),
        queue.release(dead.id, fence(dead)),
        queue.close(dead.id, fence(dead), 1, "x", ""),
    ):
        assert "waits" in await refused("FENCED", verb)
    again = await claim(queue, "alice")
    assert (again.id, again.returned, again.owner) == (dead.id, 1, "alice")
    assert fence(again) > fence(dead)
    assert "alice" in await refused("FENCED", queue.close(dead.id, fence(dead), 1, "x", ""))
    await queue.close(again.id, fence(again), 1, "handled", "")
    assert "was closed by alice" in await refused("FENCED", queue.renew(dead.id, fence(dead), 30))


async def test_every_verb_of_an_expired_owner_is_refused_though_nobody_has_swept(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    await follower.put("s", event(1))
    verbs: list[Callable[[Alarm], Awaitable[object]]] = [
        lambda alarm: queue.renew(alarm.id, fence(alarm), 30),
        lambda alarm: queue.release(alarm.id, fence(alarm)),
        lambda alarm: queue.close(alarm.id, fence(alarm), 1, "x", ""),
    ]
    for returned, verb in enumerate(verbs, 1):
        alarm = await claim(queue)
        await run_out(redis, centre, alarm)
        await refused("FENCED", verb(alarm))
        now = await queue.alarm(alarm.id)
        assert now is not None
        assert (now.state, now.returned, now.owner, now.fence, now.lease_until) == (
            AlarmState.WAITING,
            returned,
            None,
            None,
            None,
        )


async def test_one_sweep_is_bounded_and_still_fences_whom_it_did_not_reach(queue: AlarmQueue, redis: Redis, centre: str) -> None:
    changes = [SiteChange(site=f"s{n}", name="", version=0, state="", position=1, events=(event(n),)) for n in range(2002)]
    await queue.put(J, 1, changes)
    alarms = [await claim(queue) for _ in changes]
    for alarm in alarms:
        await run_out(redis, centre, alarm)
    last = max(alarms, key=lambda alarm: alarm.id)
    await refused("FENCED", queue.close(last.id, fence(last), 1, "x", ""))
    assert await queue.expire() == 1000
    assert await queue.expire() == 1
    assert len(await queue.open_alarms(10_000)) == 2002


async def test_renew_moves_the_end_of_the_lease(queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("s", event(1))
    alarm = await claim(queue, lease_s=1)
    end = await queue.renew(alarm.id, fence(alarm), 60)
    assert alarm.lease_until is not None
    assert 58_000 < end - alarm.lease_until < 70_000
    now = await queue.alarm(alarm.id)
    assert now is not None
    assert now.lease_until == end


async def test_release_puts_the_alarm_back_at_its_rank(queue: AlarmQueue, follower: Follower) -> None:
    for number in (1, 2, 3):
        await follower.put(f"s{number}", event(number))
    first = await claim(queue)
    await queue.release(first.id, fence(first))
    again = await claim(queue)
    assert (again.id, again.returned) == (first.id, 0)


async def test_a_fence_never_goes_back(queue: AlarmQueue, follower: Follower, redis: Redis, centre: str) -> None:
    """Neither where the clock went back (the last fence counts), nor where the last fence was lost (the clock counts)."""
    for number in (1, 2, 3):
        await follower.put(f"s{number}", event(number))
    ahead = 9_000_000_000_000_000
    await redis.set(f"{{arcgate:{centre}}}:fence", ahead)
    assert fence(await claim(queue)) == ahead + 1
    await redis.delete(f"{{arcgate:{centre}}}:fence")
    assert fence(await claim(queue)) > 1_700_000_000_000_000


async def test_close_is_refused_where_more_events_have_joined_than_were_seen(queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("s", event(1))
    alarm = await claim(queue)
    await follower.put("s", event(2))
    assert await refused("CHANGED", queue.close(alarm.id, fence(alarm), 1, "false", "")) == "2 events, you have seen 1"
    await queue.close(alarm.id, fence(alarm), 2, "false", "cat")
    closed = await queue.alarm(alarm.id)
    assert closed is not None
    assert (closed.state, closed.outcome, closed.note, closed.owner) == (AlarmState.CLOSED, "false", "cat", "alice")
    assert closed.closed_at is not None
    assert await queue.open_alarms(10) == []


async def test_an_empty_server_is_given_the_library(queue: AlarmQueue, redis: Redis) -> None:
    await redis.function_flush()
    assert await queue.counts() == {}


async def test_counts_and_the_list_hold_what_waits_and_what_is_claimed(queue: AlarmQueue, follower: Follower) -> None:
    for number, priority in enumerate([Priority.FAULT, Priority.LIFE, Priority.LIFE, Priority.FAULT, Priority.LOG], 1):
        await follower.put(f"s{number}", event(number, priority))
    await claim(queue)
    assert await queue.counts() == {Priority.LIFE: 2, Priority.FAULT: 2, Priority.LOG: 1}
    alarms = await queue.open_alarms(3)
    assert [(alarm.site, alarm.state) for alarm in alarms] == [("s2", "claimed"), ("s3", "waiting"), ("s1", "waiting")]


async def test_each_act_is_in_the_stream_once(queue: AlarmQueue, follower: Follower, redis: Redis, centre: str) -> None:
    await follower.put("s", event(1, Priority.FIRE))
    assert await queue.acts("0", 1) == []
    await run_out(redis, centre, await claim(queue))
    await queue.expire()
    alarm = await claim(queue, "bob")
    await queue.release(alarm.id, fence(alarm))
    alarm = await claim(queue, "carol")
    await queue.renew(alarm.id, fence(alarm), 30)
    await queue.close(alarm.id, fence(alarm), 1, "handled", "spoke to Ann")
    acts = await queue.acts("0", 0)
    assert [(fields["act"], fields["operator"]) for _, fields in acts] == [
        ("claim", "alice"), ("lease_expired", "alice"), ("claim", "bob"),
        ("release", "bob"), ("claim", "carol"), ("close", "carol"),
    ]  # fmt: skip
    assert acts[-1][1] == {
        "act": "close", "alarm": alarm.id, "site": "s", "operator": "carol", "fence": str(alarm.fence),
        "events": "1", "priority": "1", "category": "burglary", "life": "0", "opened_at": str(alarm.opened_at), "needed": "1",
        "cursors": '{"j1":1}', "outcome": "handled", "note": "spoke to Ann",
    }  # fmt: skip
    assert await queue.acts(acts[-2][0], 0) == acts[-1:]
    assert await queue.acts(acts[-1][0], 1) == []


async def test_the_newest_act_is_where_a_reader_begins(queue: AlarmQueue, follower: Follower) -> None:
    assert await queue.last_act() == "0-0"
    await follower.put("s", event(1))
    alarm = await claim(queue)
    newest = await queue.last_act()
    assert [act for act, _ in await queue.acts("0-0", 0)] == [newest]
    await queue.release(alarm.id, fence(alarm))
    assert [fields["act"] for _, fields in await queue.acts(newest, 0)] == ["release"]


async def test_a_replica_is_a_fault_that_may_mend_and_no_reason_to_give_up(redis: Redis, queue: AlarmQueue) -> None:
    await redis.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(ReadOnlyError):
            await queue.load()
    finally:
        await redis.replicaof("NO", "ONE")
    await queue.load()


async def test_arguments_out_of_bounds_are_refused(queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("s", event(1))
    for operator, lease_s in (("", 30), ("x" * 65, 30), ("alice", 0.05), ("alice", 601), ("alice", -1)):
        await refused("BADARG", queue.claim(operator, lease_s))
    alarm = await claim(queue, "x" * 64, 600)
    await refused("BADARG", queue.renew(alarm.id, fence(alarm), 601))
    await refused("BADARG", queue.close(alarm.id, fence(alarm), -1, "x", ""))
    for outcome, note in (("", ""), ("x" * 65, ""), ("x", "n" * 4097)):
        await refused("BADARG", queue.close(alarm.id, fence(alarm), 1, outcome, note))
    for limit in (0, 10_001):
        await refused("BADARG", queue.open_alarms(limit))
    for verb in (queue.renew("none", 1, 30), queue.release("none", 1), queue.close("none", 1, 1, "x", "")):
        await refused("NOALARM", verb)
    await queue.close(alarm.id, fence(alarm), 1, "x" * 64, "n" * 4096)


async def test_a_console_that_speaks_another_encoding_breaks_no_reader(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    await follower.put("s", event(1))
    await redis.fcall("arcgate_v1_claim", 1, f"{{arcgate:{centre}}}", b"ren\xe9", "30000")
    assert [alarm.owner for alarm in await queue.open_alarms(1)] == ["ren\ufffd"]
    assert [fields["operator"] for _, fields in await queue.acts("0", 0)] == ["ren\ufffd"]


async def test_a_server_that_would_drop_keys_is_refused(queue: AlarmQueue, redis: Redis) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(QueueRefused, match="noeviction"):
            await queue.load()
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    await queue.load()


async def test_a_server_that_forbids_config_get_is_used_all_the_same(valkey: str, centre: str, redis: Redis) -> None:
    await redis.acl_setuser("dispatch", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"])
    async with connect(valkey.replace("unix://", "unix://dispatch@") + "?password=any", Path()) as client:
        queue = AlarmQueue(client, centre)
        await queue.load()
        assert await queue.counts() == {}


async def test_a_user_that_may_not_load_functions_is_told_so(valkey: str, centre: str, redis: Redis) -> None:
    await redis.acl_setuser("console", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-function"])
    async with connect(valkey.replace("unix://", "unix://console@") + "?password=any", Path()) as client:
        with pytest.raises(QueueRefused, match="FUNCTION LOAD"):
            await AlarmQueue(client, centre).load()


async def test_a_server_that_is_away_is_a_fault_of_the_connection(tmp_path: Path) -> None:
    async with connect(f"unix://{tmp_path}/none.sock", tmp_path) as client:
        with pytest.raises(RedisConnectionError):
            await AlarmQueue(client, "main").cursor(J)


async def test_a_cancellation_that_redis_py_swallows_is_repeated(queue: AlarmQueue) -> None:
    """Cancelled in the turn of the loop in which the sending ends, often enough to meet it."""

    async def wait_for_acts() -> None:
        while True:
            await queue.acts("0-0", 2000)

    for turns in range(16):
        task = asyncio.create_task(wait_for_acts())
        for _ in range(turns % 8):
            await asyncio.sleep(0)
        await asyncio.wait_for(end(task), 5)


def test_another_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="write embedded"):
        connect("http://localhost", tmp_path)
