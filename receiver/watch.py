"""
What comes and is answered, live, for `arcgate watch`: a unix socket that tells each frame as it is read, one JSON line each.

    state/receive.watch.sock -> {"at", "listener", "peer", "received", "account", "frame", "events", "reply", "error", ...}

Nothing is made while nobody watches. Who reads too slowly misses lines, and is told how many: {"lost": 12}.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, cast

import msgspec

from protocols.columns import Frame as Columns
from protocols.dc09 import Frame
from protocols.link import LinkTest, Message, Received, Rejected, escape
from receiver.status import UnixSocket

WATCHERS_MAX: Final = 16
BACKLOG_BYTES_MAX: Final = 1024 * 1024
"""So much may wait for a watcher; what comes meanwhile he misses."""

Explain = Callable[[bytes], Columns | Frame | None]

_encode = msgspec.json.Encoder().encode


class Watch:
    """The socket and who is there."""

    def __init__(self, path: Path) -> None:
        """path: of the socket. It is not open yet."""
        self.watchers: set[Watcher] = set()
        self._socket = UnixSocket(path)

    async def open(self) -> None:
        """Let watchers in; raises OSError."""
        loop = asyncio.get_running_loop()
        await self._socket.bind(lambda path: loop.create_unix_server(lambda: Watcher(self.watchers), path))

    def tell(  # noqa: PLR0913 - what there is to say
        self, listener: str, peer: str, received: Sequence[Received], now: datetime, *, explain: Explain, answering: bool
    ) -> None:
        """
        Tell what was read of a peer.

        explain: gives a frame's fields by the listener's protocol. answering: whether the replies go out, once what they
        acknowledge is durable.
        """
        lines = b"".join([_line(listener, peer, item, now, explain, answering=answering) for item in received])
        for watcher in self.watchers:
            watcher.tell(lines, len(received))

    async def close(self) -> None:
        """Send everybody away."""
        await self._socket.close()
        for watcher in list(self.watchers):
            watcher.transport.close()


class Watcher(asyncio.Protocol):
    """One who watches; what he sends is not read."""

    def __init__(self, watchers: set["Watcher"]) -> None:
        """watchers: to join."""
        self._watchers = watchers
        self._lost = 0
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join, where there is room."""
        self.transport = cast("asyncio.Transport", transport)
        if len(self._watchers) >= WATCHERS_MAX:
            transport.close()
            return
        self.transport.set_write_buffer_limits(BACKLOG_BYTES_MAX)
        self._watchers.add(self)

    def tell(self, lines: bytes, count: int) -> None:
        """Send so many lines, or count them as lost."""
        if self._full:
            self._lost += count
        else:
            self.transport.write(lines)

    def pause_writing(self) -> None:
        """Lose what comes."""
        self._full = True

    def resume_writing(self) -> None:
        """Say how much was lost, and go on."""
        self._full = False
        if self._lost:
            lost, self._lost = self._lost, 0
            self.transport.write(_encode({"lost": lost}) + b"\n")

    def connection_lost(self, _exc: Exception | None) -> None:
        """Leave."""
        self._watchers.discard(self)


def _line(  # noqa: PLR0913 - as `tell`
    listener: str, peer: str, item: Received, now: datetime, explain: Explain, *, answering: bool
) -> bytes:
    told = {
        "at": now,
        "listener": listener,
        "peer": peer,
        "received": _WORDS[type(item)],
        "account": _account(item, explain),
        "frame": escape(item.frame),
    }
    told |= {"events": (), "reply": escape(item.reply) if answering else "", "error": None, "mark": "", "dialects": ()}
    if not isinstance(item, LinkTest):
        told["events"] = item.events
    if isinstance(item, Rejected):
        told["error"] = item.error
    else:
        told |= {"mark": item.mark, "dialects": item.dialects}
    return _encode(told) + b"\n"


def _account(item: Received, explain: Explain) -> str:
    """Return whose a frame is. Most refusals raise no event: there it stands in the frame, wherever its header can be read."""
    if isinstance(item, LinkTest):
        return item.account
    fields = explain(item.frame) if isinstance(item, Rejected) else None
    if fields is not None and fields.account:
        return fields.account
    return item.events[0].account if item.events else ""


_WORDS: Final = {Message: "message", LinkTest: "link_test", Rejected: "rejected"}
