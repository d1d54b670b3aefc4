"""What the receiver's tests share: the loop that production runs on, a journal on disk, an open listener and its panels."""

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvloop

from protocols.dc09 import Dc09, Frame, build
from protocols.errors import FrameError
from protocols.event import Category, Event, Format, Qualifier
from protocols.link import Policy
from receiver.accounts import Accounts
from receiver.config import Listener
from receiver.conversation import Intake
from receiver.journal import Journal, JournalReader, Report
from receiver.listen import TcpListener
from receiver.seen import Seen
from receiver.sparing import SparingLog
from receiver.watch import Watch

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
BURGLARY = Event("1234", Format.SIA, "BA", Qualifier.NEW, Category.BURGLARY, zone="005")
WAIT_S_MAX = 10.0


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def report(frame: object = "", error: FrameError | None = None) -> Report:
    """A panel's report, told apart by its frame."""
    return Report(AT, "ip", "127.0.0.1:5000", str(frame), (BURGLARY,), "0123456789abcdef", error=error)


def event(sequence: int, account: str = "1234") -> bytes:
    """A panel's frame that must be stored before it is acknowledged."""
    return build(Frame(id_token="SIA-DCS", sequence=f"{sequence:04}", account=account, data=f"#{account}|Nri1/BA005"))


def null(sequence: int, account: str = "1234") -> bytes:
    """A panel's link test."""
    return build(Frame(id_token="NULL", sequence=f"{sequence:04}", account=account))


def ack(sequence: int, account: str = "1234", word: str = "ACK") -> bytes:
    """The answer to either."""
    return build(Frame(id_token=word, sequence=f"{sequence:04}", account=account))


async def until(condition: Callable[[], object]) -> None:
    """Return when it is so; a condition that never comes true fails the test."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to tell it
            await asyncio.sleep(0.001)


async def store(journal: Journal, *reports: Report) -> None:
    """Append, and return when it is on disk."""
    durable = asyncio.Event()
    journal.append(reports, durable.set)
    async with asyncio.timeout(WAIT_S_MAX):
        await durable.wait()


async def write(state_dir: Path, *frames: object) -> None:
    """Open the journal, append, and close it."""
    journal = Journal(state_dir)
    await store(journal, *map(report, frames))
    await journal.close()


def stored(state_dir: Path) -> list[str]:
    """Give the frames in the journal, after verifying all of it, as another process would."""
    reader = JournalReader(state_dir)
    try:
        head = reader.head()
        assert list(reader.verify())[-1] == head
        return [entry.report.frame for entry in reader.read(0, head)]
    finally:
        reader.close()


def database(state_dir: Path) -> Path:
    """The journal's file."""
    return state_dir / "journal" / "000000000001.db"


@contextmanager
def held(journal: Journal) -> Iterator[None]:
    """Hold every commit up, as a slow disk would: another connection has SQLite's write lock."""
    other = sqlite3.connect(database(journal.folder.parent), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def fill_disk(journal: Journal) -> None:
    """Let no page be added to the file from now on: SQLite answers a write as it does on a full disk."""
    (pages,) = journal._ledger._segment._database.execute("PRAGMA page_count").fetchone()
    journal._ledger._segment._database.execute(f"PRAGMA max_page_count = {pages}")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
async def journal(state_dir: Path) -> AsyncIterator[Journal]:
    journal = Journal(state_dir)
    yield journal
    await journal.close()


def connect(address: tuple[str, int], receive_bytes: int = 0) -> socket.socket:
    """Return a connected socket; receive_bytes, if not 0: what the system may keep of what it receives."""
    connection = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.connect(address)
    return connection


class Panel:
    """The other end: a plain TCP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *pieces: bytes) -> None:
        """Write, each piece with its own call."""
        for piece in pieces:
            self.writer.write(piece)

    async def replies(self, count: int) -> list[bytes]:
        """Wait for so many answers."""
        async with asyncio.timeout(WAIT_S_MAX):
            return [await self.reader.readuntil(b"\r") for _ in range(count)]

    async def ended(self) -> bool:
        """Wait until the receiver has closed, by a reset or not; whether nothing was left to read."""
        async with asyncio.timeout(WAIT_S_MAX):
            try:
                return await self.reader.read(-1) == b""
            except ConnectionError:
                return True

    @property
    def heard(self) -> bytes:
        """What has arrived and was not read."""
        return bytes(self.reader._buffer)  # type: ignore[attr-defined] # without waiting

    def close(self) -> None:
        self.writer.close()


class Door:
    """An open listener on loopback, and the panels that came to it."""

    def __init__(self, listener: TcpListener) -> None:
        self.listener = listener
        self.panels: list[Panel] = []

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listener.addresses[0].rpartition(":")
        return host.strip("[]"), int(port)

    async def panel(self, receive_bytes: int = 0) -> Panel:
        """Connect; returns when the receiver has the connection too. receive_bytes: what the system may keep of its answers."""
        before = self.listener.counts["connections"]
        panel = Panel(*await asyncio.open_connection(sock=connect(self.address, receive_bytes)))
        self.panels.append(panel)
        await until(lambda: self.listener.counts["connections"] > before)
        return panel

    async def proven(self) -> Panel:
        """Connect, and send a link test that is answered."""
        panel = await self.panel()
        panel.send(null(1))
        assert await panel.replies(1) == [ack(1)]
        return panel


def listen(address: str = "127.0.0.1:0", **keys: Any) -> Listener:
    """A listener's table in arcgate.toml."""
    values: dict[str, Any] = {"name": "ip", "transport": "tcp", "connections_max": 100} | keys
    return Listener(address=address, protocol=Dc09(), **values)


def intake(journal: Journal) -> Intake:
    """What a listener's sessions share."""
    return Intake(
        "ip", journal, Seen("ip", 60), Watch(journal.folder.parent / "receive.watch.sock"), SparingLog(), Dc09().explain
    )


def policies(receiver: str | None, line: str | None, account: str) -> Policy | None:
    """No account is listed."""
    return Accounts().policy("ip", receiver, line, account)


OpenDoor = Callable[[Listener], Awaitable[Door]]


@pytest.fixture
async def open_door(journal: Journal) -> AsyncIterator[OpenDoor]:
    """Open a listener; closed at the end, with its panels."""
    doors: list[Door] = []

    async def opened(listener: Listener) -> Door:
        doors.append(Door(TcpListener(listener, intake(journal), policies)))
        await doors[-1].listener.open()
        return doors[-1]

    yield opened
    for door in doors:
        door.listener.refuse_new()
        for panel in door.panels:
            panel.close()
        door.listener.close_sessions()
        await door.listener.closed()


@pytest.fixture
async def door(open_door: OpenDoor) -> Door:
    return await open_door(listen())
