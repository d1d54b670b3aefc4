"""The journal against a list, under any order of appends, ends and openings."""

import asyncio
import shutil
import tempfile
from functools import partial
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from receiver.journal import Journal, JournalReader
from tests.receiver.conftest import report, stored, until


class Machine(RuleBasedStateMachine):
    """Appends, closings and reopenings in any order, against a list."""

    home = Path()

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.state_dir = Path(tempfile.mkdtemp(dir=self.home))
        self.model: list[str] = []
        self.durable = 0
        self.journal: Journal | None = None
        self.open()
        self.reader = JournalReader(self.state_dir)

    def teardown(self) -> None:
        self.close()
        assert self.durable == len(self.model)
        assert stored(self.state_dir) == self.model
        self.reader.close()
        self.runner.close()

    @precondition(lambda self: self.journal is None)
    @rule()
    def open(self) -> None:
        async def opened() -> Journal:
            return Journal(self.state_dir)

        self.journal = self.runner.run(opened())
        assert self.journal.durable == len(self.model)

    @precondition(lambda self: self.journal)
    @rule(sizes=st.lists(st.integers(0, 40), max_size=6))
    def append(self, sizes: list[int]) -> None:
        async def appended(journal: Journal) -> None:
            for size in sizes:
                frames = [f"{len(self.model) + n}" for n in range(size)]
                self.model += frames
                journal.append(list(map(report, frames)), partial(self.reach, len(self.model)))

        assert self.journal
        self.runner.run(appended(self.journal))

    def reach(self, position: int) -> None:
        """Called when it is durable."""
        assert self.durable <= position
        self.durable = position

    @precondition(lambda self: self.journal)
    @rule()
    def settle(self) -> None:
        async def wait() -> None:
            await until(lambda: self.durable == len(self.model))

        self.runner.run(wait())
        assert self.reader.head() == len(self.model)

    @precondition(lambda self: self.journal)
    @rule()
    def close(self) -> None:
        if self.journal:
            self.runner.run(self.journal.close())
            self.journal = None
            assert self.durable == len(self.model)

    @precondition(lambda self: self.journal)
    @rule()
    def kill(self) -> None:
        """What lies on the disk now is what a killed process would have left."""
        left = self.state_dir.with_suffix(".left")
        shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(self.state_dir, left)
        reader = JournalReader(left)
        frames = [entry.report.frame for entry in reader.read(0, len(self.model) + 1)]
        reader.close()
        assert len(frames) >= self.durable
        assert frames == self.model[: len(frames)]

    @rule(after=st.integers(0, 100), limit=st.integers(1, 50))
    def read(self, after: int, limit: int) -> None:
        entries = self.reader.read(after, limit)
        assert [entry.report.frame for entry in entries] == self.model[after : after + limit][: len(entries)]

    @invariant()
    def what_was_durable_can_be_read(self) -> None:
        assert self.durable <= self.reader.head() <= len(self.model)


def test_the_journal_is_a_list_that_survives(tmp_path: Path) -> None:
    Machine.home = tmp_path
    run_state_machine_as_test(Machine, settings=settings(max_examples=30, stateful_step_count=10, deadline=None))
