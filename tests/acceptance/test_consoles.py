"""Fifty consoles and two thousand alarms that real frames raised: each claimed once, the most urgent first, then the oldest."""

import asyncio
import random
from pathlib import Path

from dispatch.alarm import Alarm
from dispatch.alarm_queue import AlarmQueue, connect
from protocols.dc09 import build
from tests.acceptance.conftest import Centre
from tests.acceptance.panels import CODES
from tests.conftest import sia

ALARMS = 2000
CONSOLES = 50


async def raise_alarms(address: str) -> None:
    """One report of each site, over twenty connections."""
    chance = random.Random(6)  # noqa: S311 - the same alarms each time
    host, _, port = address.rpartition(":")
    frames = [build(sia(str(1000 + n), f"Nri1/{chance.choice(CODES)}{n % 99}")) for n in range(ALARMS)]

    async def report(own: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"".join(own))
        for _ in own:
            assert b'"ACK"' in await reader.readuntil(b"\r")
        writer.close()

    await asyncio.gather(*(report(frames[n::20]) for n in range(20)))


async def claim_all(centre: Centre, operator: str) -> list[Alarm]:
    claimed = []
    async with connect("embedded", centre.state_dir) as redis:
        queue = AlarmQueue(redis, "main")
        while alarm := await queue.claim(operator, 60):
            claimed.append(alarm)
    return claimed


async def test_fifty_consoles_claim_two_thousand_alarms(tmp_path: Path) -> None:
    centre = Centre(tmp_path, sites=ALARMS)
    centre.start()
    try:
        await raise_alarms(await centre.address())
        await centre.settled()
        consoles = await asyncio.gather(*(claim_all(centre, f"operator {n}") for n in range(CONSOLES)))
    finally:
        assert centre.stop() == 0
    claimed = sorted((alarm for console in consoles for alarm in console), key=lambda alarm: alarm.fence or 0)
    assert len(claimed) == len({alarm.id for alarm in claimed}) == len({alarm.fence for alarm in claimed}) == ALARMS
    ranks = [(alarm.priority, alarm.opened_at) for alarm in claimed]
    assert ranks == sorted(ranks)
    assert len({priority for priority, _ in ranks}) == 4
    assert all(consoles)
