"""
A panel's line to a receiver, by TCP, UDP or TLS: one frame out, its reply back.

    open_line() -> Line.ask(frame) -> reply

The codec cuts the replies as the receiver cuts frames: a binary checksum may hold a CR.
"""

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

import typer

from arcgate.panel_options import PanelOptions
from protocols.dc09 import Dc09
from protocols.link import escape

if TYPE_CHECKING:
    from protocols.link import Received

NO_REPLY: Final = "no reply: the receiver does not take this frame, or cannot store it; its log says why"
_SHOWN_BYTES: Final = 100
_HEAD_BYTES: Final = 10
_CLOSE_S_MAX: Final = 1.0


class LineError(Exception):
    """The line cannot be had, or broke; the message says why, and what to check."""


class Line(asyncio.Protocol, asyncio.DatagramProtocol):
    """One connection. It asks one thing at a time."""

    def __init__(self) -> None:
        self._link = Dc09().link()
        self._reply: asyncio.Future[bytes] | None = None
        self._cut = False
        """Whether a part of a reply has come."""
        self._ended = asyncio.Event()
        self.broken = ""
        """Why it is of no use any more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin. What writes a datagram is called otherwise."""
        self._transport = cast("asyncio.Transport", transport)
        self._send = getattr(transport, "sendto", None) or self._transport.write

    async def ask(self, frame: bytes, timeout_s: float) -> bytes:
        """Send a frame and return what came back; empty where nothing did in time. Raises LineError where the line broke."""
        if self.broken:
            raise LineError(self.broken)
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[bytes] = loop.create_future()
        self._reply = reply
        timer = loop.call_later(timeout_s, self._end_waiting)
        self._send(frame)
        try:
            return await reply
        finally:
            timer.cancel()
            self._reply = None

    def data_received(self, data: bytes) -> None:
        """Take what came on a stream. A whole reply at once is what nearly always comes: it need not be cut, nor read twice."""
        if not self._cut and data[:1] == b"\n" and len(data) > _HEAD_BYTES and data.find(b"\r") == len(data) - 1:
            self._give(data)
            return
        received = self._link.receive(data, datetime.now(UTC))
        self._cut = not received
        self._take(received)

    def datagram_received(self, data: bytes, _addr: object) -> None:
        """Take a datagram: all of a reply is in it."""
        self._take(self._link.receive(data, datetime.now(UTC)) + self._link.finish())

    def _take(self, received: "list[Received]") -> None:
        if received:
            self._give(received[0].frame)

    def _give(self, reply: bytes) -> None:
        if self._reply and not self._reply.done():
            self._reply.set_result(reply)

    def _end_waiting(self) -> None:
        """Nothing came in time, or bytes of which no reply became."""
        left = self._link.finish()
        if self._reply and not self._reply.done():
            self._reply.set_result(left[0].frame[:_SHOWN_BYTES] if left else b"")

    def error_received(self, exc: Exception) -> None:
        """Hear that nobody listens at the other end of a datagram."""
        self._break(f"no reply: {exc}: nothing listens there")

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._ended.set()
        self._break(f"no reply: {exc}" if exc else "no reply: the receiver closed the connection")

    def _break(self, why: str) -> None:
        left = self._link.finish()
        self.broken = f"{why}, after {escape(left[0].frame[:_SHOWN_BYTES])}" if left else why
        if self._reply and not self._reply.done():
            self._reply.set_exception(LineError(self.broken))

    async def close(self) -> None:
        """Hang up, and wait until that is done."""
        self._transport.close()
        try:
            async with asyncio.timeout(_CLOSE_S_MAX):
                await self._ended.wait()
        except TimeoutError:  # a TLS peer that does not say goodbye
            self._transport.abort()


async def open_line(options: PanelOptions, tls: ssl.SSLContext | None) -> Line:
    """Return a new line to the receiver. Raises LineError, with what to check."""
    loop, (host, port) = asyncio.get_running_loop(), options.place
    try:
        async with asyncio.timeout(options.timeout):
            if options.udp:
                _, line = await loop.create_datagram_endpoint(Line, remote_addr=(host, port))
            else:
                _, line = await loop.create_connection(Line, host, port, ssl=tls, server_hostname=host if tls else None)
    except (OSError, ssl.SSLError) as error:
        raise LineError(_why_not_connected(options, error)) from error
    return line


def tls_context(options: PanelOptions) -> ssl.SSLContext | None:
    """Return how TLS is spoken, None without it. Raises BadParameter where a file of it cannot be read."""
    if not options.tls:
        return None
    context = ssl.create_default_context()
    if options.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    hint = "--ca"
    try:
        if options.ca:
            context.load_verify_locations(options.ca)
        hint = "--certificate"
        if options.certificate:
            context.load_cert_chain(options.certificate, options.private_key, password=_no_password)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        why = getattr(error, "strerror", None) or str(error)
        raise typer.BadParameter(f"it cannot be used: {why}: write the path of a PEM file", param_hint=hint) from error
    return context


def _no_password() -> str:
    """Answer instead of OpenSSL's prompt, which would wait for ever where nobody sits."""
    raise ValueError("the private key is protected by a password: take one without")


def _why_not_connected(options: PanelOptions, error: OSError) -> str:
    place = options.to
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"{place}: its certificate is not trusted: {error.verify_message}: name its signer with --ca, or use --insecure"
            )
        case ssl.SSLError() | ConnectionResetError() if options.tls:
            return f"{place}: no TLS there: {error.strerror or error}: is this the port of a TLS listener?"
        case ConnectionRefusedError():
            return f"{place}: connection refused: nothing listens there. `arcgate status` says what runs, and where it listens"
        case TimeoutError():
            what, port = ("TLS", "is this the port of a TLS listener, ") if options.tls else ("connection", "")
            return f"{place}: no {what} in time: {port}does a firewall stand between, and is the address right?"
        case socket.gaierror():
            return f"{place}: this host is not known: {error.strerror}"
        case _:
            return f"{place}: no connection: {error.strerror or error}"
