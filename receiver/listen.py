"""Open the doors: a TCP or TLS server a listener, which hands each peer's bytes to a session, and keeps their number bounded."""

import asyncio
import socket
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network

import structlog

from protocols.link import Policies
from receiver.config import Listener
from receiver.conversation import Intake, address_text
from receiver.session import Session
from receiver.tls import Certificates, Secured, TlsError

KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 20
KEEPALIVE_PROBES = 3
"""A peer that vanished without a word is noticed after two minutes."""

log = structlog.get_logger()


class ListenError(Exception):
    """The address cannot be listened on; the message says why, and what to do."""

    @classmethod
    def of(cls, listener: Listener, error: Exception) -> "ListenError":
        """Say it of a listener's address."""
        return cls(
            f"listener[{listener.name}].address: cannot listen on {listener.address}: {error}; "
            "is another program on that port, has this machine no such address, or does a port below 1024 need root?"
        )


def let_in(networks: tuple[str, ...]) -> Callable[[str], bool]:
    """Make the test whether an address, as the system writes it, is in one of these networks; without any, each is."""
    known = [ip_network(network) for network in networks]

    @lru_cache(4096)
    def allowed(host: str) -> bool:
        return not known or (host != "" and any(ip_address(host) in network for network in known))

    return allowed


class TcpListener:
    """An open listener and its sessions."""

    def __init__(self, listener: Listener, intake: Intake, policies: Policies) -> None:
        """policies: what the centre has said of this listener's accounts. Nothing is opened yet."""
        self.listener, self.intake = listener, intake
        self.counts = intake.counts
        self.certificates: Certificates | None = None
        self._policies = policies
        self._let_in = let_in(listener.allow)
        self._sessions: dict[Session, float] = {}
        """Each with the time it began, the oldest first."""
        self._sweep: asyncio.TimerHandle | None = None
        self._refusing = False

    async def open(self) -> None:
        """Listen; raises ListenError."""
        self._loop = asyncio.get_running_loop()
        try:
            if self.listener.transport == "tls":
                self.certificates = Certificates(self.listener)
            self._server = await self._loop.create_server(
                self._accept, self.listener.host, self.listener.port, backlog=1024, reuse_address=True
            )
        except TlsError as error:
            raise ListenError(f"listener[{self.listener.name}].{error.key}: {error}") from error
        except (OSError, UnicodeError) as error:
            raise ListenError.of(self.listener, error) from error
        self._sweep_idle()

    @property
    def addresses(self) -> list[str]:
        """What it really listens on."""
        return [address_text(server.getsockname()[:2]) for server in self._server.sockets]

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._sessions)

    def _accept(self) -> Session:
        link = self.listener.protocol.link(self._policies)
        if self.certificates:
            return Secured(link, self.intake, self._begin, self._end, self.certificates)
        return Session(link, self.intake, self._begin, self._end)

    def _begin(self, session: Session) -> None:
        if self._refusing:
            session.transport.abort()
            return
        if not self._let_in(session.host):
            refuse_source(self.intake, session.host, session.peer)
            session.transport.abort()
            return
        keep_alive(session.transport.get_extra_info("socket"))
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

    def renew(self, *, asked: bool = False) -> None:
        """Take the certificate anew where its files have changed, or where that is asked; the connections that are there stay."""
        if not self.certificates or not (asked or self.certificates.changed()):
            return
        try:
            self.certificates.load()
        except TlsError as error:
            log.error(  # noqa: TRY400 - the message says it all
                "certificate_refused",
                listener=self.listener.name,
                key=error.key,
                error=str(error),
                effect="the one before stays in use",
            )
        else:
            log.info("certificate_taken", listener=self.listener.name, until=self.certificates.until)

    def refuse_new(self) -> None:
        """Stop listening, and stop reading the peers that are there."""
        self._refusing = True
        if self._sweep:
            self._sweep.cancel()
        self._server.close()
        for session in self._sessions:
            session.stop_reading()
        self.intake.end()

    def cut_unanswered(self) -> None:
        """Cut off the peers of whom something was taken that will never be answered: they shall repeat it, or go elsewhere."""
        for session in [session for session in self._sessions if session.unanswered]:
            session.close("there is no room for its reports")

    def close_sessions(self) -> None:
        """Close every connection whose peer has its answers."""
        for session in [session for session in self._sessions if session.answers_arrived]:
            session.leave()

    async def closed(self) -> None:
        """Close every connection; for two seconds, wait until each peer has its answers, then cut those that do not take them."""
        for _ in range(40):
            self.close_sessions()
            if not self._sessions:
                return
            await asyncio.sleep(0.05)
        for session in list(self._sessions):
            session.transport.abort()


def refuse_source(intake: Intake, host: str, peer: str) -> None:
    """Count and tell that a peer is of none of the networks that are let in."""
    intake.counts["refused_source"] += 1
    todo = "if this is a panel of yours, add its network to `allow`"
    intake.lines.tell("source_refused", host, "", listener=intake.listener, peer=peer, todo=todo)


def keep_alive(connection: socket.socket) -> None:
    """Have the system look whether the peer is still there."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
