"""
A pretend receiver's wire to a gateway: it dials, is dialled, has a serial port, or makes a pseudo-terminal for one.

    Wire.open() -> send(line), answer() -> ACK, NAK, or nothing
"""

import asyncio
import os
import sys
import tty
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec

from arcgate.panel_options import place_of
from protocols.lines import ACK, NAK


class WireError(Exception):
    """It cannot be had, or broke; the message says why."""


class Way(msgspec.Struct, frozen=True):
    """Where the gateway is; one of the first four is set."""

    to: str = ""
    """HOST:PORT of a listener with `transport = "tcp"`."""
    listen: str = ""
    """HOST:PORT, for a listener with `transport = "dial"`."""
    serial: str = ""
    """The path of a port; at its far end is a listener with `transport = "serial"`."""
    pty: Path | None = None
    """Here a link to a new pseudo-terminal is made, for such a listener."""
    speed: int = 9600


class Wire(asyncio.Protocol):
    """One connection at a time: where the gateway dials again, the new one counts."""

    def __init__(self, way: Way) -> None:
        """Nothing is opened yet."""
        self.broken = True
        """Whether there is no connection."""
        self._way = way
        self._transport: asyncio.Transport | None = None
        self._server: asyncio.Server | None = None
        self._terminal: tuple[int, ...] = ()
        self._connected = asyncio.Event()
        self._signs: asyncio.Queue[bytes] = asyncio.Queue()

    @property
    def awaits(self) -> bool:
        """Whether it is for the gateway to come: it may do so late."""
        return bool(self._way.listen or self._way.pty)

    async def open(self, wait_s: float) -> None:
        """Have a connection within so many seconds. Raises WireError."""
        way = self._way
        where = way.to or way.listen or way.serial or str(way.pty)
        try:
            async with asyncio.timeout(wait_s):
                await self._open(asyncio.get_running_loop(), way)
        except TimeoutError as error:
            raise WireError(f"{where}: nobody came in {wait_s:g} s") from error
        except (OSError, ValueError) as error:
            raise WireError(f"{where}: {error}") from error

    async def _open(self, loop: asyncio.AbstractEventLoop, way: Way) -> None:
        if way.to:
            await loop.create_connection(lambda: self, *place_of(way.to, "--to"))
        elif way.serial:
            from serial_asyncio_fast import create_serial_connection

            await create_serial_connection(loop, lambda: self, way.serial, baudrate=way.speed)
        elif way.pty:
            await self._make_terminal(loop, way.pty)
        elif self._server is None:
            self._server = await loop.create_server(lambda: self, *place_of(way.listen, "--listen"))
            host, port, *_ = self._server.sockets[0].getsockname()
            print(f"waiting to be dialled at {host}:{port}", file=sys.stderr, flush=True)
        await self._connected.wait()

    async def _make_terminal(self, loop: asyncio.AbstractEventLoop, path: Path) -> None:
        """Make a pseudo-terminal; we hold its far side open too, as a cable is there before anybody has opened the port."""
        ours, theirs = self._terminal = os.openpty()
        tty.setraw(theirs)
        _link(path, os.ttyname(theirs))
        await loop.connect_read_pipe(lambda: self, os.fdopen(os.dup(ours), "rb", buffering=0))
        print(f"waiting at {path}", file=sys.stderr, flush=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; an older connection is closed."""
        if self._transport:
            self._transport.close()
        self._transport, self.broken = cast("asyncio.Transport", transport), False
        self._connected.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own
        """End, unless there is a newer one."""
        if self._transport is None or self._transport.is_closing():
            self.broken = True
            self._connected.clear()
            self._signs.put_nowait(b"")

    def data_received(self, data: bytes) -> None:
        """Take answers; what is none is no business of a receiver's."""
        for byte in data:
            if (sign := bytes([byte])) in {ACK, NAK}:
                self._signs.put_nowait(sign)

    def send(self, line: bytes) -> None:
        """Send a line; answers to earlier ones that came late are forgotten."""
        while not self._signs.empty():
            self._signs.get_nowait()
        if self._terminal:
            with suppress(BlockingIOError):  # nobody reads it: a serial line drops what nobody takes
                os.write(self._terminal[0], line)
        elif self._transport:
            self._transport.write(line)

    async def answer(self, timeout_s: float) -> bytes:
        """Return the next ACK or NAK; empty where none came in time, or the connection ended."""
        try:
            return await asyncio.wait_for(self._signs.get(), timeout_s)
        except TimeoutError:
            return b""

    async def close(self) -> None:
        """Hang up."""
        if self._transport:
            self._transport.close()
        if self._server:
            self._server.close()
        await asyncio.sleep(0)
        for descriptor in self._terminal:
            os.close(descriptor)
        if self._way.pty and self._terminal:
            _unlink(self._way.pty)


def _link(path: Path, port: str) -> None:
    """Make a link, in place of an older one. Raises OSError where something else is there."""
    _unlink(path)
    path.symlink_to(port)


def _unlink(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
