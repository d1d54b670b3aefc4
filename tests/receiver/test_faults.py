"""What is raised of the centre itself: once, restored once, also across a restart and a full disk."""

from pathlib import Path

from receiver.faults import LINK_LOST, PORT_LOST, Faults
from receiver.journal import Journal
from tests.receiver.attached import told
from tests.receiver.conftest import until


async def test_only_a_change_is_told_also_across_a_restart(journal: Journal, state_dir: Path) -> None:
    faults = Faults(journal, state_dir)
    for lost in (False, True, True, False, False, True):
        faults.tell("sg", LINK_LOST, lost, "why")
    faults.tell("other", LINK_LOST, False, "why")
    await until(lambda: journal.durable == 3)
    again = Faults(journal, state_dir)
    again.tell("sg", LINK_LOST, True, "why")
    again.tell("sg", LINK_LOST, False, "why")
    again.tell("sg", PORT_LOST, True, "why")
    await until(lambda: journal.durable == 5)
    assert [(code, qualifier) for _, code, qualifier in told(state_dir)] == [
        (LINK_LOST, "new"), (LINK_LOST, "restore"), (LINK_LOST, "new"), (LINK_LOST, "restore"), (PORT_LOST, "new")
    ]  # fmt: skip


async def test_what_the_journal_does_not_take_is_told_later(journal: Journal, state_dir: Path) -> None:
    faults = Faults(journal, state_dir)
    journal.held.add("test")
    faults.tell("sg", LINK_LOST, True, "why")
    assert journal.appended == 0
    journal.held.clear()
    faults.tell("sg", LINK_LOST, True, "why")
    assert journal.appended == 1


async def test_a_file_that_cannot_be_read_is_as_none(journal: Journal, state_dir: Path) -> None:
    (state_dir / "faults.json").write_text("[1")
    assert not Faults(journal, state_dir)._raised
