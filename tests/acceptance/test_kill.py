"""kill -9 of the whole gateway at any moment: what was acknowledged is kept, and reaches the queue once."""

import asyncio
import os
import random
import signal

from tests.acceptance.conftest import Centre
from tests.acceptance.panels import Panels

KILLS = int(os.environ.get("ARCGATE_KILLS", "4"))
SEED = int(os.environ.get("ARCGATE_SEED", "2026"))


async def test_kill_9_at_random_moments_under_load_loses_nothing_and_doubles_nothing(centre: Centre) -> None:
    chance = random.Random(SEED)  # noqa: S311 - the same moments each time
    panels = Panels(40, SEED)
    for _ in range(KILLS):
        centre.start()
        valkeys = centre.valkeys()
        assert len(valkeys) == 1
        load = asyncio.create_task(panels.report(await centre.address()))
        await asyncio.sleep(chance.uniform(0, 1.2))
        assert centre.stop(signal.SIGKILL) == -signal.SIGKILL
        await load
        await centre.gone(valkeys)
    centre.start()
    await centre.settled()
    assert len(panels.acked) > 100 * KILLS
    await centre.check(panels)
    print(f"{KILLS} kills, {len(panels.acked)} reports acknowledged, {len(centre.entries())} in the journal")  # noqa: T201 - measured: pytest -s shows it
