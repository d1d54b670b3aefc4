"""Watch the dispatcher's cursor: prints "ready", then for each position behind FIRST the moment at which the queue had it."""

import asyncio
import sys
import time
from pathlib import Path

from dispatch.alarm_queue import AlarmQueue, connect
from receiver.journal import JournalReader


async def reached(state_dir: Path, first: int, total: int, every_s: float) -> list[float]:
    """Return a moment (`time.perf_counter`, the same clock in every process) per position, looking every so many seconds."""
    redis, journal = connect("embedded", state_dir), JournalReader(state_dir).id
    queue = AlarmQueue(redis, "main")
    moments: list[float] = []
    print("ready", flush=True)  # noqa: T201 - the bench waits for it
    while len(moments) < total:
        position = await queue.cursor(journal)
        moments += [time.perf_counter()] * (position - first - len(moments))
        await asyncio.sleep(every_s)
    await redis.aclose()
    return moments


if __name__ == "__main__":
    state_dir, first, total, every_s = sys.argv[1:]
    print(*asyncio.run(reached(Path(state_dir), int(first), int(total), float(every_s))))  # noqa: T201 - the bench reads it
