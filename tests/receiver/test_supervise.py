"""Two heartbeats missing are one alarm; the next valid line restores it."""

from collections import Counter
from pathlib import Path

from protocols.event import CENTRE
from protocols.surgard import SurGard
from receiver.config import Listener
from receiver.faults import Faults
from receiver.journal import Journal
from receiver.supervise import Supervision
from tests.receiver.attached import told
from tests.receiver.conftest import until


def listener(heartbeat_s: float | None) -> Listener:
    return Listener(name="sg", transport="tcp", address="127.0.0.1:0", protocol=SurGard(), heartbeat_s=heartbeat_s)


async def test_silence_of_two_heartbeats_is_raised_once_and_restored_by_what_is_valid(journal: Journal, state_dir: Path) -> None:
    counts: Counter[str] = Counter()
    supervision = Supervision(listener(30), counts, Faults(journal, state_dir), 0)
    supervision.look(60)
    assert journal.appended == 0
    for now_s in (61, 100, 1000):
        supervision.look(now_s)
    assert journal.appended == 1
    counts["rejected_damaged"] += 1
    supervision.look(1001)
    assert journal.appended == 1
    counts["link_tests"] += 1
    supervision.look(1002)
    counts["messages"] += 1
    supervision.look(1060)
    supervision.look(1120)
    await until(lambda: journal.durable == 2)
    assert told(state_dir) == [(CENTRE, "receiver_link_lost", "new"), (CENTRE, "receiver_link_lost", "restore")]


async def test_without_a_heartbeat_silence_is_no_news(journal: Journal, state_dir: Path) -> None:
    supervision = Supervision(listener(None), Counter(), Faults(journal, state_dir), 0)
    supervision.look(1e9)
    assert journal.appended == 0
