"""Reading a journal beside its writer, after it, and without any right to write."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.journal import Journal, JournalReader
from tests.receiver.conftest import WAIT_S_MAX, database, report, store, stored, write

ROOT = Path(__file__).parents[2]

AS_ANOTHER_USER = """
import os
import sys
from pathlib import Path
from receiver.journal import JournalReader
state_dir = Path(sys.argv[1])
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
def read(reader):
    print(reader.head(), list(reader.verify())[-1], len(reader.read(0, 1000)), reader.changed(), flush=True)
reader = JournalReader(state_dir)
read(reader)
for line in sys.stdin:
    read(reader)
"""


@pytest.fixture
def shared_dir(tmp_path: Path) -> Iterator[Path]:
    """A state folder that another user may read, but not write."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == tmp_path.owner() and folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o755)
    state_dir = tmp_path / "state"
    (state_dir / "journal").mkdir(parents=True)
    tmp_path.chmod(0o755)
    yield state_dir
    (state_dir / "journal").chmod(0o755)


class OtherReader:
    """A reader in a process of its own, that may write nothing in the folder."""

    def __init__(self, state_dir: Path) -> None:
        (state_dir / "journal").chmod(0o555)
        self.process = subprocess.Popen(
            [sys.executable, "-c", AS_ANOTHER_USER, state_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, bufsize=0
        )
        (state_dir / "journal").chmod(0o755 if os.getuid() else 0o555)
        self.first = self.line()

    def line(self) -> list[int]:
        assert self.process.stdout
        return [int(word) for word in self.process.stdout.readline().split()]

    def again(self) -> list[int]:
        assert self.process.stdin
        self.process.stdin.write(b"\n")
        return self.line()

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        assert self.process.wait(WAIT_S_MAX) == 0
        self.process.stdout.close()


async def test_a_reader_that_may_write_nothing_reads_a_closed_journal_and_follows_when_it_is_opened_again(
    shared_dir: Path,
) -> None:
    await write(shared_dir, 1, 2)
    assert sorted(path.name for path in (shared_dir / "journal").iterdir()) == ["000000000001.db", "lock"]
    other = OtherReader(shared_dir)
    assert other.first[:3] == [2, 2, 2]
    (shared_dir / "journal").chmod(0o755)
    journal = Journal(shared_dir)
    versions = {other.first[3]}
    for n in (3, 4):
        await store(journal, report(n))
        head, verified, count, version = other.again()
        assert [head, verified, count] == [n, n, n]
        assert version not in versions
        versions.add(version)
    await journal.close()
    assert other.again()[:3] == [4, 4, 4]
    other.close()


async def test_a_reader_that_may_write_nothing_reads_while_written_and_what_a_killed_writer_left(shared_dir: Path) -> None:
    journal = Journal(shared_dir)
    await store(journal, report(1))
    other = OtherReader(shared_dir)
    assert other.first[:3] == [1, 1, 1]
    other.close()
    left = shared_dir.parent / "left"
    shutil.copytree(shared_dir, left)
    await journal.close()
    other = OtherReader(left)
    assert other.first[:3] == [1, 1, 1]
    other.close()


async def test_a_reader_never_moves_the_log_into_the_file(state_dir: Path, journal: Journal) -> None:
    before = database(state_dir).read_bytes()
    await store(journal, report("in the log alone"))
    reader = JournalReader(state_dir)
    assert [entry.report.frame for entry in reader.read(0, 10)] == ["in the log alone"]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._segment(1)._database.execute("DELETE FROM entry")
    reader.close()
    assert stored(state_dir) == ["in the log alone"]
    assert database(state_dir).read_bytes() == before


async def test_a_reader_that_stays_holds_up_no_commit(journal: Journal, state_dir: Path) -> None:
    await store(journal, report())
    other = sqlite3.connect(database(state_dir), isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM entry").fetchone()
    for _ in range(30):
        await store(journal, *[report("x" * 4000)] * 100)
    assert other.execute("SELECT count(*) FROM entry").fetchone() == (1,)
    other.close()
    assert len(stored(state_dir)) == 3001
