"""The same client for every server: N connections, each sends its next frame when the last one was answered."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import cast

import msgspec
import uvloop

from protocols.dc09 import Frame, build


class Result(msgspec.Struct):
    """What a run gave."""

    frames: int
    seconds: float
    waits: list[float]
    """Seconds from sending to answer, of each frame."""
    sent: list[float] = []
    """When each frame was sent, where it was sent at a rate (`time.perf_counter`)."""

    @property
    def rate(self) -> float:
        """Frames answered in a second."""
        return self.frames / self.seconds

    def wait_ms(self, share: float) -> float:
        """Milliseconds within which this share of the frames was answered."""
        return sorted(self.waits)[int(share * (len(self.waits) - 1))] * 1000


ANSWERED_S_MAX = 120.0
"""A datagram that is lost is not answered: better no figure than none to wait for."""
KEY = b"0123456789abcdef"
"""AES-128, of every account whose frames are encrypted."""


def burglaries(total: int, accounts: int, *, first: int = 0) -> list[bytes]:
    """Return unique SIA-DCS frames, spread over the accounts."""
    return [build(_burglary(n, 1000, accounts)) for n in range(first, first + total)]


def sealed_burglaries(total: int, accounts: int, base: int, at: datetime) -> list[bytes]:
    """Return the same, encrypted with KEY, of as many accounts from `base` on, sent at `at`."""
    frames = (msgspec.structs.replace(_burglary(n, base, accounts), timestamp=at) for n in range(total))
    return [build(frame, key=KEY, pad=b"%07d" % n) for n, frame in enumerate(frames)]


def _burglary(n: int, base: int, accounts: int) -> Frame:
    account, nth = f"{base + n % accounts:04d}", n // accounts
    data = f"#{account}|Nri1/BA{nth % 9999:04d}"
    return Frame(id_token="SIA-DCS", sequence=f"{nth % 9999 + 1:04d}", account=account, data=data)


def link_tests(total: int, accounts: int) -> list[bytes]:
    """Return NULL frames."""
    return [build(Frame(id_token="NULL", sequence="0000", line="0", account=f"{1000 + n % accounts:04d}")) for n in range(total)]


class _Panel(asyncio.Protocol, asyncio.DatagramProtocol):
    def __init__(self, frames: Iterator[bytes], waits: list[float], ended: asyncio.Future[None], running: list[int]) -> None:
        self._frames, self._waits, self._ended, self._running = frames, waits, ended, running
        self._sent_at = deque[float]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast("Callable[[bytes], None]", getattr(transport, "sendto", None) or transport.write)  # type: ignore[attr-defined] # a stream's
        self.send()

    def send(self) -> None:
        frame = next(self._frames, None)
        if frame is None:
            self._running[0] -= 1
            if not self._running[0] and not self._ended.done():
                self._ended.set_result(None)
            return
        self.write(frame)

    def write(self, frame: bytes) -> float:
        now = time.perf_counter()
        self._sent_at.append(now)
        self._write(frame)
        return now

    def data_received(self, data: bytes) -> None:
        if b"ACK" not in data:
            self._ended.set_exception(AssertionError(f"answered {data!r}"))
        now = time.perf_counter()
        for _ in range(data.count(b"\r")):
            self._waits.append(now - self._sent_at.popleft())
        self.send()

    def datagram_received(self, data: bytes, _addr: object) -> None:
        self.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(ConnectionError(f"closed by the server: {exc}"))


async def _flood(port: int, frames: list[bytes], connections: int, *, udp: bool) -> Result:
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    ended: asyncio.Future[None] = loop.create_future()
    running = [connections]
    todo = iter(frames)
    began = time.perf_counter()
    server = ("127.0.0.1", port)

    def panel() -> _Panel:
        return _Panel(todo, waits, ended, running)

    panels = [
        await (loop.create_datagram_endpoint(panel, remote_addr=server) if udp else loop.create_connection(panel, *server))
        for _ in range(connections)
    ]
    await asyncio.wait_for(ended, ANSWERED_S_MAX)
    result = Result(len(waits), time.perf_counter() - began, waits)
    for transport, _ in panels:
        transport.close()
    return result


async def _pace(port: int, frames: list[bytes], connections: int, rate: float) -> Result:
    """Send at a rate, one frame after the other over the connections, whether the last was answered or not."""
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    ended: asyncio.Future[None] = loop.create_future()
    never = iter(list[bytes]())
    panels = [
        (await loop.create_connection(lambda: _Panel(never, waits, ended, [2]), "127.0.0.1", port))[1] for _ in range(connections)
    ]
    began = time.perf_counter()
    sent = []
    for n, frame in enumerate(frames):
        if (ahead := began + n / rate - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        sent.append(panels[n % connections].write(frame))
    while len(waits) < len(frames):  # noqa: ASYNC110 - an event set by each of 200 connections would cost what is measured
        await asyncio.sleep(0.01)
    return Result(len(waits), time.perf_counter() - began, waits, sent)


def flood(port: int, frames: list[bytes], connections: int, *, udp: bool = False) -> Result:
    """Send all frames as fast as they are answered."""
    return uvloop.run(_flood(port, frames, connections, udp=udp))


def pace(port: int, frames: list[bytes], connections: int, rate: float) -> Result:
    """Send all frames at `rate` a second."""
    return uvloop.run(_pace(port, frames, connections, rate))
