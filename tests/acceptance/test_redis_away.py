"""Redis dies under load: reports are acknowledged as before, and all of them are queued once when it is back."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from dispatch.alarm_queue import connect
from tests.acceptance.conftest import Centre
from tests.acceptance.panels import Panels, longest_gap_ms
from tests.valkey import Valkey


async def test_kill_9_of_the_embedded_valkey(centre: Centre) -> None:
    centre.start()
    panels = Panels(40, 2)
    load = asyncio.create_task(panels.report(await centre.address()))
    for _ in range(2):
        await asyncio.sleep(0.5)
        (valkey,) = centre.valkeys()
        killed_at = time.monotonic()
        os.kill(valkey, signal.SIGKILL)
        async with asyncio.timeout(10):
            while set(centre.valkeys()) <= {valkey}:  # noqa: ASYNC110 - another process's start sends no event
                await asyncio.sleep(0.01)
        assert panels.acked_between(killed_at, time.monotonic())
    await asyncio.sleep(0.5)
    panels.stop()
    await load
    await centre.settled()
    await centre.check(panels)
    assert len(await centre.says("valkey_exited", 2)) == 2
    print(f"longest gap between ACKs {longest_gap_ms(at for at, _ in panels.acked):.1f} ms")  # noqa: T201 - measured: pytest -s shows it


@pytest.mark.parametrize(("frozen", "away_s"), [(False, 2.0), (True, 6.0)], ids=["stopped", "frozen"])
async def test_an_external_valkey_is_away_for_seconds(tmp_path: Path, *, frozen: bool, away_s: float) -> None:
    """Frozen, it refuses nothing and answers nothing: longer than the time that its answers are waited for."""
    server = Valkey(tmp_path / "valkey")
    server.start()
    centre = Centre(tmp_path, server.url)
    try:
        centre.start()
        panels = Panels(20, 3)
        load = asyncio.create_task(panels.report(await centre.address()))
        await asyncio.sleep(0.5)
        (server.freeze if frozen else server.stop)()
        away_at = time.monotonic()
        await asyncio.sleep(away_s)
        back_at = time.monotonic()
        (server.thaw if frozen else server.start)()
        await asyncio.sleep(0.5)
        panels.stop()
        await load
        assert panels.acked_between(away_at + 0.1, back_at) > 100
        await centre.settled()
        await centre.check(panels)
        assert await centre.says("queue_away")
        assert centre.stop() == 0
        print(f"longest gap between ACKs {longest_gap_ms(at for at, _ in panels.acked):.1f} ms")  # noqa: T201 - measured: pytest -s shows it
    finally:
        centre.stop(signal.SIGKILL)
        server.stop()


async def test_a_valkey_that_would_drop_alarms_ends_no_receiver_and_is_used_once_it_is_set_right(tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey")
    server.start(**{"maxmemory-policy": "allkeys-lru"})
    centre = Centre(tmp_path, server.url)
    try:
        done = centre.arcgate("dispatch")
        assert done.returncode == 2
        assert "redis.url: Redis has maxmemory-policy allkeys-lru" in done.stderr
        centre.start()
        panels = Panels(4, 3)
        load = asyncio.create_task(panels.report(await centre.address()))
        await asyncio.sleep(0.5)
        panels.stop()
        await load
        assert len(panels.acked) > 4
        (line,) = {line["error"] for line in await centre.says("queue_away")}
        assert "Set maxmemory-policy noeviction" in str(line)
        (told,) = centre.told("status")
        assert (told["redis"]["reachable"], told["dispatch"]["redis"]["away"]) == (True, line)
        page = centre.arcgate("status").stdout
        assert "reachable, but DISPATCH DOES NOT USE IT: Redis has maxmemory-policy allkeys-lru" in " ".join(page.split())
        async with connect(server.url, tmp_path) as redis:
            await redis.config_set("maxmemory-policy", "noeviction")
        await centre.settled()
        await centre.check(panels)
        assert "DISPATCH DOES NOT" not in centre.arcgate("status").stdout
        assert centre.stop() == 0
    finally:
        centre.stop(signal.SIGKILL)
        server.stop()
