"""One file of a ledger: made whole or not at all, written in one statement, read by others beside its writer and after him."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from receiver.ledger import Ledger
from receiver.segment import BODY_BYTES_MAX, Segment, SegmentReader, chain, create, first_digest, path_of, segments, settle
from tests.receiver.ledgers import SMALL, add, killed, names, next_day

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
START = b"\1" * 32

LOOK = """
import os
import sys
from pathlib import Path
from receiver.segment import SegmentReader
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
reader = SegmentReader(5, Path(sys.argv[1]))
print(reader.head(), reader.changed(), flush=True)
for line in sys.stdin:
    print(reader.head(), reader.changed(), flush=True)
"""
FOLLOW = """
import os
import sys
from contextlib import closing
from pathlib import Path
from receiver.ledger import LedgerReader
folder, last = Path(sys.argv[1]), int(sys.argv[2])
if sys.argv[3] == "may not write" and os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with closing(LedgerReader(folder)) as reader:
    position = 0
    while position < last:
        seen = reader.changed()
        while rows := reader.rows(position, 5):
            assert rows[0][0] == position + 1, (position, rows)
            position = rows[-1][0]
            print(position, flush=True)
        while position < last and reader.changed() == seen:
            pass
    assert list(reader.verify())[-1] == last
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return create(tmp_path, "main-0123abcd", 5, START, AT)


@pytest.fixture
def segment(path: Path) -> Iterator[Segment]:
    with closing(Segment(path)) as segment:
        yield segment


def insert(segment: Segment, *bodies: bytes) -> None:
    digest, rows = segment.digest, []
    for body in bodies:
        digest = chain(digest, body)
        rows.append((digest, body))
    segment.insert(rows)


# ---- the chain


def test_a_digest_is_over_the_one_before_and_the_body_and_with_a_key_nobody_else_makes_it() -> None:
    digest = first_digest("main-0123abcd")
    assert digest == sha256(b"arcgate journal main-0123abcd").digest()
    assert chain(digest, b"body") == sha256(digest + b"body").digest()
    assert len({chain(digest, b"body", key) for key in (b"", b"key", b"another")}) == 3


# ---- making one


def test_it_is_made_whole_with_what_it_is_chained_to(path: Path, tmp_path: Path) -> None:
    assert names(tmp_path) == ["000000000005.db"]
    assert segments(tmp_path) == [(5, path)]
    with closing(Segment(path)) as segment:
        assert (segment.id, segment.position, segment.digest, segment.created_at) == ("main-0123abcd", 4, START, AT)
        insert(segment, b"one")
        assert create(tmp_path, "another", 5, b"", AT) == path  # it is there
        insert(segment, b"two")
    with closing(SegmentReader(5, path)) as reader:
        assert [(position, body) for position, _, body in reader.rows(0, 9)] == [(5, b"one"), (6, b"two")]


def test_what_stood_in_its_place_is_not_taken_for_its_log(tmp_path: Path) -> None:
    """Somebody deletes a file, and not the log beside it."""
    with closing(Segment(create(tmp_path, "main-0123abcd", 5, START, AT))) as segment:
        insert(segment, b"one")
        log = path_of(tmp_path, 5).with_name("000000000005.db-wal").read_bytes()
    path_of(tmp_path, 5).unlink()
    path_of(tmp_path, 5).with_name("000000000005.db-wal").write_bytes(log)
    with closing(Segment(create(tmp_path, "main-0123abcd", 5, START, AT))) as segment:
        assert segment.position == 4


def test_only_what_is_named_as_one_is_one(tmp_path: Path, path: Path) -> None:
    for name in ("begun", "x.db", "000000000001.dropped", "000000000009.copying", "lock"):
        (tmp_path / name).touch()
    assert segments(tmp_path) == [(5, path)]


def test_times_are_utc(tmp_path: Path) -> None:
    here = AT.astimezone(timezone(timedelta(hours=14)))
    with closing(Segment(create(tmp_path, "main-0123abcd", 5, START, here))) as segment:
        assert segment.created_at.date() == AT.date()


# ---- writing


def test_bodies_of_any_length_and_any_bytes_are_kept(segment: Segment, path: Path) -> None:
    bodies = [b"", b"\0", b"\xff\xfe", "\N{SNOWMAN} é".encode(), b"x" * 5_000_000, b"last"]
    insert(segment, *bodies)
    insert(segment, b"another batch")
    with closing(SegmentReader(5, path)) as reader:
        assert [body for _, _, body in reader.rows(4, 9)] == [*bodies, b"another batch"]
        assert (reader.head(), segment.position, reader.rows(10, 1)[0][1]) == (11, 11, segment.digest)


def test_a_body_that_is_too_long_is_a_programmers_error(segment: Segment) -> None:
    with pytest.raises(AssertionError):
        insert(segment, b"x" * (BODY_BYTES_MAX + 1))
    assert segment.position == 4


def test_rows_are_written_all_or_none(segment: Segment, path: Path) -> None:
    insert(segment, b"one")
    segment._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        insert(segment, *[b"x" * 500] * 100)
    segment._database.execute("PRAGMA max_page_count = 10000")
    assert segment.position == 5
    insert(segment, b"two")
    with closing(SegmentReader(5, path)) as reader:
        assert [body for _, _, body in reader.rows(0, 9)] == [b"one", b"two"]


def test_it_knows_about_how_large_it_is(segment: Segment, path: Path) -> None:
    before = segment.bytes
    insert(segment, *[b"x" * 1000] * 100)
    assert segment.bytes == before + 100_000
    segment.close()
    with closing(Segment(path)) as again:
        assert again.bytes == path.stat().st_size > 100_000


def test_a_commit_is_flushed_to_the_disk_itself(segment: Segment) -> None:
    """No test can cut the power: 2 is FULL, which syncs the log at each commit."""
    assert segment._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert segment._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("statement", ["DELETE FROM segment", "UPDATE segment SET created_at = 'once'", "DROP TABLE segment"])
def test_one_that_says_nothing_of_itself_is_refused_and_let_go(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(statement)
    with pytest.raises((ValueError, sqlite3.OperationalError)):
        Segment(path)
    with closing(SegmentReader(5, path)) as reader, pytest.raises((ValueError, sqlite3.OperationalError)):
        reader.header()


# ---- closing


def test_at_rest_it_is_one_file(segment: Segment, path: Path, tmp_path: Path) -> None:
    insert(segment, b"one")
    left = killed(tmp_path)
    segment.close()
    assert names(tmp_path) == [path.name]
    settle(left / path.name)
    assert names(left) == [path.name]
    assert (left / path.name).read_bytes()[100:] == path.read_bytes()[100:]


def test_a_reader_that_stays_keeps_nobody_from_closing(segment: Segment, path: Path, tmp_path: Path) -> None:
    insert(segment, b"one")
    with closing(SegmentReader(5, path)) as reader:
        assert reader.head() == 5
        segment.close()
        assert path.with_name(f"{path.name}-wal").stat().st_size == 0
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copy(path, copy)
        with closing(SegmentReader(5, copy / path.name)) as other:
            assert (reader.head(), other.head()) == (5, 5)


# ---- reading, by others


def test_a_closed_one_is_read_without_leaving_anything(segment: Segment, path: Path, tmp_path: Path) -> None:
    insert(segment, b"one")
    segment.close()
    with closing(SegmentReader(5, path, closed=True)) as reader:
        assert reader.head() == 5
        path.unlink()
        assert reader.rows(0, 9)[0][2] == b"one"
    assert names(tmp_path) == []


def test_the_log_of_a_closed_one_is_read_where_it_was_left(segment: Segment, path: Path, tmp_path: Path) -> None:
    insert(segment, b"one")
    left = killed(tmp_path)
    with closing(SegmentReader(5, left / path.name, closed=True)) as reader:
        assert reader.rows(0, 9)[0][2] == b"one"


def test_changed_is_another_number_after_each_commit_and_for_each_reader(segment: Segment, path: Path) -> None:
    with closing(SegmentReader(5, path)) as one, closing(SegmentReader(5, path)) as other:
        seen = {one.changed(), other.changed()}
        for n in range(10):
            insert(segment, b"x")
            seen |= {one.changed(), one.changed(), other.changed()}
            assert len(seen) == 2 * n + 4
    with closing(SegmentReader(5, path)) as third:
        assert third.changed() not in seen


def open_to_all(folder: Path) -> None:
    """Let another user come as far as this folder."""
    for above in (folder, *folder.parents):
        if above.owner() == folder.owner() and ("pytest-" in str(above)):
            above.chmod(0o755)


@contextmanager
def elsewhere(script: str, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script in another process, that is ended with the test."""
    command = [sys.executable, "-c", script, *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[bytes]) -> list[int]:
    assert process.stdout
    return [int(word) for word in process.stdout.readline().split()]


def test_who_may_write_nothing_sees_what_a_writer_wrote_who_came_and_went(tmp_path: Path) -> None:
    path = create(tmp_path, "main-0123abcd", 5, START, AT)
    open_to_all(tmp_path)
    tmp_path.chmod(0o555)
    with elsewhere(LOOK, path) as other:
        assert other.stdin
        before = answer(other)
        assert (before[0], names(tmp_path)) == (4, [path.name])
        tmp_path.chmod(0o755)
        for n in range(5, 8):
            with closing(Segment(path)) as segment:
                insert(segment, b"one")
            other.stdin.write(b"again\n")
            after = answer(other)
            assert after[0] == n
            assert after[1] != before[1]
            before = after


@pytest.mark.parametrize("who", ["may write", "may not write"])
def test_another_process_follows_over_new_files_closings_and_openings(tmp_path: Path, who: str) -> None:
    folder, last, number = tmp_path / "ledger", 41, count(1)
    with closing(Ledger(folder, SMALL)) as ledger:
        add(ledger, next(number))
    open_to_all(folder)
    with elsewhere(FOLLOW, folder, last, who) as other:
        (reached,) = answer(other)
        while ledger.position < last:
            with closing(Ledger(folder, SMALL)) as ledger:
                add(ledger, next(number))
                next_day(ledger)
                add(ledger, next(number))
                while reached < ledger.position and (line := answer(other)):
                    (reached,) = line
        assert (reached, other.wait(20)) == (ledger.position, 0)
