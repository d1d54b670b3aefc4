"""
One peer's conversation: the only code that answers a panel.

    data -> link.receive() -> reports -> journal.append() -> durable -> reply

A reply goes out when everything before it on this connection is on disk, in the order of the frames; all frames that one
read completed share one commit. Where the journal does not take writes, nothing is answered, link tests neither: panels
must see that this receiver is dead, and fail over.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from fcntl import ioctl
from functools import partial
from termios import TIOCOUTQ
from typing import Final, cast

import structlog

from protocols.errors import Reason
from protocols.link import Link, LinkTest, Message, Received, Rejected
from receiver.journal import Journal, Report

NOISE_BYTES_MAX: Final = 256 * 1024
"""So much without one whole frame, and the connection is closed: whoever speaks there is no panel."""
UNANSWERED_MAX: Final = 1024
"""So many frames of a peer may wait for the disk, and what one read brings beyond; until then it is not read further."""
READS_A_COMMIT: Final = 100
"""So many reads of one turn go to the disk together."""
REJECTED_LINES_MAX: Final = 20
"""So many refusals of one connection are logged one by one; the rest is counted."""

log = structlog.get_logger()


class Turn:
    """
    What the peers of a listener sent in one turn of the loop, read in one go.

    Between two system calls the same code takes twice as long, for the processor has forgotten it (measured): so first all
    that has come is taken from the sockets, then all of it is read, then all that may be answered at once is answered.
    """

    def __init__(self, journal: Journal) -> None:
        """Nothing has come yet."""
        self._journal = journal
        self._arrived: list[tuple[Session, bytes]] = []

    def add(self, session: "Session", data: bytes) -> None:
        """Keep what a peer sent until the turn ends."""
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self.end)
        self._arrived.append((session, data))

    def end(self) -> None:
        """Read all that has come; also called before a peer's end, so that nothing of it is missed."""
        arrived, self._arrived = self._arrived, []
        now = datetime.now(UTC)
        answers: list[tuple[Session, tuple[bytes, int]]] = []
        for first in range(0, len(arrived), READS_A_COMMIT):
            read = [(session, session.read(data, now)) for session, data in arrived[first : first + READS_A_COMMIT]]
            for session, received in read:
                if received and (answer := session.take(received, now)):
                    answers.append((session, answer))
            self._journal.hand_over()  # so that the disk works while the rest is read
        for session, answer in answers:
            session.send(*answer)


class Session(asyncio.Protocol):
    """A connection of a listener; `on_end` is called once, when it is over."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a listener shares with its sessions
        self, listener: str, link: Link, journal: Journal, turn: Turn, counts: Counter[str], on_end: Callable[["Session"], None]
    ) -> None:
        """Share `turn` and `counts` with the listener's other sessions."""
        self.proven = False
        """Whether a whole frame with a right checksum has come; from then on TCP keepalive decides how long it lives."""
        self.unanswered = 0
        self._listener, self._link, self._journal, self._turn = listener, link, journal, turn
        self._counts, self._on_end = counts, on_end
        self._deaf = False
        """Whether the peer lets our answers pile up."""
        self._ending = False
        """Whether we read no more, whatever happens."""
        self._peer = ""
        self._tested = False
        self._rejected = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        host, port, *_ = transport.get_extra_info("peername") or ("", 0)
        self._peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def data_received(self, data: bytes) -> None:
        """Have it read at the end of this turn."""
        self._turn.add(self, data)

    def read(self, data: bytes, now: datetime) -> list[Received]:
        """Say what frames this data completed."""
        try:
            received = self._link.receive(data, now)
        except Exception:  # a fault of ours over one peer's bytes must not cost the others theirs
            log.critical("session_failed", exc_info=True, effect="this peer is cut off unanswered, and will repeat")
            self.transport.abort()
            return []
        if self._link.noise_bytes > NOISE_BYTES_MAX:
            self.close("too much noise: no whole frame in it")
        return received

    def take(self, received: list[Received], now: datetime) -> tuple[bytes, int] | None:
        """
        See that what was read is stored and then answered.

        Returns a reply that may go out at once, and how many answers it holds; None where there is none.
        """
        reports: list[Report] = []
        replies = []
        for item in received:
            if type(item) is Message:
                self.proven = True
                self._counts["messages"] += 1
                frame = item.frame.decode("latin-1")
                reports.append(Report(now, self._listener, self._peer, frame, item.events, item.identity, item.mark))
            elif type(item) is LinkTest:
                self._note_link_test(item)
            else:
                self._note_rejected(cast("Rejected", item), reports, now)
            replies.append(item.reply)
        reply = b"".join(replies)
        answers = len(replies) - replies.count(b"")
        if reports or self.unanswered:
            if self._journal.append(reports, partial(self._on_durable, reply, answers, len(received))):
                self.unanswered += len(received)
                if self.unanswered >= UNANSWERED_MAX:
                    self.transport.pause_reading()
            return None
        return (reply, answers) if self._journal.writable else None

    def _on_durable(self, reply: bytes, answers: int, frames: int) -> None:
        """All that `reply` acknowledges is on disk."""
        self.send(reply, answers)
        self.unanswered -= frames
        if self.unanswered < UNANSWERED_MAX <= self.unanswered + frames:
            self._read_on()

    def send(self, reply: bytes, answers: int) -> None:
        """Send a reply of so many answers to whoever is still there."""
        if reply and not self.transport.is_closing():
            self._counts["answered"] += answers
            self.transport.write(reply)

    def _note_link_test(self, test: LinkTest) -> None:
        """Count it; the first of a connection is logged, not the thousands that follow."""
        self.proven = True
        self._counts["link_tests"] += 1
        if not self._tested:
            self._tested = True
            log.info(
                "link_test", listener=self._listener, peer=self._peer, account=test.account, frame=test.frame.decode("latin-1")
            )

    def _note_rejected(self, rejected: Rejected, reports: list[Report], now: datetime) -> None:
        """Log it; where it may have been a report, journal it, so that dispatch can raise it."""
        self._counts[f"rejected_{rejected.error.reason}"] += 1
        frame = rejected.frame.decode("latin-1")
        self.proven = self.proven or rejected.error.reason not in {Reason.NOISE, Reason.CRC}
        if rejected.events:
            reports.append(
                Report(now, self._listener, self._peer, frame, rejected.events, rejected.identity, error=rejected.error)
            )
            return
        self._rejected += 1
        if self._rejected <= REJECTED_LINES_MAX:
            log.warning("frame_rejected", listener=self._listener, peer=self._peer, frame=frame, error=rejected.error)

    def pause_writing(self) -> None:
        """Stop reading a peer that does not read our answers."""
        self._deaf = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._deaf = False
        self._read_on()

    def stop_reading(self) -> None:
        """Take no more from the peer; what was taken is still answered."""
        self._ending = True
        self.transport.pause_reading()

    @property
    def answers_arrived(self) -> bool:
        """Whether the peer's system has all our answers. A close before that, with bytes of its own unread, takes them back."""
        if self.transport.is_closing():
            return True
        on_the_way = ioctl(self.transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
        return not any(on_the_way) and not self.transport.get_write_buffer_size()

    def _read_on(self) -> None:
        if self.unanswered < UNANSWERED_MAX and not self._deaf and not self._ending:
            self.transport.resume_reading()

    def close(self, why: str) -> None:
        """End it from our side; what is unanswered is not answered."""
        log.warning("peer_closed", listener=self._listener, peer=self._peer, why=why)
        self.transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        """End: say what bytes were left over."""
        self._turn.end()
        for rejected in self._link.finish():
            self._note_rejected(cast("Rejected", rejected), [], datetime.now(UTC))
        if self._rejected > REJECTED_LINES_MAX:
            more = self._rejected - REJECTED_LINES_MAX
            log.warning("frames_rejected", listener=self._listener, peer=self._peer, not_logged=more)
        self._on_end(self)
