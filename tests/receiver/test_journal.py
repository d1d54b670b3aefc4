"""The journal on disk: durable before it says so, in order, chained, readable beside the writer, and whole after any end."""

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from protocols.errors import FrameError, Reason
from protocols.event import Category
from receiver.journal import BATCH_REPORTS_MAX, Journal, JournalError, JournalReader
from receiver.segment import chain, first_digest
from tests.receiver.conftest import database, held, report, store, stored, until, write

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
        await store(journal)
    assert heads == list(range(1, 20))


async def test_on_durable_comes_in_the_order_of_the_appends_and_empty_ones_wait_for_what_is_before_them(
    journal: Journal, reader: JournalReader
) -> None:
    done: list[tuple[int, int]] = []

    def note(number: int) -> None:
        done.append((number, reader.head()))

    reads = [0, 3, 0, 0, 1, BATCH_REPORTS_MAX + 1, 0, 2, 0]
    for number, count in enumerate(reads):
        journal.append([report(n) for n in range(count)], partial(note, number))
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
    told: list[bytes] = []

    def note(first: int, bodies: Sequence[bytes]) -> None:
        assert first == len(told) + 1
        told.extend(bodies)

    journal = Journal(state_dir, note)
    for count in (1, 40, BATCH_REPORTS_MAX * 2):
        await store(journal, *map(report, range(count)))
    await journal.close()
    database_rows = sqlite3.connect(database(state_dir)).execute("SELECT body FROM entry ORDER BY position")
    assert told == [body.encode() for (body,) in database_rows]


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
        body = reader.rows(position - 1, 1)[0][2]
        digest = chain(digest, body)
        assert (entry.position, entry.digest) == (position, digest.hex())
    reader.close()


async def test_a_commit_is_flushed_to_the_disk_itself(journal: Journal) -> None:
    """No test can cut the power: 2 is FULL, which syncs the log at each commit."""
    assert journal._ledger._segment._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._ledger._segment._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_close_writes_what_was_taken(state_dir: Path) -> None:
    journal = Journal(state_dir)
    done: list[int] = []
    for n in range(3000):
        journal.append([report(n)], partial(done.append, n))
    await journal.close()
    assert done == list(range(3000))
    assert stored(state_dir) == list(map(str, range(3000)))


async def test_a_second_writer_is_refused_and_the_first_goes_on(state_dir: Path, journal: Journal) -> None:
    with pytest.raises(JournalError, match=r"journal/lock: another arcgate writes it: stop it, or"):
        Journal(state_dir)
    await store(journal, report("still there"))
    assert stored(state_dir) == ["still there"]


async def test_a_folder_that_cannot_be_one_is_refused_in_words(state_dir: Path, journal: Journal) -> None:
    assert journal.writable
    with pytest.raises(JournalError, match="needs a folder that it may write"):
        Journal(database(state_dir))


def test_a_journal_that_was_never_begun_is_refused_in_words(state_dir: Path) -> None:
    with pytest.raises(JournalError, match="there is none yet: `arcgate run` makes it"):
        JournalReader(state_dir)


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
        (["UPDATE entry SET digest = substr(digest, 1, 31) || X'00' WHERE position = 4"], 4, "altered"),
        (["UPDATE entry SET digest = hex(digest) WHERE position = 4"], 4, "altered"),
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
        (["UPDATE segment SET id = 'another'"], 1, "rewritten"),
        (["UPDATE segment SET previous = x'00'"], 1, "rewritten"),
    ],
)
async def test_verify_names_the_first_entry_that_was_altered(
    state_dir: Path, statements: list[str], position: int, message: str
) -> None:
    await write(state_dir, *range(10))
    change(state_dir, *statements)
    error = altered(state_dir)
    assert error.position == position
    assert message in str(error)


@pytest.mark.parametrize("body", ["'no json'", "CAST(x'7B22FF22' AS TEXT)", "replace(body, 'frame', 'fram')"])
async def test_an_entry_that_cannot_be_read_is_raised_and_holds_up_nothing(state_dir: Path, body: str) -> None:
    await write(state_dir, 1, 2, 3)
    change(state_dir, f"UPDATE entry SET body = {body} WHERE position = 2")  # noqa: S608 - the test's own words
    reader = JournalReader(state_dir)
    first, altered, last = reader.read(0, 10)
    assert (first.position, altered.position, last.position) == (1, 2, 3)
    (event,) = altered.report.events
    assert event.category is Category.UNKNOWN
    assert "Entry 2 of the journal cannot be read" in (event.text or "")
    assert altered.report.received_at == first.report.received_at
    reader.close()


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM segment", "UPDATE segment SET id = X'00'", "UPDATE entry SET digest = 'no digest'", "DROP TABLE entry"],
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
