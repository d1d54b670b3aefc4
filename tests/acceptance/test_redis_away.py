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
from tests.conftest import sia
from tests.valkey import Valkey


async def reporting(centre: Centre) -> Panels:
    """Report for half a second, all of it acknowledged."""
    panels = Panels(4, 3)
    load = asyncio.create_task(panels.report(await centre.address()))
    await asyncio.sleep(0.5)
    panels.stop()
    await load
    assert len(panels.acked) > 4
    return panels


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


async def test_an_embedded_valkey_whose_data_is_damaged_is_filled_again(centre: Centre) -> None:
    """A file that ends in zeros, as after a power cut, would be the end of every start."""
    centre.start()
    await centre.send(*(sia(str(1000 + n), "Nri1/BA1") for n in range(4)))
    for _ in range(2):
        (alarm,) = centre.told("alarms", "claim", "--operator", "anna")
    centre.told("alarms", "close", alarm["id"], "--fence", alarm["fence"], "--seen", "1", "--outcome", "real")
    while len(centre.told("register", "list")) < 3:
        pass  # dispatch copies them by itself
    before = centre.told("alarms", "list")
    assert [(one["site"], one["state"]) for one in before] == [
        ("site 0", "claimed"),
        ("site 2", "waiting"),
        ("site 3", "waiting"),
    ]
    centre.stop(signal.SIGKILL)
    (path,) = (centre.state_dir / "valkey" / "appendonlydir").glob("*.incr.aof")
    with path.open("ab") as data:
        data.write(bytes(5000))
    centre.start()
    await centre.settled()
    after = centre.told("alarms", "list")
    assert [one | {"lease_until": 0} for one in after] == [one | {"lease_until": 0} for one in before]
    (line,) = await centre.says("valkey_damaged")
    assert str(line["kept"]).endswith("/valkey/damaged")
    assert await centre.says("refilled")


async def test_an_embedded_valkey_that_cannot_run_ends_no_receiver(centre: Centre) -> None:
    """Nor has anybody to stop it afterwards."""
    centre.state_dir.mkdir()
    (centre.state_dir / "valkey").touch()
    done = centre.arcgate("dispatch")
    assert done.returncode == 2
    assert "state_dir: " in done.stderr
    assert "the embedded server writes here" in done.stderr
    centre.start()
    panels = await reporting(centre)
    assert "the embedded server writes here" in " ".join(centre.arcgate("status").stdout.split())
    (centre.state_dir / "valkey").unlink()
    await centre.settled()
    await centre.check(panels)
    assert await centre.says("queue_back")


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
        panels = await reporting(centre)
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
