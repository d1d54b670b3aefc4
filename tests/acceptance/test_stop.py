"""SIGTERM under load: everything that was acknowledged is on disk, and the gateway is gone within seconds."""

import asyncio
import signal
import time

from tests.acceptance.conftest import Centre
from tests.acceptance.panels import Panels


async def test_sigterm_under_load_drains_the_sessions_and_ends_within_five_seconds(centre: Centre) -> None:
    acked: set[bytes] = set()
    for turn in range(2):
        centre.start()
        panels = Panels(50, turn)
        load = asyncio.create_task(panels.report(await centre.address()))
        await asyncio.sleep(0.7)
        process = centre.process
        assert process
        asked_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await load
        assert await asyncio.to_thread(process.wait, 10) == 0
        took_s = time.monotonic() - asked_at
        assert took_s < 5
        acked |= {frame for _, frame in panels.acked}
        assert {entry.report.frame.encode() for entry in centre.entries()} == acked
        print(f"{len(acked)} acknowledged and on disk, stopped in {took_s:.2f} s")  # noqa: T201 - measured: pytest -s shows it
        centre.process = None
    centre.start()
    await centre.settled()
