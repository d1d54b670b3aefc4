"""
Kills at any and at named moments, under load: nothing acknowledged is lost, nothing is queued twice, nothing closed opens again.

`make test` makes six; `make soak` a thousand. What fails says how to see it again.
"""

import os
from pathlib import Path

import pytest

from tests.acceptance.crash import Ordeal

KILLS = int(os.environ.get("ARCGATE_KILLS", "6"))
SEED = int(os.environ.get("ARCGATE_SEED", "2026"))
KILLS_OF_ONE_GATEWAY = 50
"""Then comes a new one, with the next seed: a failure is seen again after at most so many."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(SEED, SEED + -(-KILLS // KILLS_OF_ONE_GATEWAY)))
async def test_soak(tmp_path: Path, seed: int) -> None:
    kills = min(KILLS_OF_ONE_GATEWAY, KILLS - (seed - SEED) * KILLS_OF_ONE_GATEWAY)
    try:
        print(await Ordeal(tmp_path, seed).go(kills))  # noqa: T201 - what there was: pytest -s shows it
    except BaseException as error:
        error.add_note(f"again: make soak ARCGATE_SEED={seed} ARCGATE_KILLS={kills}")
        raise
