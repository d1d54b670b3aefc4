"""
UDP: each datagram is a conversation of its own; its answer goes from where it arrived to where it came from.

    socket -> Datagram -> Intake -> journal -> durable -> the same socket

A sender's address can be forged: so nothing is kept for one, only a whole frame with a right checksum is answered, with less
than three times its bytes (a NAK to the shortest there is), and while too much waits for the disk nothing is read: then the
system's own buffer fills, and drops, and the panels repeat.
"""

import asyncio
import socket
import struct
from datetime import datetime
from typing import Any, Final

from protocols.link import Link, LinkTest, Policies, Received
from receiver.config import Listener
from receiver.conversation import UNANSWERED_MAX, Conversation, Intake, address_text
from receiver.listen import ListenError, let_in, refuse_source

DATAGRAM_BYTES_MAX: Final = 16 * 1024
"""Some of the longest frames; a longer datagram is no panel's."""
DATAGRAMS_A_TURN: Final = 32
"""So many are read before the TCP peers have their turn again."""
RECEIVE_BYTES: Final = 4 * 1024 * 1024
"""What the system may keep for us, where `net.core.rmem_max` allows it: all panels report at once when the power returns."""
_IP_PKTINFO: Final = 8
"""Linux's number; Python names it from 3.14 on."""
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(32)

_Ancillary = list[tuple[int, int, bytes]]


class UdpListener:
    """An open listener: a socket for each address that its name has."""

    def __init__(self, listener: Listener, intake: Intake, policies: Policies) -> None:
        """policies: what the centre has said of this listener's accounts. Nothing is opened yet."""
        self.listener, self.intake, self.policies = listener, intake, policies
        self.counts = intake.counts
        self.connections = 0
        """There are none."""
        self.certificates = None
        self._ports: list[_Port] = []

    async def open(self) -> None:
        """Listen; raises ListenError."""
        loop = asyncio.get_running_loop()
        try:
            for family, kind, protocol, _, name in await loop.getaddrinfo(
                self.listener.host, self.listener.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            ):
                self._ports.append(_Port(self, _bound(socket.socket(family, kind, protocol), name)))
        except (OSError, UnicodeError) as error:
            self.close_sessions()
            raise ListenError.of(self.listener, error) from error
        for port in self._ports:
            port.read_on()

    @property
    def addresses(self) -> list[str]:
        """What it really listens on."""
        return [address_text(port.socket.getsockname()[:2]) for port in self._ports]

    def refuse_new(self) -> None:
        """Read no more."""
        for port in self._ports:
            port.stop()
        self.intake.end()

    def cut_unanswered(self) -> None:
        """Forget what will never be answered: the panels repeat it."""
        for port in self._ports:
            port.settle(port.waiting)

    def close_sessions(self) -> None:
        """Close the sockets."""
        for port in self._ports:
            port.socket.close()

    async def closed(self) -> None:
        """Close the sockets: an answer that was sent is the system's to deliver."""
        self.close_sessions()


def _bound(opened: socket.socket, name: Any) -> socket.socket:  # noqa: ANN401 - a socket's address, as its family has it
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        if opened.family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        opened.bind(name)
    except OSError:
        opened.close()
        raise
    return opened


class _Port:
    """One socket: it reads in small portions, and not at all while too much waits for the disk."""

    def __init__(self, listener: UdpListener, bound: socket.socket) -> None:
        self.socket, self.intake = bound, listener.intake
        self.waiting = 0
        """Frames that are not on disk yet."""
        self._listener = listener
        self._let_in = let_in(listener.listener.allow)
        self._buffer = bytearray(DATAGRAM_BYTES_MAX)
        self._loop = asyncio.get_running_loop()
        self._ending = False

    def read_on(self) -> None:
        if not self._ending:
            self._loop.add_reader(self.socket, self._read)

    def stop(self) -> None:
        self._ending = True
        self._loop.remove_reader(self.socket)

    def wait(self, frames: int) -> None:
        self.waiting += frames
        if self.waiting >= UNANSWERED_MAX:
            self._loop.remove_reader(self.socket)

    def settle(self, frames: int) -> None:
        before, self.waiting = self.waiting, max(0, self.waiting - frames)
        if self.waiting < UNANSWERED_MAX <= before:
            self.read_on()

    def _read(self) -> None:
        for _ in range(DATAGRAMS_A_TURN):
            try:
                size, ancillary, flags, sender = self.socket.recvmsg_into([self._buffer], _ANCILLARY_BYTES)
            except OSError:  # nothing more; or what the network has told of an answer
                return
            self.intake.counts["datagrams"] += 1
            host, peer = sender[0], address_text(sender[:2])
            if not self._let_in(host):
                refuse_source(self.intake, host, peer)
            elif flags & socket.MSG_TRUNC:
                self.intake.counts["datagrams_too_long"] += 1
            else:
                link = self._listener.listener.protocol.link(self._listener.policies)
                datagram = Datagram(link, self, sender, _answer_from(ancillary))
                datagram.host, datagram.peer = host, peer
                self.intake.add(datagram, bytes(self._buffer[:size]))


def _answer_from(ancillary: _Ancillary) -> _Ancillary:
    """Say by which address of this machine the answer must leave: the one that the panel knows, on a machine that has several."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, ours, _ = struct.unpack("=I4s4s", data)  # interface, our address, the one in the datagram: a broadcast's differs
            return [(level, kind, struct.pack("=I4s4s", 0, ours, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, data[:16] + bytes(4))]  # by whatever interface: a panel's way back may be another
    return []


class _Whole:
    """A link whose input ends with the datagram: half a frame in it has no other half."""

    noise_bytes = 0

    def __init__(self, link: Link) -> None:
        self._link = link

    def receive(self, data: bytes, now: datetime) -> list[Received]:
        return [*self._link.receive(data, now), *self._link.finish()]

    def finish(self) -> list[Received]:
        return []


class Datagram(Conversation):
    """One datagram: what it holds is answered in one, where all of it is durable."""

    def __init__(self, link: Link, port: _Port, sender: Any, answer_from: _Ancillary) -> None:  # noqa: ANN401 - as `_bound`
        """sender: its address, as the system has it. answer_from: the address it was sent to."""
        super().__init__(_Whole(link), port.intake)
        self._port, self._sender, self._answer_from = port, sender, answer_from

    def close(self, why: str) -> None:
        """Nothing to end."""

    def send(self, reply: bytes, answers: int) -> None:
        """Send a reply of so many answers: none is three times as long as the frame that asked for it."""
        if not reply:
            return
        counts = self._intake.counts
        try:
            self._port.socket.sendmsg([reply], self._answer_from, 0, self._sender)
        except OSError:  # no way back, or the system has no room: the panel repeats
            counts["answers_unsent"] += answers
        else:
            counts["answered"] += answers

    def wait(self, frames: int) -> None:
        """So many more frames wait for the disk."""
        self._port.wait(frames)

    def settle(self, frames: int) -> None:
        """They are on disk, and answered."""
        self._port.settle(frames)

    def _log_link_test(self, test: LinkTest) -> None:
        """Log it, once a minute: each datagram is the first of its conversation."""
        self._intake.lines.tell(
            "link_test",
            self.host,
            "",
            level="info",
            listener=self._intake.listener,
            peer=self.peer,
            account=test.account,
            frame=test.frame.decode("latin-1"),
        )
