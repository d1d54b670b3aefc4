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
REJECTED_LINES_MAX: Final = 20
"""So many refusals of one connection are logged one by one; the rest is counted."""

log = structlog.get_logger()


class Session(asyncio.Protocol):
    """A connection of a listener; `on_end` is called once, when it is over."""

    def __init__(
        self, listener: str, link: Link, journal: Journal, counts: Counter[str], on_end: Callable[["Session"], None]
    ) -> None:
        """Share `counts` with the listener: by what was received."""
        self.proven = False
        """Whether a whole frame with a right checksum has come; from then on TCP keepalive decides how long it lives."""
        self.unanswered = 0
        self._listener, self._link, self._journal, self._counts, self._on_end = listener, link, journal, counts, on_end
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
        """Read the frames that this data completed, and see that they are stored and answered."""
        now = datetime.now(UTC)
        if received := self._link.receive(data, now):
            self._take(received, now)
        if self._link.noise_bytes > NOISE_BYTES_MAX:
            self.close("too much noise: no whole frame in it")

    def _take(self, received: list[Received], now: datetime) -> None:
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
            self.unanswered += len(received)
            if self.unanswered >= UNANSWERED_MAX:
                self.transport.pause_reading()
            self._journal.append(reports, partial(self._on_durable, reply, answers, len(received)))
        elif self._journal.writable:
            self._send(reply, answers)

    def _on_durable(self, reply: bytes, answers: int, frames: int) -> None:
        """All that `reply` acknowledges is on disk."""
        self._send(reply, answers)
        self.unanswered -= frames
        if self.unanswered < UNANSWERED_MAX <= self.unanswered + frames:
            self._read_on()

    def _send(self, reply: bytes, answers: int) -> None:
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
        for rejected in self._link.finish():
            self._note_rejected(cast("Rejected", rejected), [], datetime.now(UTC))
        if self._rejected > REJECTED_LINES_MAX:
            more = self._rejected - REJECTED_LINES_MAX
            log.warning("frames_rejected", listener=self._listener, peer=self._peer, not_logged=more)
        self._on_end(self)
