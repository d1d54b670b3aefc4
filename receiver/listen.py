"""Open the doors: a TCP server per listener, which hands each peer's bytes to a session, and keeps their number bounded."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial

import structlog

from protocols.link import Policies
from receiver.accounts import Accounts
from receiver.config import Listener
from receiver.journal import Journal
from receiver.session import Session, Turn

KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 20
KEEPALIVE_PROBES = 3
"""A peer that vanished without a word is noticed after two minutes."""

log = structlog.get_logger()


class ListenError(Exception):
    """The address cannot be listened on; the message says why, and what to do."""


class TcpListener:
    """An open listener and its sessions."""

    def __init__(self, listener: Listener, journal: Journal, accounts: Accounts) -> None:
        """Nothing is opened yet."""
        self.listener = listener
        self.counts: Counter[str] = Counter()
        self._journal, self._turn = journal, Turn(journal)
        self._policies: Policies = partial(accounts.policy, listener.name)
        self._sessions: dict[Session, float] = {}
        """Each with the time it began, the oldest first."""
        self._sweep: asyncio.TimerHandle | None = None
        self._refusing = False

    async def open(self) -> None:
        """Listen; raises ListenError."""
        self._loop = asyncio.get_running_loop()
        try:
            self._server = await self._loop.create_server(
                self._accept, self.listener.host, self.listener.port, backlog=1024, reuse_address=True
            )
        except (OSError, UnicodeError) as error:
            raise ListenError(
                f"listener[{self.listener.name}].address: cannot listen on {self.listener.address}: {error}; "
                "is another program on that port, has this machine no such address, or does a port below 1024 need root?"
            ) from error
        self._sweep_idle()

    @property
    def addresses(self) -> list[str]:
        """What it really listens on."""
        names = [server.getsockname() for server in self._server.sockets]
        return [f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}" for name in names]

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._sessions)

    def _accept(self) -> Session:
        link = self.listener.protocol.link(self._policies)
        session = _Accepted(self.listener.name, link, self._journal, self._turn, self.counts, self._end)
        session.on_begin = self._begin
        return session

    def _begin(self, session: Session) -> None:
        if self._refusing:
            session.transport.abort()
            return
        if len(self._sessions) >= self.listener.connections_max:
            self._make_room()
        self._sessions[session] = self._loop.time()
        self.counts["connections"] += 1

    def _make_room(self) -> None:
        """Drop the oldest peer that has not sent one frame, else the one that has been there longest."""
        oldest = next((session for session in self._sessions if not session.proven), next(iter(self._sessions)))
        self._end(oldest)
        oldest.close(f"connections_max = {self.listener.connections_max} is reached: raise it if these are all panels")

    def _end(self, session: Session) -> None:
        self._sessions.pop(session, None)

    def _sweep_idle(self) -> None:
        """Close who has not sent one whole frame in `idle_s`: port scanners, and panels of another make."""
        before = self._loop.time() - self.listener.idle_s
        idle = [session for session, since in self._sessions.items() if since < before and not session.proven]
        for session in idle:
            session.close(f"no frame in idle_s = {self.listener.idle_s:g} s")
        self._sweep = self._loop.call_later(min(1.0, self.listener.idle_s), self._sweep_idle)

    def refuse_new(self) -> None:
        """Stop listening, and stop reading the peers that are there."""
        self._refusing = True
        if self._sweep:
            self._sweep.cancel()
        self._server.close()
        for session in self._sessions:
            session.stop_reading()
        self._turn.end()

    def cut_unanswered(self) -> None:
        """Cut off the peers of whom something was taken that will never be answered: they shall repeat it, or go elsewhere."""
        for session in [session for session in self._sessions if session.unanswered]:
            session.close("there is no room for its reports")

    def close_sessions(self) -> None:
        """Close every connection whose peer has its answers."""
        for session in [session for session in self._sessions if session.answers_arrived]:
            session.transport.close()

    async def closed(self) -> None:
        """Close every connection; for two seconds, wait until each peer has its answers, then cut those that do not take them."""
        for _ in range(40):
            self.close_sessions()
            if not self._sessions:
                return
            await asyncio.sleep(0.05)
        for session in list(self._sessions):
            session.transport.abort()


class _Accepted(Session):
    """A session over an accepted TCP connection."""

    on_begin: Callable[[Session], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        super().connection_made(transport)
        self.on_begin(self)
