"""The running half as a whole, on a real Redis: what it says of itself and of what people do, and what cannot stop it."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dispatch import dispatcher, engine, follow
from dispatch.alarm_queue import AlarmQueue, connect
from dispatch.dispatcher import Dispatcher
from dispatch.server import QueueRefused
from receiver import status
from receiver.config import Config, Redis
from receiver.log import LineWriter
from tests.conftest import sia
from tests.dispatch.centre import Centre, burglary, shops
from tests.dispatch.desk import claim, fence, run_out
from tests.valkey import Valkey


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "TICK_S", 0.02)
    monkeypatch.setattr(dispatcher, "AGAIN_S", 0.02)
    monkeypatch.setattr(follow, "LOOK_S", 0.05)


@pytest.fixture
async def here(tmp_path: Path, valkey: str, centre: str) -> AsyncIterator[Centre]:
    async with Centre(tmp_path / "state", shops(), valkey, centre) as made:
        yield made


@contextlib.asynccontextmanager
async def running(here: Centre) -> AsyncIterator[Dispatcher]:
    log = os.open(here.folder / "log.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    lines = LineWriter(log)
    config = Config(here.folder, here.folder, here.folder, Redis(here.url, here.name), (), node=here.node)
    half = Dispatcher(config, here.sites, lines)
    try:
        await half.start()
        try:
            yield half
        finally:
            await half.stop()
    finally:
        lines.close()
        os.close(log)


async def until(here: Centre, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask the half how it is until this holds."""
    async with asyncio.timeout(10):
        while True:
            told = await status.ask(here.folder / "dispatch.sock")
            if told and holds(told):
                return told
            await asyncio.sleep(0.01)


async def logged(here: Centre, count: int) -> list[dict[str, Any]]:
    """The lines of events and acts, once there are so many."""
    async with asyncio.timeout(10):
        while len(lines := (here.folder / "log.jsonl").read_text().splitlines()) < count:  # noqa: ASYNC110 - a file tells nothing
            await asyncio.sleep(0.01)
    return [json.loads(line) for line in lines]


async def listens(here: Centre) -> None:
    """Wait until it reads the acts: it tells those that are done from then on."""
    async with asyncio.timeout(10):
        while not any(client["cmd"] == "xread" for client in await here.redis.client_list()):  # noqa: ASYNC110 - Redis is asked
            await asyncio.sleep(0.01)


async def test_it_says_how_it_is(here: Centre) -> None:
    await here.take(sia("1001", "Nri1/BA5"), sia("1001", "Nri1/BA6", 2), sia("1002", "Nri1/FA7", 3))
    async with running(here):
        told = await until(here, lambda told: told["cursor"] == 3 and bool(told["queue"]))
    assert {key: told[key] for key in ("pid", "sites", "lag", "stopped", "redis", "events", "queue")} == {
        "pid": os.getpid(),
        "sites": 5,
        "lag": 0,
        "stopped": None,
        "redis": {"embedded": False, "away": None, "bringing_up_s": None},
        "events": {"opened": 2, "joined": 1},
        "queue": {"fire": 1, "intrusion": 1},
    }
    assert await status.ask(here.folder / "dispatch.sock") is None


async def test_an_event_s_id_runs_from_the_journal_to_the_close(here: Centre, queue: AlarmQueue) -> None:
    async with running(here):
        await here.take(sia("1001", "Nri1/BA5"))
        await until(here, lambda told: told["cursor"] == 1)
        await listens(here)
        alarm = await claim(queue, "alice")
        await run_out(here.redis, here.name, alarm)
        alarm = await claim(queue, "bob")
        await queue.release(alarm.id, fence(alarm))
        alarm = await claim(queue, "carol")
        await queue.close(alarm.id, fence(alarm), 1, "false_alarm", "Ann, +33 6 39 98 01 23")
        lines = await logged(here, 7)
    assert [(line["event"], line["alarm"], line.get("operator")) for line in lines] == [
        ("alarm_queued", here.id(1), None),
        ("alarm_claimed", here.id(1), "alice"),
        ("alarm_returned", here.id(1), "alice"),
        ("alarm_claimed", here.id(1), "bob"),
        ("alarm_released", here.id(1), "bob"),
        ("alarm_claimed", here.id(1), "carol"),
        ("alarm_closed", here.id(1), "carol"),
    ]
    assert lines[-1]["outcome"] == "false_alarm"
    assert "Ann" not in (here.folder / "log.jsonl").read_text()


async def test_a_cursor_beyond_the_journal_is_told_in_the_log_again_and_again_and_in_the_status(
    here: Centre, queue: AlarmQueue
) -> None:
    await queue.put(here.journal.id, 7, [])
    with capture_logs() as said:
        async with running(here):
            told = await until(here, lambda told: told["stopped"] is not None)
            await here.take(burglary(0))
            async with asyncio.timeout(10):
                while len([line for line in said if line["event"] == "dispatch_stopped"]) < 3:  # noqa: ASYNC110 - a list tells nothing
                    await asyncio.sleep(0.01)
    assert f"applied entry 7 of journal {here.journal.id}, whose last is 0" in told["stopped"]
    assert await queue.open_alarms(10) == []


async def test_it_starts_without_redis_and_says_so_until_it_is_there(tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey")
    with capture_logs() as said:
        async with Centre(tmp_path / "state", shops(), server.url, "main") as here, running(here):
            await here.take(*(burglary(number) for number in range(20)))
            told = await until(here, lambda told: told["redis"]["away"] and told["lag"] == 20)
            assert "connecting" in told["redis"]["away"]
            server.start()
            try:
                await until(here, lambda told: told["cursor"] == 20 and told["redis"]["away"] is None)
                async with asyncio.timeout(5):
                    while said[-1]["event"] != "queue_back":  # noqa: ASYNC110 - a list tells nothing
                        await asyncio.sleep(0.01)
            finally:
                server.stop()
    told_away = [line for line in said if line["event"] == "queue_away"]
    assert told_away
    assert {line["log_level"] for line in told_away} == {"critical"}


async def test_while_a_lost_redis_is_refilled_that_is_said_and_not_that_it_is_away(
    here: Centre, queue: AlarmQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.take(*(burglary(number) for number in range(3000)))
    async with running(here) as half:
        await until(here, lambda told: told["cursor"] == 3000)
        alarm = await claim(queue)
        await queue.release(alarm.id, fence(alarm))
        async with asyncio.timeout(10):
            while half._register.position < 2:  # noqa: ASYNC110 - a file tells nothing
                await asyncio.sleep(0.01)
        put = AlarmQueue.put

        async def slow(*words: Any) -> Any:
            await asyncio.sleep(0.05)
            return await put(*words)

        monkeypatch.setattr(AlarmQueue, "put", slow)
        with capture_logs() as said:
            await here.redis.flushall()
            told = await until(here, lambda told: told["redis"]["bringing_up_s"] is not None)
            assert told["redis"]["away"] is None
            await until(here, lambda told: told["cursor"] == 3000 and told["redis"]["bringing_up_s"] is None)
            await until(here, lambda _: said[-1]["event"] == "queue_back")
    events = [line["event"] for line in said]
    assert "queue_still_away" not in events[events.index("refilling") :]
    at_work = [line for line in said if line["event"] == "refilling" and "seconds" in line]
    assert at_work
    assert all(line["log_level"] == "warning" and line["cursor"] + line["lag"] == 3000 for line in at_work)
    (refilled,) = [line for line in said if line["event"] == "refilled"]
    assert (refilled["acts"], refilled["entries"] + refilled["lag"]) == (2, 3000)
    assert refilled["s_per_100k"] == pytest.approx(refilled["seconds"] * 100_000 / refilled["entries"], abs=2)


async def test_acts_of_the_time_when_it_was_cut_off_are_told_too(tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey")
    server.start()
    async with Centre(tmp_path / "state", shops(), server.url, "main") as here, running(here):
        await here.take(burglary(0))
        await until(here, lambda told: told["cursor"] == 1)
        queue = AlarmQueue(here.redis, "main")
        await listens(here)
        alarm = await claim(queue)
        await logged(here, 2)
        await here.redis.client_kill_filter(_type="normal", skipme=True)
        await queue.release(alarm.id, fence(alarm))
        assert [line["event"] for line in await logged(here, 3)] == ["alarm_queued", "alarm_claimed", "alarm_released"]
        server.stop()


async def test_a_redis_that_would_drop_alarms_is_refused_and_nothing_is_left_open(tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey")
    server.start(**{"maxmemory-policy": "allkeys-lru"})
    async with Centre(tmp_path / "state", shops(), server.url, "main") as here:
        with pytest.raises(QueueRefused, match="noeviction"):
            async with running(here):
                pass
    server.stop()


async def test_a_fault_that_nobody_thought_of_is_told_and_it_begins_again(here: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [ZeroDivisionError("one"), ZeroDivisionError("two")]
    decide = engine.decide

    def at_fault(*words: Any) -> Any:
        if faults:
            raise faults.pop()
        return decide(*words)

    monkeypatch.setattr(follow, "decide", at_fault)
    with capture_logs() as said:
        async with running(here):
            await here.take(burglary(0))
            await until(here, lambda told: told["cursor"] == 1)
    failed = [line for line in said if line["event"] == "dispatch_failed"]
    assert [(line["work"], line["exc_info"]) for line in failed] == [("_follow", True)] * 2


async def test_the_embedded_server_lives_as_long_as_the_dispatcher(here: Centre) -> None:
    own = Centre(here.folder, here.sites, "embedded", "main")
    own.journal = here.journal
    async with running(own):
        await here.take(burglary(0))
        told = await until(own, lambda told: told["cursor"] == 1)
        assert told["redis"] == {"embedded": True, "away": None, "bringing_up_s": None}
        async with connect("embedded", own.folder) as redis:
            assert len(await AlarmQueue(redis, "main").open_alarms(10)) == 1
    assert not (own.folder / "valkey" / "valkey.sock").exists()
