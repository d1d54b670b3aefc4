"""
A process that writes a journal until it is killed or the disk is full, and says what was reported durable.

    python -m tests.receiver.writer STATE_DIR SEED [FILE_BYTES_MAX]
"""

import asyncio
import os
import random
import resource
import sys
from functools import partial
from pathlib import Path

import uvloop

from receiver.journal import Journal
from tests.receiver.conftest import report


async def write(state_dir: Path, seed: int) -> None:
    """Append reads of random length; each position goes to stdout, in one write, from within `on_durable`."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    journal = Journal(state_dir, on_failure=lambda error: say(f"failed {error}"))
    while journal.writable:
        for _ in range(chance.randrange(1, 5)):
            first = journal.appended + 1
            reports = [report(f"{n} {'x' * chance.randrange(4000)}") for n in range(first, first + chance.randrange(1, 40))]
            journal.append(reports, partial(say, first + len(reports) - 1))
        await asyncio.sleep(0)
        while journal.writable and journal.appended - journal.durable > 400:  # noqa: ASYNC110 - as a session that is not read further
            await asyncio.sleep(0)
    say(f"writable {journal.writable}")
    journal.append([report("after")], partial(say, "after"))
    await journal.close()


def say(word: object) -> None:
    os.write(1, f"{word}\n".encode())


if __name__ == "__main__":
    if len(sys.argv) > 3:
        limit = int(sys.argv[3])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    uvloop.run(write(Path(sys.argv[1]), int(sys.argv[2])))
