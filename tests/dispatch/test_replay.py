"""What people did, done again on a real server that lost it; and what is still open there."""

import json
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from dispatch.alarm import Alarm, AlarmState, Priority
from dispatch.alarm_queue import AlarmQueue, PutEvent, ReplayedAct, SiteChange
from tests.dispatch.desk import JOIN, LIFE, Follower, J, claim, event, fence, look_at, refused, replayed, run_out

R = "r1"
ACTED_AT = 4_000_000_000_000
"""Ahead of these tests' clock: what is done after a replay must come after it all the same."""
FIRST = event(1).id


def act(name: str, number: int, alarm: str = FIRST, **others: Any) -> ReplayedAct:
    fields = {"id": f"{ACTED_AT}-{number}", "operator": "alice", "fence": ACTED_AT * 1000 + number, **others}
    return ReplayedAct(act=name, alarm=alarm, **fields)


async def alarm(queue: AlarmQueue, alarm_id: str = FIRST) -> Alarm:
    found = await queue.alarm(alarm_id)
    assert found is not None
    return found


async def everything(redis: Redis, centre: str) -> dict[str, object]:
    """All keys of the centre, but for the clock: when leases and expiries end."""
    held: dict[str, object] = {}
    p = f"{{arcgate:{centre}}}:"
    async for key in redis.scan_iter(f"{p}*", count=1000):
        name, kind = key.decode().removeprefix(p), await redis.type(key)
        if kind == b"hash":
            held[name] = {field: value for field, value in (await redis.hgetall(key)).items() if field != b"lease_until"}
        elif kind == b"zset":
            members = await redis.zrange(key, 0, -1, withscores=name != "claimed")
            held[name] = sorted(members) if name == "claimed" else members  # by the end of its lease
        elif kind == b"list":
            held[name] = await redis.lrange(key, 0, -1)
        elif kind == b"string":
            held[name] = await redis.get(key)
    return held


async def test_a_claim_is_done_again_with_its_owner_and_fence(queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("s", event(1))
    assert await queue.replay(R, 1, [act("claim", 1)]) == 1
    now = await alarm(queue)
    assert (now.state, now.owner, now.fence) == (AlarmState.CLAIMED, "alice", ACTED_AT * 1000 + 1)
    assert await queue.claim("bob", 30) is None
    await queue.renew(now.id, fence(now), 30)
    await queue.close(now.id, fence(now), 1, "handled", "")


async def test_a_replayed_claim_has_a_lease_of_a_minute(queue: AlarmQueue, follower: Follower, redis: Redis, centre: str) -> None:
    await follower.put("s", event(1))
    seconds, _ = await redis.time()
    await queue.replay(R, 1, [act("claim", 1)])
    lease_until = (await alarm(queue)).lease_until
    assert lease_until is not None
    assert 59_000 < lease_until - seconds * 1000 < 70_000
    assert await redis.zscore(f"{{arcgate:{centre}}}:claimed", FIRST) == lease_until


async def test_a_release_and_a_lost_lease_put_the_alarm_back_at_its_rank(queue: AlarmQueue, follower: Follower) -> None:
    for number in (1, 2, 3):
        await follower.put(f"s{number}", event(number))
    acts = [act(name, n) for n, name in enumerate(("claim", "release", "claim", "lease_expired"))]
    assert await queue.replay(R, 4, acts) == 4
    assert [a.id for a in await queue.open_alarms(9)] == [event(n).id for n in (1, 2, 3)]
    now = await alarm(queue)
    assert (now.state, now.returned, now.owner, now.fence, now.lease_until) == (AlarmState.WAITING, 1, None, None, None)
    assert (await claim(queue)).id == FIRST


async def test_a_close_is_done_again_as_it_was(queue: AlarmQueue, follower: Follower, redis: Redis, centre: str) -> None:
    await follower.put("s", event(1), event(2, Priority.LIFE, **LIFE))
    closing = act("close", 2, outcome="handled", note="spoke to Ann", events=2)
    assert await queue.replay(R, 2, [act("claim", 1), closing]) == 2
    now = await alarm(queue)
    assert (now.state, now.owner, now.fence, now.lease_until) == (AlarmState.CLOSED, "alice", closing.fence, None)
    assert (now.closed_at, now.outcome, now.note) == (ACTED_AT, "handled", "spoke to Ann")
    assert await queue.open_alarms(9) == []
    assert await queue.counts() == {}
    for kind in ("alarm", "events", "seen"):
        assert 86_390 < await redis.ttl(f"{{arcgate:{centre}}}:{kind}:{FIRST}") <= 86_400
    assert [placed.what for placed in await follower.put("s", event(3))] == ["opened"]


async def test_twice_is_as_once(queue: AlarmQueue, follower: Follower, redis: Redis, centre: str) -> None:
    for number in (1, 2, 3):
        await follower.put(f"s{number}", event(number))
    acts = [
        *(act("claim", 1), act("lease_expired", 2), act("claim", 3)),
        *(act("claim", 4, event(2).id), act("close", 5, event(2).id, outcome="handled")),
        *(act("claim", 6, event(3).id), act("release", 7, event(3).id)),
    ]
    assert await queue.replay(R, 7, acts) == 7
    before = await everything(redis, centre)
    assert await queue.replay(R, 7, acts) == 0
    assert await queue.replay(R, 7, acts[2:]) == 0
    assert await everything(redis, centre) == before


async def test_an_act_older_than_the_alarms_last_is_left_out(queue: AlarmQueue, follower: Follower) -> None:
    """Compared as numbers: 9 comes before 10, in the ms and within it."""
    await follower.put("s", event(1))
    assert await queue.replay(R, 1, [act("claim", 10, operator="bob")]) == 1
    assert await queue.replay(R, 2, [act("release", 9), act("release", 99, id="99-1"), act("release", 0, id="no id")]) == 0
    assert (await alarm(queue)).owner == "bob"
    assert await queue.replay(R, 3, [act("release", 11)]) == 1


async def test_an_act_on_this_server_is_the_alarms_last(queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("s", event(1))
    mine = await claim(queue, "bob")
    assert await queue.replay(R, 1, [act("claim", 0, id="1600000000000-0"), act("release", 0, id="1600000000001-0")]) == 0
    assert await alarm(queue) == mine


async def test_what_was_closed_closes_though_somebody_claimed_it_meanwhile(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    """While a replay is on its way to the close, a console may claim the alarm, or a replayed lease may run out."""
    closing = act("close", 0, id="1600000000000-0", outcome="handled")
    await follower.put("s", event(1))
    mine = await claim(queue, "bob")
    assert await queue.replay(R, 1, [closing]) == 1
    assert "was closed by alice" in await refused("FENCED", queue.renew(mine.id, fence(mine), 30))
    await follower.put("s", event(2))
    await run_out(redis, centre, await claim(queue))
    await queue.expire()
    assert await queue.replay(R, 2, [act("close", 0, event(2).id, id="1600000000001-0", outcome="handled")]) == 1
    assert await queue.open_alarms(9) == []


async def test_a_close_never_hides_events_that_whoever_closed_has_not_seen(queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("s", event(1), event(2))
    assert await queue.replay(R, 1, [act("close", 1, outcome="handled", events=1)]) == 0
    assert [a.events for a in await queue.open_alarms(9)] == [2]
    assert await queue.replay(R, 1, [act("close", 1, outcome="handled", events=2)]) == 1


async def test_an_act_on_an_alarm_that_is_not_here_or_of_a_kind_unknown_is_left_out(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    await follower.put("s", event(1))
    before = await everything(redis, centre)
    acts = [act(name, 1, "no such alarm") for name in ("claim", "release", "lease_expired", "close")]
    assert await queue.replay(R, 3, [*acts, act("a later arcgate's", 2)]) == 0
    after = await everything(redis, centre)
    assert set(after) - set(before) == {"fence"}
    assert {name for name in before if before[name] != after[name]} == {"cursors"}


async def test_what_is_done_after_a_replay_comes_after_it(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    """Its fence and its act are later, though this server's clock is behind; and the stream gained nothing by the replay."""
    await follower.put("s", event(1))
    acts = [act("claim", 5), act("release", 6)]
    await queue.replay(R, 2, acts)
    assert await queue.acts("0", 0) == []
    mine = await claim(queue)
    assert fence(mine) == acts[-1].fence + 1
    ((newest, _),) = await queue.acts(acts[-1].id, 0)
    assert newest == f"{ACTED_AT}-7"
    await queue.replay(R, 2, acts)
    assert await redis.get(f"{{arcgate:{centre}}}:fence") == str(mine.fence).encode()
    assert (await queue.last_act(), await alarm(queue)) == (newest, mine)


async def test_the_register_has_a_cursor_that_never_goes_back(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    await follower.put("s", event(1))
    assert await queue.replay(R, 7, []) == 0
    assert await queue.replay(R, 7, [act("claim", 1)]) == 1
    assert await queue.cursors() == {J: 1, f"register:{R}": 7}
    other_node = AlarmQueue(redis, centre)
    await other_node.replay(R, 3, [])
    assert await queue.cursor(f"register:{R}") == 7


async def test_a_server_that_lost_acts_is_noticed(queue: AlarmQueue, redis: Redis, centre: str) -> None:
    await queue.replay(R, 7, [])
    await redis.delete(f"{{arcgate:{centre}}}:cursors")
    assert f"register:{R} is 0, and was 7" in await refused("BEHIND", queue.replay(R, 8, []))
    assert await queue.cursor(f"register:{R}") == 0
    await queue.replay(R, 8, [])


async def test_acts_carry_the_cursors_of_journals_alone(queue: AlarmQueue, follower: Follower) -> None:
    await queue.replay(R, 7, [])
    await follower.put("s", event(1))
    await claim(queue)
    ((_, fields),) = await queue.acts("0", 0)
    assert fields["cursors"] == f'{{"{J}":1}}'


async def test_the_oldest_open_alarm_of_each_journal_is_known(queue: AlarmQueue, follower: Follower) -> None:
    """Whatever becomes of it but its end: joined, claimed, returned. A journal's id may hold dashes."""
    dashed = "node-b-12ab34cd"
    change = SiteChange(
        site="b", name="", version=0, state="", position=900,
        events=(msgspec.structs.replace(event(1), id=f"{dashed}-000000000900-3"),),
    )  # fmt: skip
    await queue.put(dashed, 900, [change])
    for number in (3, 4):
        await follower.put(f"s{number}", event(number))
    await follower.put("s3", event(5), event(6, **JOIN))
    assert [await queue.oldest(journal) for journal in (dashed, J, "node", "none")] == [900, 3, None, None]

    mine = [await claim(queue) for _ in range(3)]
    assert {await queue.oldest(J), await queue.oldest(dashed)} == {3, 900}
    await queue.release(mine[0].id, fence(mine[0]))
    assert {await queue.oldest(J), await queue.oldest(dashed)} == {3, 900}
    for number, oldest in ((3, 4), (4, None)):
        now = await alarm(queue, event(number).id)
        if now.state is AlarmState.WAITING:
            now = await claim(queue)
        await queue.close(now.id, fence(now), now.events, "handled", "")
        assert await queue.oldest(J) == oldest
    await queue.replay(R, 1, [act("close", 1, f"{dashed}-000000000900-3", outcome="handled")])
    assert await queue.oldest(dashed) is None


async def test_an_alarm_deleted_by_hand_is_not_the_oldest_for_ever(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    for number in (1, 2):
        await follower.put(f"s{number}", event(number))
    await run_out(redis, centre, await claim(queue))
    for number in (1, 2):
        await redis.delete(f"{{arcgate:{centre}}}:alarm:{event(number).id}")
    await queue.expire()
    assert await queue.oldest(J) == 2
    assert await queue.claim("alice", 30) is None
    assert await queue.oldest(J) is None


async def test_a_head_is_noted_where_the_cursor_moves(queue: AlarmQueue) -> None:
    await queue.put(J, 5, [], "aa")
    await queue.put("node-b-1", 2, [])
    await queue.put(J, 4, [], "bb")
    await queue.put(J, 5, [SiteChange(site="s", name="", version=9, state="", position=5)], "cc")
    await queue.put(J, 6, [SiteChange(site="s", name="", version=9, state="", position=6)], "dd")
    assert await queue.heads() == {J: (5, "aa")}
    assert await queue.cursors() == {J: 5, "node-b-1": 2}
    await queue.put(J, 7, [], "ee")
    assert await queue.heads() == {J: (7, "ee")}


async def test_the_acts_that_the_stream_still_has_are_told_apart(queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("s", event(1))
    assert await queue.act_ids("-", "+") == set()
    for _ in range(600):
        mine = await claim(queue)
        await queue.release(mine.id, fence(mine))
    acts = [act_id for act_id, _ in await queue.acts("0", 0)]
    acts += [act_id for act_id, _ in await queue.acts(acts[-1], 0)]
    assert len(acts) == 1200
    assert await queue.act_ids("-", "+") == set(acts)
    assert await queue.act_ids(acts[3], acts[1100]) == set(acts[3:1101])


async def test_arguments_out_of_bounds_are_refused(queue: AlarmQueue, redis: Redis, centre: str) -> None:
    await refused("BADARG", queue.replay(R, -1, []))
    with pytest.raises(Exception, match="BADARG replay"):
        await redis.fcall("arcgate_v1_replay", 1, f"{{arcgate:{centre}}}", R, "1", "0")
    with pytest.raises(Exception, match="BADARG oldest"):
        await redis.fcall("arcgate_v1_oldest", 1, f"{{arcgate:{centre}}}")


def report(number: int) -> tuple[str, PutEvent]:
    """One of many reports, of all sorts: its site and its event."""
    return f"s{number % 60}", event(number, Priority(number % 7), **LIFE if number % 7 == 0 else {})


async def act_somehow(queue: AlarmQueue, redis: Redis, centre: str, number: int) -> None:
    """Claim an alarm; then close it most times, else release it, let the lease run out, or keep it in hand."""
    mine = await claim(queue, f"operator {number % 5}", 600)
    if number % 10 == 3:
        await queue.release(mine.id, fence(mine))
    elif number % 10 == 4:
        await run_out(redis, centre, mine)
        await queue.expire()
    elif number % 10 < 8:
        await queue.close(mine.id, fence(mine), mine.events, "handled", "all well" if number % 2 else "")


async def test_an_emptied_server_is_refilled_to_what_it_was(queue: AlarmQueue, redis: Redis, centre: str) -> None:
    """Reports and acts, in their order, give the same keys: the same open alarms at the same ranks, the same closed ones."""
    follower = Follower(queue)
    for number in range(1, 401):
        site, reported = report(number)
        await follower.put(site, reported)
        if number % 4 == 0:
            await act_somehow(queue, redis, centre, number // 4)
    acts, last = await queue.acts("0", 0), follower.position
    was, listed, oldest = await everything(redis, centre), await queue.open_alarms(1000), await queue.oldest(J)
    assert len(listed) > 20
    assert {fields["act"] for _, fields in acts} == {"claim", "release", "lease_expired", "close"}

    await redis.delete(*[key async for key in redis.scan_iter(f"{{arcgate:{centre}}}:*", count=1000)])
    await look_at(queue)
    await queue.cursor(J)
    follower = Follower(queue)
    for place, (act_id, fields) in enumerate(acts, 1):
        while follower.position < json.loads(fields["cursors"])[J]:
            site, reported = report(follower.position + 1)
            await follower.put(site, reported)
        assert await queue.replay(R, place, [replayed(act_id, fields)]) == 1
    while follower.position < last:
        site, reported = report(follower.position + 1)
        await follower.put(site, reported)
    await redis.hdel(f"{{arcgate:{centre}}}:cursors", f"register:{R}")
    now = await everything(redis, centre)
    assert {name for name in was.keys() | now.keys() if was.get(name) != now.get(name)} == set()
    assert [(a.id, a.state, a.fence) for a in await queue.open_alarms(1000)] == [(a.id, a.state, a.fence) for a in listed]
    assert await queue.oldest(J) == oldest


async def test_an_act_waits_for_another_journal_that_is_not_yet_where_it_was(queue: AlarmQueue, follower: Follower) -> None:
    """Each node does all acts again: closed by the one, what the other has yet to put back would open it anew."""
    await queue.refill(J, "0-0", [], ["other"])
    await follower.put("s", event(1))
    close = act("close", 2, events=2, outcome="handled", others={J: 2, "other": 5, "of other sites": 9})
    assert await queue.replay(R, 0, [close]) == 0
    assert (await alarm(queue)).state is AlarmState.WAITING
    await follower.put("s", event(2))
    assert await queue.replay(R, 0, [close]) == 1
    assert await queue.open_alarms(10) == []


async def test_an_act_waits_for_no_journal_that_nobody_awaits(queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("s", event(1))
    await queue.say_ready(J)
    assert await queue.replay(R, 1, [act("claim", 1, others={J: 2})]) == 1


@pytest.mark.parametrize(("seen_of_other", "closed"), [(7, 1), (6, 0)])
async def test_a_close_is_not_done_over_what_another_journal_put_there_since(
    queue: AlarmQueue, follower: Follower, seen_of_other: int, closed: int
) -> None:
    """Whoever closed it had as many events before him, but not this one."""
    await follower.put("s", event(1))
    await follower.put("s", msgspec.structs.replace(event(7), id="other-000000000007-0"))
    close = act("close", 2, events=2, outcome="handled", others={"other": seen_of_other})
    assert await queue.replay(R, 0, [close]) == closed
    assert len(await queue.open_alarms(10)) == 1 - closed
