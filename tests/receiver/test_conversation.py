"""What every transport shares, with a link that hands out what a test wants; the transports' own tests have the rest."""

from datetime import datetime
from pathlib import Path

from protocols.event import Qualifier
from protocols.link import LinkTest, Message, Received
from receiver.conversation import Conversation, Intake
from receiver.journal import Journal, JournalReader
from tests.receiver.conftest import AT, BURGLARY, intake, until


class Handing:
    """A link that completes what it was given beforehand."""

    noise_bytes = 0

    def __init__(self, *items: Received) -> None:
        self._items = list(items)

    def receive(self, data: bytes, now: datetime) -> list[Received]:
        assert data
        assert now
        return self._items

    def finish(self) -> list[Received]:
        return []


class Peer(Conversation):
    """One who remembers what he was answered."""

    def __init__(self, shared: Intake, *items: Received) -> None:
        super().__init__(Handing(*items), shared)
        self.peer = "192.0.2.1:5000"
        self.answered: list[tuple[bytes, int]] = []

    def close(self, why: str) -> None:
        raise AssertionError(why)

    def send(self, reply: bytes, answers: int) -> None:
        self.answered.append((reply, answers))

    def wait(self, frames: int) -> None:
        self.unanswered += frames

    def settle(self, frames: int) -> None:
        self.unanswered -= frames


async def test_a_clock_that_is_off_is_a_report_of_its_own_on_disk_before_the_answer(journal: Journal, state_dir: Path) -> None:
    shared = intake(journal)
    late, again, right = (LinkTest(b"poll", "1234", b"ack", ahead_s=ahead_s) for ahead_s in (-3600, -3600, 1))
    burglary = Message(b"frame", (BURGLARY,), b"ack", "id", ahead_s=-3600)
    peers = [Peer(shared, late), Peer(shared, again), Peer(shared, burglary, right)]
    for peer in peers:
        shared.add(peer, b"x")
    shared.end()
    assert peers[0].unanswered == 1
    assert peers[0].answered == []
    assert peers[1].answered == [(b"ack", 1)]
    await until(lambda: peers[2].answered)
    assert (peers[0].answered, peers[2].answered) == ([(b"ack", 1)], [(b"ackack", 2)])
    reader = JournalReader(state_dir)
    off, report, restored = [entry.report for entry in reader.read(0, 10)]
    reader.close()
    assert [(report.events[0].code, report.events[0].qualifier) for report in (off, report, restored)] == [
        ("clock_off", Qualifier.NEW),
        ("BA", Qualifier.NEW),
        ("clock_off", Qualifier.RESTORE),
    ]
    assert (off.listener, off.peer, off.frame, off.identity) == ("ip", "192.0.2.1:5000", "", "")


async def test_where_the_journal_takes_nothing_a_link_test_is_not_answered(journal: Journal) -> None:
    shared = intake(journal)
    peer = Peer(shared, LinkTest(b"poll", "1234", b"ack"))
    journal.hold("a test")
    assert peer.take(peer.read(b"x", AT), AT) is None
    journal.free("a test")
    assert peer.take(peer.read(b"x", AT), AT) == (b"ack", 1)
