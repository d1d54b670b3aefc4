"""
What every transport shares: take what a peer sent, journal it, and answer when it is durable.

    data -> Intake.add() -> Conversation.read() -> take() -> journal.append() -> durable -> send()

A reply goes out when everything before it on this connection is on disk, in the order of the frames; all frames that one
read completed share one commit. Where the journal does not take writes, nothing is answered, link tests neither: panels
must see that this receiver is dead, and fail over.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from typing import Final, cast

import structlog

from protocols.errors import Reason
from protocols.link import Link, LinkTest, Message, Received, Rejected
from receiver.journal import Journal, Report
from receiver.seen import Seen
from receiver.sparing import SparingLog
from receiver.watch import Explain, Watch

NOISE_BYTES_MAX: Final = 256 * 1024
"""So much without one whole frame, and the connection is closed: whoever speaks there is no panel."""
UNANSWERED_MAX: Final = 1024
"""So many frames may wait for the disk, and what one read brings beyond; until then the peer is not read further."""
READS_A_COMMIT: Final = 100
"""So many reads of one turn go to the disk together."""

log = structlog.get_logger()


def address_text(name: tuple[str, int]) -> str:
    """Write a socket's address as people do."""
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


class Intake:
    """
    What the peers of a listener share; and what they sent in one turn of the loop, read in one go.

    Between two system calls the same code takes twice as long, for the processor has forgotten it (measured): so first all
    that has come is taken from the sockets, then all of it is read, then all that may be answered at once is answered.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what all of a listener's peers need
        self, listener: str, journal: Journal, seen: Seen, watch: Watch, lines: SparingLog, explain: Explain
    ) -> None:
        """
        Begin with nothing.

        listener: its name. seen: its own. explain: gives a frame's fields by its protocol, for who watches. The rest is shared by
        all listeners.
        """
        self.listener, self.journal, self.seen, self.watch, self.lines = listener, journal, seen, watch, lines
        self.counts: Counter[str] = Counter()
        self.explain = explain
        self._arrived: list[tuple[Conversation, bytes]] = []

    def add(self, conversation: "Conversation", data: bytes) -> None:
        """Keep what a peer sent until the turn ends."""
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self.end)
        self._arrived.append((conversation, data))

    def end(self) -> None:
        """Read all that has come; also called before a peer's end, so that nothing of it is missed."""
        arrived, self._arrived = self._arrived, []
        now = datetime.now(UTC)
        answers: list[tuple[Conversation, tuple[bytes, int]]] = []
        for first in range(0, len(arrived), READS_A_COMMIT):
            read = [(peer, peer.read(data, now)) for peer, data in arrived[first : first + READS_A_COMMIT]]
            for peer, received in read:
                if received and (answer := peer.take(received, now)):
                    answers.append((peer, answer))
            self.journal.hand_over()  # so that the disk works while the rest is read
        for peer, answer in answers:
            peer.send(*answer)


class Conversation(ABC):
    """One peer's side of it: what it sent becomes reports, and its answers go where its transport sends them."""

    def __init__(self, link: Link, intake: Intake) -> None:
        """link: reads what this peer sends. intake: shared with the listener's other peers."""
        self.proven = False
        """Whether a whole frame with a right checksum has come; from then on TCP keepalive decides how long it lives."""
        self.peer = ""
        """Its address and port, for people."""
        self.host = ""
        self.unanswered = 0
        """Its frames that wait for the disk, where later answers must wait for theirs."""
        self._link, self._intake = link, intake
        self._tested = False

    @abstractmethod
    def close(self, why: str) -> None:
        """End it from our side; what is unanswered is not answered."""

    @abstractmethod
    def send(self, reply: bytes, answers: int) -> None:
        """Send a reply of so many answers to whoever is still there."""

    @abstractmethod
    def wait(self, frames: int) -> None:
        """So many more frames wait for the disk."""

    @abstractmethod
    def settle(self, frames: int) -> None:
        """They are on disk, and answered."""

    def read(self, data: bytes, now: datetime) -> list[Received]:
        """Say what frames this data completed."""
        try:
            received = self._link.receive(data, now)
        except Exception:  # noqa: BLE001 - a fault of ours over one peer's bytes must not cost the others theirs
            effect = "this peer is cut off unanswered, and will repeat"
            self._intake.lines.tell("session_failed", self.host, "", level="critical", exc_info=True, effect=effect)
            self.close("a fault of ours: see session_failed")
            return []
        if self._link.noise_bytes > NOISE_BYTES_MAX:
            self.close("too much noise: no whole frame in it")
        return received

    def take(self, received: list[Received], now: datetime) -> tuple[bytes, int] | None:
        """
        See that what was read is stored and then answered.

        Returns a reply that may go out at once, and how many answers it holds; None where there is none.
        """
        intake, peer = self._intake, self.peer
        listener, note = intake.listener, intake.seen.note
        reports: list[Report] = []
        replies = []
        for item in received:
            raised = None
            if type(item) is Message:
                self.proven = True
                intake.counts["messages"] += 1
                frame = item.frame.decode("latin-1")
                reports.append(Report(now, listener, peer, frame, item.events, item.identity, item.mark))
                raised = note(peer, item, now)
            elif type(item) is LinkTest:
                self._note_link_test(item)
                raised = note(peer, item, now)
            else:
                self._note_rejected(cast("Rejected", item), reports, now)
            if raised:
                reports.append(Report(now, listener, peer, "", (raised,)))
            replies.append(item.reply)
        if intake.watch.watchers:
            intake.watch.tell(listener, peer, received, now, explain=intake.explain, answering=intake.journal.writable)
        reply = b"".join(replies)
        answers = len(replies) - replies.count(b"")
        if reports or self.unanswered:
            if intake.journal.append(reports, partial(self._on_durable, reply, answers, len(received))):
                self.wait(len(received))
            return None
        return (reply, answers) if intake.journal.writable else None

    def _on_durable(self, reply: bytes, answers: int, frames: int) -> None:
        """All that `reply` acknowledges is on disk."""
        self.send(reply, answers)
        self.settle(frames)

    def _note_link_test(self, test: LinkTest) -> None:
        """Count it; the first of a connection is logged, not the thousands that follow."""
        self.proven = True
        self._intake.counts["link_tests"] += 1
        if not self._tested:
            self._tested = True
            self._log_link_test(test)

    def _log_link_test(self, test: LinkTest) -> None:
        frame = test.frame.decode("latin-1")
        log.info("link_test", listener=self._intake.listener, peer=self.peer, account=test.account, frame=frame)

    def _note_rejected(self, rejected: Rejected, reports: list[Report], now: datetime) -> None:
        """Log it; where it may have been a report, journal it, so that dispatch can raise it."""
        intake, error = self._intake, rejected.error
        intake.seen.note_refused(rejected, now)
        intake.counts[f"rejected_{error.reason}"] += 1
        frame = rejected.frame.decode("latin-1")
        self.proven = self.proven or error.reason not in _NO_FRAME
        if rejected.events:
            reports.append(Report(now, intake.listener, self.peer, frame, rejected.events, rejected.identity, error=error))
        else:
            named = f": {error.message.partition(':')[0]}" if error.reason is Reason.FOREIGN else ""
            cause, listener = f"{error.reason}{named}", intake.listener
            intake.lines.tell("frame_rejected", self.host, cause, listener=listener, peer=self.peer, frame=frame, error=error)


_NO_FRAME: Final = frozenset({Reason.NOISE, Reason.CRC, Reason.FOREIGN})
"""What proves nothing of who sent it."""
