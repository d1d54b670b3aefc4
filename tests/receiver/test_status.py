"""How a half tells how it is: real unix sockets, of the living and of the dead."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from receiver import status
from receiver.status import ANSWER_S_MAX, StatusSocket

SERVE = """
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("listening", flush=True)
connection, _ = server.accept()
connection.recv(1)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "receive.sock"


@pytest.fixture
def long_path(tmp_path: Path) -> Path:
    """Longer than the 107 bytes that a unix socket's address holds."""
    folder = tmp_path / ("é" * 60) / "state"
    folder.mkdir(parents=True)
    return folder / "receive.sock"


@pytest.fixture
def silent(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that accepts and never answers."""
    with subprocess.Popen([sys.executable, "-c", SERVE, path], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"listening\n"
        yield process
        process.kill()


@pytest.fixture
async def served(path: Path) -> AsyncIterator[StatusSocket]:
    count = iter(range(100))
    socket_ = StatusSocket(path, lambda: {"asked": next(count), "path": path})
    await socket_.open()
    yield socket_
    await socket_.close()


async def test_each_asker_gets_what_is_so_now(served: StatusSocket, path: Path) -> None:
    assert served
    assert await status.ask(path) == {"asked": 0, "path": str(path)}
    assert await status.ask(path) == {"asked": 1, "path": str(path)}
    assert len(await asyncio.gather(*(status.ask(path) for _ in range(50)))) == 50


async def test_after_the_end_nobody_answers_and_no_socket_is_left(path: Path) -> None:
    socket_ = StatusSocket(path, dict)
    await socket_.open()
    assert await status.ask(path) == {}
    await socket_.close()
    assert list(path.parent.iterdir()) == []
    assert await status.ask(path) is None


async def test_a_path_too_long_for_a_socket_works(long_path: Path) -> None:
    assert len(os.fsencode(long_path)) > 107
    socket_ = StatusSocket(long_path, lambda: {"pid": 1})
    await socket_.open()
    assert await status.ask(long_path) == {"pid": 1}
    assert await status.ask(long_path.with_name("dispatch.sock")) is None
    await socket_.close()
    assert await status.ask(long_path) is None


async def test_what_does_not_exist_is_none(tmp_path: Path) -> None:
    assert await status.ask(tmp_path / "no.sock") is None
    assert await status.ask(tmp_path / ("x" * 200) / "no.sock") is None
    assert await status.ask(tmp_path) is None


async def test_a_socket_of_the_dead_is_none_and_is_replaced(silent: subprocess.Popen[bytes], path: Path) -> None:
    silent.kill()
    silent.wait()
    assert path.is_socket()  # noqa: ASYNC240 - a look
    assert await status.ask(path) is None
    socket_ = StatusSocket(path, lambda: {"alive": True})
    await socket_.open()
    assert await status.ask(path) == {"alive": True}
    await socket_.close()


async def test_who_hangs_or_dies_while_asked_is_none(
    silent: subprocess.Popen[bytes], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ANSWER_S_MAX <= 2
    monkeypatch.setattr(status, "ANSWER_S_MAX", 0.1)
    silent.send_signal(signal.SIGSTOP)
    assert await status.ask(path) is None
    silent.send_signal(signal.SIGCONT)
    monkeypatch.setattr(status, "ANSWER_S_MAX", 10)
    asked = asyncio.create_task(status.ask(path))
    await asyncio.sleep(0.05)
    silent.kill()
    assert await asked is None


@pytest.mark.parametrize("answer", [b"", b"{", b"[1]", b"\xff"])
async def test_an_answer_that_is_no_object_is_none(path: Path, answer: bytes) -> None:
    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(say, path)
    assert await status.ask(path) is None
    server.close()


async def test_who_asks_and_leaves_harms_nobody(served: StatusSocket, path: Path) -> None:
    assert served
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as leaver:
            leaver.connect(str(path))
    told = await status.ask(path)
    assert told is not None
