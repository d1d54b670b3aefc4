"""What is done to a ledger while it is written: old files are deleted, copies made, readers and writers go on beside it."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from receiver.ledger import Ledger, LedgerError, LedgerReader
from receiver.segment import path_of
from receiver.tombstone import tombstones
from tests.receiver.ledgers import SMALL, add, bodies, files, followed, killed, next_day, read, written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    with closing(Ledger(folder, SMALL)) as ledger:
        yield ledger


# ---- retention


def test_retention_deletes_whole_files_that_are_old_and_not_needed(folder: Path) -> None:
    written(folder, 3, 3, 3)
    now = datetime.now(UTC)
    with closing(Ledger(folder)) as ledger, closing(LedgerReader(folder)) as reader:
        assert reader.digest(3)
        digest = reader.digest(3)
        assert not ledger.drop_old(2, 99, now + timedelta(days=1))
        assert not ledger.drop_old(2, 3, now + timedelta(days=3))
        (stone,) = ledger.drop_old(2, 4, now + timedelta(days=3))
        assert (stone.id, stone.first, stone.last, stone.digest) == (ledger.id, 1, 3, digest and digest.hex())
        assert tombstones(folder) == {1: stone}
        assert (reader.first(), reader.rows(0, 1)[0][0], reader.rows(2, 1)[0][0], reader.digest(3)) == (4, 4, 4, None)
        assert [stone.first for stone in ledger.drop_old(2, 99, now + timedelta(days=3))] == [4]
        assert not ledger.drop_old(2, 99, now + timedelta(days=3))
        assert files(folder) == [7]
        add(ledger, 10)
    assert read(folder) == bodies(7, 8, 9, 10)
    Ledger(folder).close()


def test_a_retention_that_was_killed_half_way_leaves_what_verifies_and_is_ended_later(folder: Path) -> None:
    written(folder, 3, 3, 3)
    left, later = killed(folder), datetime.now(UTC) + timedelta(days=3)
    with closing(Ledger(folder)) as ledger:
        ledger.drop_old(2, 99, later)
    for half in ([1], [4], [1, 4]):
        for first in half:  # the tombstone is there, and so is the file
            path_of(folder, first).write_bytes(path_of(left, first).read_bytes())
        assert read(folder)[-3:] == bodies(7, 8, 9)
        with closing(Ledger(folder)) as ledger:
            assert ledger.drop_old(2, 99, later) == []
        assert files(folder) == [7]
    assert read(folder) == bodies(7, 8, 9)


def test_a_reader_whose_file_is_deleted_goes_on_behind_it(folder: Path) -> None:
    written(folder, 3, 3, 3)
    with closing(Ledger(folder)) as ledger, closing(LedgerReader(folder)) as reader:
        assert reader.rows(0, 1)[0][0] == 1
        verifying = reader.verify()
        assert next(verifying) == 3
        ledger.drop_old(2, 99, datetime.now(UTC) + timedelta(days=3))
        assert [position for position, _, _ in followed(reader, 1)] == [7, 8, 9]
        assert list(verifying)[-1] == 9


def test_a_file_that_says_nothing_of_itself_ends_retention_in_words(folder: Path) -> None:
    written(folder, 3, 3, 3)
    with closing(Ledger(folder)) as ledger:
        with closing(sqlite3.connect(path_of(folder, 4), isolation_level=None)) as database:
            database.execute("UPDATE segment SET created_at = 'once'")
        with pytest.raises(LedgerError, match=r"000000000004\.db: "):
            ledger.drop_old(1, 99, datetime.now(UTC) + timedelta(days=3))
    assert files(folder) == [1, 4, 7]


# ---- backup


def test_a_backup_is_a_ledger_and_the_next_one_copies_only_what_is_new(folder: Path, tmp_path: Path, ledger: Ledger) -> None:
    copy = tmp_path / "copy"
    for day in range(3):
        next_day(ledger)
        add(ledger, *range(3 * day + 1, 3 * day + 4))
    with closing(LedgerReader(folder)) as reader:
        assert [path.name for path in reader.backup(copy)] == ["000000000001.db", "000000000004.db", "000000000007.db"]
        assert reader.backup(copy) == []
        add(ledger, 10)
        assert [path.name for path in reader.backup(copy)] == ["000000000007.db"]
        next_day(ledger)
        add(ledger, 11)
        assert [path.name for path in reader.backup(copy)] == ["000000000010.db"] * 0 + ["000000000011.db"]
        ledger.drop_old(2, 99, datetime.now(UTC) + timedelta(days=3))
        assert reader.backup(copy) == []
        with pytest.raises(LedgerError, match="this is what is to be copied"):
            reader.backup(folder)
    assert read(copy)[-5:] == bodies(7, 8, 9, 10, 11)
    with closing(Ledger(copy)) as restored:
        assert restored._segment._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        add(restored, 12)
    assert read(copy)[-1:] == bodies(12)


def test_a_copy_that_lacks_what_came_while_it_was_made_is_made_again(folder: Path, tmp_path: Path, ledger: Ledger) -> None:
    """Although it is younger than its file: that one was closed while a reader held up its checkpoint."""
    add(ledger, 1, 2)
    with closing(LedgerReader(folder)) as reader:
        reader.backup(tmp_path / "copy")
        with closing(sqlite3.connect(path_of(folder, 1), isolation_level=None)) as held:
            held.execute("BEGIN")
            held.execute("SELECT * FROM entry").fetchone()
            add(ledger, 3)
            next_day(ledger)
            add(ledger, 4)
        os.utime(tmp_path / "copy" / "000000000001.db")
        reader.backup(tmp_path / "copy")
    assert read(tmp_path / "copy") == bodies(1, 2, 3, 4)


def test_writing_rolling_retention_verifying_copying_and_following_go_on_beside_each_other(
    folder: Path, tmp_path: Path, ledger: Ledger
) -> None:
    done, copy = threading.Event(), tmp_path / "copy"

    def write() -> None:
        try:
            for n in range(1, 26):
                next_day(ledger)
                add(ledger, *range(10))
                ledger.drop_old(1, 10 * n - 50, datetime.now(UTC) + timedelta(days=3))
        finally:
            done.set()

    def verify() -> None:
        with closing(LedgerReader(folder)) as reader:
            while not done.is_set():
                head = reader.head()
                assert list(reader.verify())[-1] >= head

    def back_up() -> None:
        with closing(LedgerReader(folder)) as reader:
            while not done.is_set():
                reader.backup(copy)
                assert read(copy)

    def follow() -> None:
        with closing(LedgerReader(folder)) as reader:
            positions = [0]
            while positions[-1] < 260:
                positions += [position for position, _, _ in reader.rows(positions[-1], 3)]
            assert all(after == before + 1 or after % 10 == 1 for before, after in pairwise(positions))

    with ThreadPoolExecutor(4) as threads:
        add(ledger, *range(10))
        for work in [threads.submit(work) for work in (write, verify, back_up, follow)]:
            work.result(60)
    assert len(files(folder)) < 10
    assert read(folder)
