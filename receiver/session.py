"""A panel's TCP connection: it is not read while too much waits for the disk, or for the peer to take its answers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import cast

from protocols.lines import QUIET_S, LineLink
from protocols.link import Link, Received
from receiver.conversation import UNANSWERED_MAX, Conversation, Intake, address_text


class Session(Conversation, asyncio.Protocol):
    """A connection of a listener; `on_begin` is called once it is there, and may end it; `on_end` when it is over."""

    def __init__(
        self, link: Link, intake: Intake, on_begin: Callable[["Session"], None], on_end: Callable[["Session"], None]
    ) -> None:
        """Share `intake` with the listener's other sessions."""
        super().__init__(link, intake)
        if isinstance(link, LineLink):
            self._lines = link
            self.read = self._read_lines  # type: ignore[method-assign] # so that it costs the other links nothing
        self._silence: asyncio.TimerHandle | None = None
        self._on_begin, self._on_end = on_begin, on_end
        self._deaf = False
        """Whether the peer lets our answers pile up."""
        self._ending = False
        """Whether we read no more, whatever happens."""
        self._heard_out = False
        """Whether the peer has said that it sends no more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self.host, port, *_ = transport.get_extra_info("peername") or ("", 0)
        self.peer = address_text((self.host, port))
        self._on_begin(self)

    def data_received(self, data: bytes) -> None:
        """Have it read at the end of this turn."""
        self._intake.add(self, data)

    def _read_lines(self, data: bytes, now: datetime) -> list[Received]:
        """Do as `read` does; a line that no sign ends is ended by silence."""
        received = super().read(data, now)
        if self._silence:
            self._silence.cancel()
        self._silence = asyncio.get_running_loop().call_later(QUIET_S, self._hear_silence) if self._lines.unsettled else None
        return received

    def _hear_silence(self) -> None:
        now = datetime.now(UTC)
        if (received := self._lines.settle(now)) and (answer := self.take(received, now)):
            self.send(*answer)

    def send(self, reply: bytes, answers: int) -> None:
        """Send a reply of so many answers to whoever is still there."""
        if reply and not self.transport.is_closing():
            self._intake.counts["answered"] += answers
            self.transport.write(reply)

    def wait(self, frames: int) -> None:
        """So many more frames wait for the disk: beyond a number of them the peer is not read."""
        self.unanswered += frames
        if self.unanswered >= UNANSWERED_MAX:
            self.transport.pause_reading()

    def settle(self, frames: int) -> None:
        """They are on disk, and answered."""
        self.unanswered -= frames
        if self._heard_out and not self.unanswered:
            self.leave()
        if self.unanswered < UNANSWERED_MAX <= self.unanswered + frames:
            self._read_on()

    def eof_received(self) -> bool:
        """See that a peer that says no more is answered all the same; returns whether to wait for that."""
        self._intake.end()
        self._heard_out = True
        return bool(self.unanswered)

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
        self._intake.lines.tell("peer_closed", self.host, why, listener=self._intake.listener, peer=self.peer, why=why)
        self.transport.abort()

    def leave(self) -> None:
        """End it from our side, when all answers are on their way."""
        self.transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """End: say what bytes were left over."""
        self._intake.end()
        if self._silence:
            self._silence.cancel()
        if left := self._link.finish():
            self.take(left, datetime.now(UTC))
        self._on_end(self)
