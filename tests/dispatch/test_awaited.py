"""While a server is brought up: what nobody can close, claim or lose, and who is waited for."""

from redis.asyncio import Redis

from dispatch.alarm import Priority
from dispatch.alarm_queue import AlarmQueue
from tests.dispatch.desk import LIFE, Follower, J, claim, event, fence, refused, run_out
from tests.dispatch.test_replay import FIRST, R, act


async def test_no_lease_runs_out_until_all_is_put_back(queue: AlarmQueue, follower: Follower, redis: Redis, centre: str) -> None:
    """What was claimed when an event came opened no alarm for it, or did: it does so again when the event is put again."""
    await follower.put("s", event(1))
    mine = await claim(queue)
    await run_out(redis, centre, mine)
    await queue.refill(J, "0-0", [], [])
    assert await queue.expire() == 0
    assert await queue.claim("bob", 30) is None
    (placed,) = await follower.put("s", event(2, Priority.LIFE, **LIFE))
    assert placed.alarm == event(2).id
    assert await queue.replay(R, 1, [act("lease_expired", 1)]) == 1
    (placed,) = await follower.put("s", event(3, Priority.LIFE, **LIFE))
    assert placed.alarm == mine.id
    assert await queue.claim("bob", 0.1)
    await run_out(redis, centre, (await queue.open_alarms(9))[0])
    await queue.say_ready(J)
    assert await queue.expire() == 1


async def test_nothing_is_closed_before_each_journal_has_put_back_what_was_lost(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    """Those that the server knows, and those that the register knows; one that is forgotten, or silent, is not waited for."""
    await follower.put("s", event(1))
    mine = await claim(queue)

    async def close() -> None:
        await queue.close(mine.id, fence(mine), 1, "handled", "")

    for free in ("ready", "forgotten", "silent"):
        await redis.delete(f"{{arcgate:{centre}}}:ready")
        await queue.put("k1", 5, [])
        assert " from " not in await refused("NOTYET", close())
        await refused("BEHIND", queue.say_ready(J))
        await queue.refill(J, "0-0", [], ["k2"])
        assert f" from {J} k1 k2:" in await refused("NOTYET", close())
        await queue.say_ready("k1")
        await queue.say_ready(J)
        assert " from k2:" in await refused("NOTYET", close())
        match free:
            case "ready":
                await queue.say_ready("k2")
            case "forgotten":
                await queue.forget("k2")
            case _:
                await redis.zadd(f"{{arcgate:{centre}}}:awaited", {"k2": 1}, xx=True)
        assert await refused("CHANGED", queue.close(mine.id, fence(mine), 0, "handled", ""))
    await close()


async def test_while_a_journal_puts_back_what_was_lost_nobody_claims_what_it_will_close(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    """What it has not closed in the end can be claimed: also where its dispatch died over it."""
    await follower.put("s", event(1))
    for free in (True, False):
        await queue.refill(J, "0-0", [FIRST], [])
        await queue.refill("k1", "0-0", [], [])
        await queue.say_ready("k1")
        assert await queue.claim("alice", 30) is None
        if free:
            await queue.say_ready(J)
        else:
            await redis.zadd(f"{{arcgate:{centre}}}:awaited", {J: 1}, xx=True)
        await queue.release(FIRST, fence(await claim(queue)))


async def test_a_journal_that_goes_on_is_waited_for_longer(
    queue: AlarmQueue, follower: Follower, redis: Redis, centre: str
) -> None:
    key = f"{{arcgate:{centre}}}:awaited"
    await queue.refill(J, "0-0", [], [])
    await redis.zadd(key, {J: 9e12})
    await follower.put("s", event(1))
    assert 0 < float(await redis.zscore(key, J) or 0) < 9e12
    await queue.say_ready(J)
    await follower.put("s", event(2))
    assert not await redis.exists(key)
