"""The journal on disk: durable before it says so, in order, chained, readable beside the writer, and whole after any end."""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from protocols.errors import FrameError, Reason
from receiver.journal import BATCH_REPORTS_MAX, Journal, JournalError, JournalReader, chain, first_digest
from tests.receiver.conftest import WAIT_S_MAX, database, held, report, store, stored, until, write

ROOT = Path(__file__).parents[2]


def change(state_dir: Path, *statements: str) -> None:
    """Alter the file behind the journal's back."""
    with sqlite3.connect(database(state_dir)) as other:
        for statement in statements:
            other.execute(statement)
    other.close()


def altered(state_dir: Path) -> JournalError:
    """What verify says of a journal that is not what was written."""
    reader = JournalReader(state_dir)
    try:
        with pytest.raises(JournalError) as told:
            list(reader.verify())
    finally:
        reader.close()
    return told.value


@pytest.fixture
def reader(state_dir: Path, journal: Journal) -> Iterator[JournalReader]:
    """A second connection, beside the writer."""
    assert journal.writable
    reader = JournalReader(state_dir)
    yield reader
    reader.close()


# ---- append


async def test_on_durable_comes_after_the_commit_can_be_read(journal: Journal, reader: JournalReader) -> None:
    heads: list[int] = []
    for n in range(1, 20):
        journal.append([report(n)], lambda: heads.append(reader.head()))
        await until(lambda n=n: len(heads) == n)  # type: ignore[misc]
    assert heads == list(range(1, 20))


async def test_on_durable_comes_in_the_order_of_the_appends_and_empty_ones_wait_for_what_is_before_them(
    journal: Journal, reader: JournalReader
) -> None:
    done: list[tuple[int, int]] = []
    reads = [0, 3, 0, 0, 1, BATCH_REPORTS_MAX + 1, 0, 2, 0]
    for number, count in enumerate(reads):
        journal.append([report(n) for n in range(count)], lambda number=number: done.append((number, reader.head())))  # type: ignore[misc]
        if number in {1, 4, 6}:
            await asyncio.sleep(0)
    await until(lambda: len(done) == len(reads))
    assert [number for number, _ in done] == list(range(len(reads)))
    assert all(head >= sum(reads[: number + 1]) for number, head in done)


async def test_an_empty_append_waits_for_the_disk(journal: Journal) -> None:
    done: list[str] = []
    with held(journal):
        journal.append([report()], lambda: done.append("report"))
        await asyncio.sleep(0)
        journal.append([], lambda: done.append("empty"))
        await asyncio.sleep(0.05)
        assert done == []
    await until(lambda: done == ["report", "empty"])
    journal.append([], lambda: done.append("nothing before it"))
    await until(lambda: len(done) == 3)


async def test_what_one_turn_of_the_loop_appends_is_one_commit(journal: Journal, reader: JournalReader) -> None:
    commits: list[int] = []
    journal._on_commit = lambda _first, bodies: commits.append(len(bodies))
    before = reader.changed()
    assert reader.changed() == before
    await store(journal, *map(report, range(500)))
    after = reader.changed()
    assert after != before
    assert reader.changed() == after
    assert (commits, reader.head()) == ([500], 500)


async def test_on_commit_tells_position_and_body_of_all_once(state_dir: Path) -> None:
    told: list[str] = []

    def note(first: int, bodies: list[str]) -> None:
        assert first == len(told) + 1
        told.extend(bodies)

    journal = Journal(state_dir, note)
    for count in (1, 40, BATCH_REPORTS_MAX * 2):
        await store(journal, *map(report, range(count)))
    await journal.close()
    database_rows = sqlite3.connect(database(state_dir)).execute("SELECT body FROM entry ORDER BY position")
    assert told == [body for (body,) in database_rows]


async def test_an_entry_is_read_as_it_was_appended(journal: Journal, reader: JournalReader) -> None:
    every_byte = bytes(range(256)).decode("latin-1")
    reports = [report(every_byte), report('"}]}', FrameError(Reason.LENGTH, "é \N{SNOWMAN} \x00")), report("")]
    await store(journal, *reports)
    assert [entry.report for entry in reader.read(0, 10)] == reports
    assert [entry.position for entry in reader.read(1, 1)] == [2]
    assert reader.read(3, 10) == []


async def test_positions_and_the_chain_go_on_over_a_reopening(state_dir: Path) -> None:
    ids = set()
    for start in range(0, 30, 10):
        journal = Journal(state_dir)
        ids.add(journal.id)
        assert (journal.durable, journal.appended) == (start, start)
        await store(journal, *map(report, range(start, start + 10)))
        assert (journal.durable, journal.appended) == (start + 10, start + 10)
        await journal.close()
    assert stored(state_dir) == list(map(str, range(30)))
    reader = JournalReader(state_dir)
    assert ids == {reader.id}
    digest = first_digest(reader.id)
    for position, entry in enumerate(reader.read(0, 100), 1):
        (body,) = reader._rows("SELECT CAST(body AS BLOB) FROM entry WHERE position = ?", position)[0]
        digest = chain(digest, body)
        assert (entry.position, entry.digest) == (position, digest.hex())
    reader.close()


async def test_close_writes_what_was_taken(state_dir: Path) -> None:
    journal = Journal(state_dir)
    done: list[int] = []
    for n in range(3000):
        journal.append([report(n)], lambda n=n: done.append(n))  # type: ignore[misc]
    await journal.close()
    assert done == list(range(3000))
    assert stored(state_dir) == list(map(str, range(3000)))


async def test_a_second_writer_is_refused_and_the_first_goes_on(state_dir: Path, journal: Journal) -> None:
    with pytest.raises(JournalError, match=r"journal/lock: another arcgate writes this journal: stop it, or"):
        Journal(state_dir)
    await store(journal, report("still there"))
    assert stored(state_dir) == ["still there"]


async def test_a_folder_that_cannot_be_one_is_refused_in_words(state_dir: Path, journal: Journal) -> None:
    assert journal.writable
    with pytest.raises(JournalError, match="needs a folder it may write"):
        Journal(database(state_dir))


def test_a_journal_that_was_never_begun_is_refused_in_words(state_dir: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal yet; `arcgate receive` or `arcgate run` makes it"):
        JournalReader(state_dir)


# ---- reading beside the writer

AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from receiver.journal import JournalReader
state_dir = Path(sys.argv[1])
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
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
        if folder.owner() == tmp_path.owner() and folder.name.startswith("pytest-"):
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
    versions = {other.first[3], other.again()[3]}
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
        reader._database.execute("DELETE FROM entry")
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


# ---- verify


async def test_verify_says_how_far_it_is_and_ends_with_the_head(state_dir: Path) -> None:
    await write(state_dir)
    reader = JournalReader(state_dir)
    assert (list(reader.verify()), reader.head()) == ([0], 0)
    reader.close()
    await write(state_dir, *range(12_000))
    reader = JournalReader(state_dir)
    assert list(reader.verify()) == [5000, 10_000, 12_000, 12_000]
    reader.close()


@pytest.mark.parametrize(
    ("statements", "position", "message"),
    [
        (["UPDATE entry SET body = replace(body, 'BA', 'BB') WHERE position = 4"], 4, "altered"),
        (["UPDATE entry SET body = CAST(CAST(body AS BLOB) || X'FF' AS TEXT) WHERE position = 4"], 4, "altered"),
        (["UPDATE entry SET body = '' WHERE position = 4"], 4, "altered"),
        (["UPDATE entry SET digest = replace(digest, substr(digest, 9, 1), 'g') WHERE position = 4"], 4, "altered"),
        (["UPDATE entry SET digest = upper(digest) WHERE position = 4"], 4, "altered"),
        (["UPDATE entry SET digest = (SELECT digest FROM entry WHERE position = 3) WHERE position = 4"], 4, "altered"),
        (["DELETE FROM entry WHERE position = 4"], 4, "missing: entry 5 follows 3"),
        (["DELETE FROM entry WHERE position < 4"], 1, "missing: entry 4 follows 0"),
        (["DELETE FROM entry WHERE position = 4", "UPDATE entry SET position = position - 1 WHERE position > 4"], 4, "altered"),
        (
            [
                "UPDATE entry SET position = -1 WHERE position = 4",
                "UPDATE entry SET position = 4 WHERE position = 5",
                "UPDATE entry SET position = 5 WHERE position = -1",
            ],
            4,
            "altered",
        ),
        (["INSERT INTO entry SELECT 11, digest, body FROM entry WHERE position = 10"], 11, "altered"),
        (["INSERT INTO entry SELECT 20, digest, body FROM entry WHERE position = 10"], 11, "missing"),
        (["UPDATE journal SET id = 'another'"], 1, "altered"),
    ],
)
async def test_verify_names_the_first_entry_that_was_altered(
    state_dir: Path, statements: list[str], position: int, message: str
) -> None:
    await write(state_dir, *range(10))
    change(state_dir, *statements)
    error = altered(state_dir)
    assert error.position == position
    assert f"entry {position}" in str(error)
    assert message in str(error)


async def test_an_entry_that_is_no_json_is_told_and_not_raised_raw(state_dir: Path) -> None:
    await write(state_dir, 1, 2)
    change(state_dir, "UPDATE entry SET body = 'no json' WHERE position = 2")
    reader = JournalReader(state_dir)
    assert len(reader.read(0, 1)) == 1
    with pytest.raises(JournalError, match="run `arcgate journal verify`"):
        reader.read(0, 10)
    reader.close()


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM journal", "UPDATE journal SET id = X'00'", "UPDATE entry SET digest = 'no digest'", "DROP TABLE entry"],
)
async def test_a_writer_refuses_a_journal_it_cannot_continue_and_leaves_its_lock(state_dir: Path, statement: str) -> None:
    await write(state_dir, 1)
    change(state_dir, statement)
    for _ in range(2):
        with pytest.raises(JournalError, match="a damaged one is moved away and kept"):
            Journal(state_dir)
    shutil.move(state_dir / "journal", state_dir / "damaged")
    await write(state_dir, "a new one")
    assert stored(state_dir) == ["a new one"]


async def test_a_damaged_file_is_a_journal_error_whatever_bytes_were_flipped(state_dir: Path) -> None:
    """And where it is none, the bytes were of no account: every entry is there."""
    frames = [f"{n} {'x' * 300}" for n in range(200)]
    await write(state_dir, *frames)
    whole = database(state_dir).read_bytes()
    chance = random.Random(8)  # noqa: S311 - no secret
    named = 0
    heads = [*range(16, 96, 8), *range(4096 * 2, 4096 * 2 + 16), *range(4096 * 3 - 16, 4096 * 3)]
    for place in [*heads, *(chance.randrange(len(whole)) for _ in range(150))]:
        data = bytearray(whole)
        data[place] ^= 1 << chance.randrange(8)
        database(state_dir).write_bytes(data)
        try:
            assert len(stored(state_dir)) <= len(frames)
        except JournalError as error:
            named += bool(error.position)
        if place in heads[::4]:
            with suppress(JournalError):
                await Journal(state_dir).close()
    assert named > 100


async def test_a_page_that_cannot_be_read_is_named_by_its_first_entry(state_dir: Path) -> None:
    await write(state_dir, *["x" * 3000] * 100)
    data = bytearray(database(state_dir).read_bytes())
    page = data.rindex(b"x" * 1000) // 4096 * 4096
    data[page : page + 4096] = b"\xff" * 4096
    database(state_dir).write_bytes(data)
    error = altered(state_dir)
    assert error.position is not None
    assert 90 < error.position <= 100
    assert f"entry {error.position} cannot be read" in str(error)
