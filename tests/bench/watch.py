"""Watch the dispatcher's cursor: prints "ready", then for each position behind FIRST the moment at which the queue had it."""

import asyncio
import sys
import time
from pathlib import Path

from dispatch.alarm_queue import AlarmQueue, connect
from receiver.journal import JournalReader


async def reached(state_dir: Path, first: int, total: int) -> list[float]:
    """Return a moment (`time.perf_counter`, the same clock in every process) per position, looking each millisecond."""
    redis, journal = connect("embedded", state_dir), JournalReader(state_dir).id
    queue = AlarmQueue(redis, "main")
    moments: list[float] = []
    print("ready", flush=True)  # noqa: T201 - the bench waits for it
    while len(moments) < total:
        position = await queue.cursor(journal)
        moments += [time.perf_counter()] * (position - first - len(moments))
        await asyncio.sleep(0.001)
    await redis.aclose()
    return moments


if __name__ == "__main__":
    print(*asyncio.run(reached(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201 - the bench reads it
