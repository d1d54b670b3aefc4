"""How a Redis is set is seen whenever it is come to, and said again only where it is set otherwise."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dispatch import follow
from dispatch.alarm_queue import connect
from dispatch.server import QueueRefused, Server
from tests.dispatch.centre import Centre, burglary, shops
from tests.valkey import Valkey

KEEPS_NOTHING = {"appendonly": "no"}


@pytest.fixture
def valkey_apart(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey")
    yield server
    server.stop()


async def test_one_that_keeps_nothing_is_told_when_it_comes_late_and_when_it_was_set_otherwise(
    tmp_path: Path, valkey_apart: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "AWAY_S_FIRST", 0.02)
    monkeypatch.setattr(follow, "AWAY_S_MAX", 0.1)
    with capture_logs() as said:
        async with Centre(tmp_path / "here", shops(), valkey_apart.url, "main") as here, here.followed():
            for number, settings in enumerate((KEEPS_NOTHING, {}, KEEPS_NOTHING, KEEPS_NOTHING)):
                valkey_apart.start(**settings)
                await here.take(burglary(number))
                await here.dispatched(here.redis)
                valkey_apart.stop()
                await asyncio.sleep(0.05)
    told = [line["event"] for line in said if line["event"] in {"redis_not_durable", "dispatching"}]
    assert told == ["redis_not_durable", "dispatching", "dispatching", "redis_not_durable", "dispatching", "dispatching"]


async def test_one_that_would_drop_keys_is_refused_each_time_and_what_it_is_is_said_once(valkey_apart: Valkey) -> None:
    valkey_apart.start(**KEEPS_NOTHING, **{"maxmemory-policy": "allkeys-lru"})
    async with connect(valkey_apart.url, Path()) as redis:
        server = Server(redis.execute_command)
        for _ in range(2):
            with pytest.raises(QueueRefused, match=r"allkeys-lru.*Set maxmemory-policy noeviction"):
                await server.check()
        await redis.config_set("maxmemory-policy", "noeviction")
        with capture_logs() as said:
            await server.check()
            await server.check()
    assert [line["event"] for line in said] == ["redis_not_durable"]


async def test_one_where_nobody_may_ask_is_used_and_that_is_said_once(valkey_apart: Valkey) -> None:
    valkey_apart.start()
    async with connect(valkey_apart.url, Path()) as redis:
        await redis.acl_setuser("dispatch", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"])
        async with connect(valkey_apart.url.replace("unix://", "unix://dispatch@") + "?password=any", Path()) as client:
            server = Server(client.execute_command)
            with capture_logs() as said:
                await server.check()
                await server.check()
    assert [line["event"] for line in said] == ["redis_policy_unknown"]
