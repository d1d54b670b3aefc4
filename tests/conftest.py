"""What tests of several rooms share: a gateway that really runs, and the command that really is installed."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from protocols import dc09
from receiver import status

ARCGATE = Path(sys.executable).with_name("arcgate")
"""As `make setup` installed it."""
settings.register_profile("suite", max_examples=50, deadline=None)
settings.load_profile("suite")  # a time says nothing on a busy machine

READY_S_MAX = 20.0
STOP_S_MAX = 10.0

CONFIG = """
state_dir = "state"

[[listener]]
name = "ip"
protocol = "dc09"
transport = "tcp"
address = "127.0.0.1:0"
"""


def run_arcgate(*words: object, cwd: Path | None = None, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run one verb to its end, as a shell would."""
    done = subprocess.run([ARCGATE, *map(str, words)], input=stdin, capture_output=True, cwd=cwd, timeout=30, check=False)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def sia(account: str, content: str, sequence: int = 1) -> dc09.Frame:
    """Make a panel's frame with SIA content, such as `Nri1/BA5`."""
    return dc09.Frame(id_token="SIA-DCS", sequence=f"{sequence:04}", account=account, data=f"#{account}|{content}")


class Gateway:
    """`arcgate run` (or `receive`, `dispatch`) as a process of its own, in a folder with its arcgate.toml."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "arcgate.toml"
        self.state_dir = home / "state"
        self.log = home / "log.jsonl"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, verb: str = "run") -> None:
        """Return when it says that it is ready."""
        name = f"\0{self.home}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.log.open("ab") as log:
            ready.bind(name)
            ready.settimeout(READY_S_MAX)
            self.process = subprocess.Popen(
                [ARCGATE, verb, "--config", self.config],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NOTIFY_SOCKET": f"@{self.home}", "PYTHONFAULTHANDLER": "1"},
            )
            try:
                assert ready.recv(100) == b"READY=1"
            except BaseException as error:
                self.stop(signal.SIGKILL)
                raise AssertionError(f"no gateway:\n{self.log.read_text()}") from error

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, SIGTERM unless another is wanted; returns the exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            return process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # with PYTHONFAULTHANDLER=1 it tells where it hangs
            process.wait()
            raise AssertionError(f"it does not stop:\n{self.log.read_text()[-8000:]}") from None

    async def address(self) -> str:
        """Give the listener's real address, host:port."""
        told = await status.ask(self.state_dir / "receive.sock")
        assert told is not None
        return str(told["listeners"][0]["addresses"][0])

    async def send(self, *frames: dc09.Frame) -> None:
        """Send as a panel would, and return when all are acknowledged and dispatched."""
        host, _, port = (await self.address()).rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for frame in frames:
            writer.write(dc09.build(frame))
            assert b'"ACK"' in await reader.readuntil(b"\r")
        writer.close()
        while told := await status.ask(self.state_dir / "dispatch.sock"):
            if not told["lag"]:
                return

    def arcgate(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run one verb with this gateway's configuration."""
        return run_arcgate(*words, "--config", self.config)

    def told(self, *words: object) -> list[dict[str, Any]]:
        """Run one verb with --json, which must succeed, and give its objects."""
        done = self.arcgate(*words, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that runs, with an embedded Valkey and no sites; stopped by SIGTERM at the end."""
    (tmp_path / "arcgate.toml").write_text(CONFIG)
    running = Gateway(tmp_path)
    running.start()
    yield running
    assert running.stop() == 0


@contextmanager
def small_disk(folder: Path, size: int, files_max: int = 0) -> Iterator[bool]:
    """Mount one on the folder; False where this user may not. size: in bytes. files_max: that it can hold, if not 0."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size},nr_inodes={files_max}", "tmpfs", str(folder)]
    mounted = os.getuid() == 0 and subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: at the end it would keep one core waiting for the other."""
    items.sort(key=lambda item: item.path.name not in {"test_readme.py", "test_soak.py"})
