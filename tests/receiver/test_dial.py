"""A receiver that waits to be dialled: answered as any other, and dialled again when it is gone."""

import asyncio
from pathlib import Path
from typing import Self

import pytest

from protocols.event import CENTRE
from receiver import attach
from receiver.dial import DialListener
from receiver.journal import Journal
from tests.receiver.attached import ACK, BEAT, GOOD, attached, told
from tests.receiver.conftest import WAIT_S_MAX, held, until


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "AGAIN_S_FIRST", 0.01)
    monkeypatch.setattr(attach, "AGAIN_S_MAX", 0.05)
    monkeypatch.setattr(attach, "STEADY_S", 0.2)


class Receiver:
    """A TCP server with one caller at a time."""

    def __init__(self, port: int = 0) -> None:
        self.port = port

    async def __aenter__(self) -> Self:
        self._callers: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._callers.put((reader, writer))

    async def called(self) -> None:
        async with asyncio.timeout(WAIT_S_MAX):
            self._reader, self._writer = await self._callers.get()

    async def ask(self, line: bytes, answers: int = 1) -> bytes:
        self._writer.write(line)
        async with asyncio.timeout(WAIT_S_MAX):
            return await self._reader.readexactly(answers)

    def hang_up(self) -> None:
        self._writer.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.hang_up()


async def test_a_line_is_acknowledged_when_it_is_stored(journal: Journal, state_dir: Path) -> None:
    async with Receiver() as receiver, attached(DialListener, journal, f"127.0.0.1:{receiver.port}"):
        await receiver.called()
        assert await receiver.ask(BEAT) == ACK
        with held(journal):
            asked = asyncio.create_task(receiver.ask(GOOD))
            done, _ = await asyncio.wait([asked], timeout=0.1)
            assert not done
        assert await asked == ACK
    assert told(state_dir) == [("1234", "130", "new")]


async def test_a_receiver_that_hangs_up_is_dialled_again(journal: Journal) -> None:
    async with Receiver() as receiver, attached(DialListener, journal, f"127.0.0.1:{receiver.port}") as door:
        for n in range(1, 4):
            await receiver.called()
            assert await receiver.ask(BEAT) == ACK
            assert door.counts["connections"] == n
            receiver.hang_up()
    assert journal.durable == 0, "it could be reached each time: nothing to raise"


async def test_a_receiver_that_takes_the_call_and_hangs_up_is_raised_until_it_stays(journal: Journal, state_dir: Path) -> None:
    async with Receiver() as receiver, attached(DialListener, journal, f"127.0.0.1:{receiver.port}"):
        for _ in range(3):
            await receiver.called()
            receiver.hang_up()
        await until(lambda: journal.durable == 1)
        await receiver.called()
        await until(lambda: journal.durable == 2)
    assert told(state_dir) == [(CENTRE, "receiver_port_lost", "new"), (CENTRE, "receiver_port_lost", "restore")]


async def test_a_receiver_that_is_gone_is_raised_and_restored(journal: Journal, state_dir: Path) -> None:
    async with Receiver() as receiver:
        pass_on = receiver.port
        receiver.hang_up = lambda: None  # type: ignore[method-assign] # nobody called yet
    async with attached(DialListener, journal, f"127.0.0.1:{pass_on}"):
        await until(lambda: journal.durable == 1)
        async with Receiver(pass_on) as receiver:
            await receiver.called()
            assert await receiver.ask(GOOD) == ACK
            await until(lambda: journal.durable == 3)
    lost, found = (CENTRE, "receiver_port_lost", "new"), (CENTRE, "receiver_port_lost", "restore")
    assert told(state_dir)[0] == lost
    assert set(told(state_dir)[1:3]) == {found, ("1234", "130", "new")}
