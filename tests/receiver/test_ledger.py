"""A ledger on disk: files that follow each other without a gap, whatever ends the writer, and whoever reads meanwhile."""

import os
import sqlite3
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from receiver import ledger as ledger_module
from receiver.config import Guarantees
from receiver.ledger import Ledger, LedgerError, LedgerReader
from receiver.segment import create, path_of
from tests.receiver.ledgers import SMALL, add, bodies, files, followed, killed, names, next_day, read, written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    with closing(Ledger(folder, SMALL)) as ledger:
        yield ledger


@pytest.fixture
def reader(folder: Path, ledger: Ledger) -> Iterator[LedgerReader]:
    """Beside the writer."""
    assert ledger.id
    with closing(LedgerReader(folder)) as reader:
        yield reader


# ---- writing, and beginning a new file


def test_a_new_ledger_has_its_nodes_name_and_is_empty(folder: Path) -> None:
    with closing(Ledger(folder, Guarantees(node="lyon-2"))) as ledger, closing(LedgerReader(folder)) as reader:
        assert ledger.id == reader.id
        assert ledger.id.startswith("lyon-2-")
        assert (ledger.position, reader.head(), reader.first(), reader.rows(0, 9), reader.digest(1)) == (0, 0, 1, [], None)
        assert list(reader.verify()) == [0]


def test_a_new_file_begins_where_one_is_too_large_and_on_a_new_day(folder: Path, ledger: Ledger) -> None:
    add(ledger, *range(1, 71), size=1000)
    assert files(folder) == [1]
    add(ledger, 71)
    next_day(ledger)
    add(ledger, 72, 73)
    assert files(folder) == [1, 71, 72]
    assert [body.split()[0] for body in read(folder)] == bodies(*range(1, 74))


def test_a_file_that_is_at_rest_is_one_file(folder: Path) -> None:
    written(folder, 3, 3, 3)
    assert read(folder)
    rest = [f"{first:012}.db" for first in (1, 4, 7)]
    assert [name for name in names(folder) if not name.startswith(f"{7:012}.db-")] == [*rest, "lock"]


def test_positions_id_and_chain_go_on_over_reopenings(folder: Path) -> None:
    ids = {written(folder, 2, 1) for _ in range(3)}
    assert len(ids) == 1
    assert read(folder) == bodies(*range(1, 10))


def test_what_was_chained_and_could_not_be_written_is_forgotten(ledger: Ledger, folder: Path) -> None:
    add(ledger, 1)
    ledger.chain(bodies("lost", "lost too"))
    ledger.rewind()
    add(ledger, 2)
    assert read(folder) == bodies(1, 2)


def test_only_one_process_writes(ledger: Ledger, folder: Path) -> None:
    with pytest.raises(LedgerError, match="another arcgate writes it"):
        Ledger(folder)
    add(ledger, 1)


def test_another_key_is_refused_at_the_start_and_one_altered_entry_is_not_taken_for_it(folder: Path) -> None:
    written(folder, 3, 3, key=b"key")
    for key in (b"", b"another"):
        with pytest.raises(LedgerError, match="digest_key is not the one with which it was written: put the old one back"):
            Ledger(folder, key=key)
    for position in (4, 6):
        left = killed(folder)
        with closing(sqlite3.connect(path_of(left, 4), isolation_level=None)) as database:
            database.execute("UPDATE entry SET body = 'altered' WHERE position = ?", (position,))
        Ledger(left, key=b"key").close()
    assert read(folder, b"key") == bodies(*range(1, 7))


def test_a_file_that_was_misnamed_is_refused(folder: Path) -> None:
    written(folder, 3, 3)
    path_of(folder, 4).rename(path_of(folder, 9))
    with pytest.raises(LedgerError, match=r"000000000009\.db is not its name: it begins with entry 4"):
        Ledger(folder)


def test_where_only_tombstones_are_left_nothing_is_begun_anew(folder: Path) -> None:
    written(folder, 3, 3)
    with closing(Ledger(folder)) as ledger:
        ledger.drop_old(1, 99, datetime.now(UTC) + timedelta(days=3))
    path_of(folder, 4).unlink()
    for _ in range(2):
        with pytest.raises(LedgerError, match="entries up to 3 were here, and the files behind them are missing"):
            Ledger(folder)


# ---- ends


@pytest.mark.parametrize("left", [["begun"], ["begun", "begun-wal", "begun-journal"], ["000000000001.begun"]])
def test_what_a_killed_writer_had_begun_is_of_no_account(folder: Path, left: list[str]) -> None:
    written(folder, 3)
    for name in left:
        (folder / name).write_bytes(b"torn")
    written(folder, 2)
    assert files(folder) == [1, 4]
    assert not list(folder.glob("begun*"))
    assert read(folder) == bodies(*range(1, 6))


def test_killed_between_a_new_file_and_its_first_entry_it_goes_on_there(folder: Path) -> None:
    written(folder, 3)
    with closing(Ledger(folder)) as ledger:
        create(folder, ledger.id, 4, ledger.digest, datetime.now(UTC))
    assert read(folder) == bodies(1, 2, 3)
    with closing(Ledger(folder)) as ledger, closing(LedgerReader(folder)) as reader:
        assert (ledger.position, reader.head(), reader.rows(3, 9), reader.digest(3)) == (3, 3, [], ledger.digest)
        add(ledger, 4)
        assert reader.rows(3, 9) == [(4, ledger.digest, b'"4"')]
    assert files(folder) == [1, 4]
    assert read(folder) == bodies(1, 2, 3, 4)


def test_a_new_file_that_could_not_be_opened_is_the_one_to_go_on_in(
    folder: Path, ledger: Ledger, reader: LedgerReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither may it be made anew under its readers, nor may its first position be written into the file before it."""
    add(ledger, 1, 2)
    next_day(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "Segment", no_room)
        with pytest.raises(OSError, match="no room"):
            add(ledger, 3)
    ledger.rewind()
    inode = path_of(folder, 3).stat().st_ino
    assert (reader.head(), reader.rows(2, 9)) == (2, [])
    ledger._segment.created_at = datetime.now(UTC)  # and now no new file is due: the clock was set back
    add(ledger, 3)
    assert path_of(folder, 3).stat().st_ino == inode
    assert [position for position, _, _ in reader.rows(2, 9)] == [3]
    assert read(folder) == bodies(1, 2, 3)


def no_room(path: Path) -> None:
    raise OSError(f"no room for {path}")


def test_the_log_that_a_writer_left_who_was_killed_while_he_began_a_file_comes_to_rest(folder: Path) -> None:
    with closing(Ledger(folder)) as ledger:
        add(ledger, 1, 2)
        create(folder, ledger.id, 3, ledger.digest, datetime.now(UTC))
        left = killed(folder)
    assert path_of(left, 1).with_name("000000000001.db-wal").stat().st_size
    Ledger(left).close()
    assert names(left) == ["000000000001.db", "000000000003.db", "lock"]
    assert read(left) == bodies(1, 2)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount one of 32 MB; False where this user may not."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=32000000", "tmpfs", str(folder)]
    mounted = os.getuid() == 0 and subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("free", [0, 20_000, 50_000, 1_000_000, 6_000_000, 9_000_000])
def test_a_new_file_is_begun_with_little_room_or_nothing_is_taken_until_there_is_some(tmp_path: Path, free: int) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk) as mounted, closing(Ledger(disk / "ledger", SMALL)) as ledger:
        add(ledger, *range(1, 71), size=1000)
        place, ballast, expected, taken = os.statvfs(disk), disk / "ballast", 70, 0
        if mounted:  # else the disk has all the room in the world, and everything is taken
            ballast.write_bytes(b"\0" * (place.f_bavail * place.f_frsize - free))
        for _ in range(10):
            try:
                add(ledger, expected + 1)
            except (sqlite3.Error, OSError) as error:
                assert mounted
                assert getattr(error, "sqlite_errorname", "SQLITE_FULL") in {"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"}  # noqa: PT017 - either is right
                ledger.rewind()
            else:
                expected, taken = expected + 1, taken + 1
        assert taken == (10 if free >= 1_000_000 or not mounted else 0)
        now = os.statvfs(disk)
        assert now.f_bavail * now.f_frsize >= (0.9 * free if taken else 0)  # what is free is left free
        left = tmp_path / "left"
        subprocess.run(["cp", "-r", disk / "ledger", left], check=True)
        assert len(read(left)) == expected
        ballast.unlink(missing_ok=True)
        add(ledger, expected + 1)
        assert len(read(disk / "ledger")) == expected + 1


# ---- reading


def test_reading_from_any_position_gives_what_is_behind_it(folder: Path) -> None:
    written(folder, 3, 1, 5)
    with closing(LedgerReader(folder)) as reader:
        for after in range(12):
            assert [position for position, _, _ in followed(reader, after)] == list(range(after + 1, 10))
        for first, limit, expected in ((0, 9, [1, 2, 3]), (2, 9, [3]), (3, 9, [4]), (4, 2, [5, 6]), (8, 1, [9]), (9, 1, [])):
            assert [position for position, _, _ in reader.rows(first, limit)] == expected
        digests = {position: digest for position, digest, _ in followed(reader)}
        assert {n: reader.digest(n) for n in range(-1, 12)} == {-1: None, 0: None, **digests, 10: None, 11: None}


def test_a_reader_at_the_end_of_a_file_goes_on_in_the_next_at_once(ledger: Ledger, reader: LedgerReader) -> None:
    """Also where file and folder change within one tick of the system's clock."""
    for n in range(1, 31):
        assert (reader.head(), reader.rows(n - 1, 9)) == (n - 1, [])
        seen = reader.changed()
        next_day(ledger)
        add(ledger, n)
        assert reader.changed() != seen
        assert [position for position, _, _ in reader.rows(n - 1, 9)] == [n]
        assert (reader.head(), reader.digest(n)) == (n, ledger.digest)


def test_changed_is_another_number_also_where_older_files_are_read_meanwhile(
    folder: Path, ledger: Ledger, reader: LedgerReader
) -> None:
    add(ledger, 1)
    next_day(ledger)
    for n in range(2, 20):
        add(ledger, n)
        seen = reader.changed()
        assert reader.changed() == seen
        assert reader.digest(1)  # another file: the last one is let go
        add(ledger, n)
        assert reader.changed() != seen
    assert len(read(folder)) == 37


def test_a_folder_that_is_taken_away_is_told_whatever_is_asked(folder: Path, ledger: Ledger, reader: LedgerReader) -> None:
    add(ledger, 1)
    folder.rename(folder.with_name("away"))
    asked: list[Callable[[], object]] = [
        *(reader.head, reader.first, reader.changed, reader.check_place),
        *(partial(reader.rows, 0, 1), partial(reader.digest, 1), lambda: list(reader.verify())),
    ]
    for ask in asked:
        with pytest.raises(LedgerError, match="it was taken away"):
            ask()
    folder.with_name("away").rename(folder)
    assert reader.head() == 1


def test_another_ledger_in_the_place_of_this_one_is_told(folder: Path, tmp_path: Path) -> None:
    written(folder, 3, 3)
    with closing(LedgerReader(folder)) as reader:
        reader.check_place()
        with closing(Ledger(folder)) as ledger:
            ledger.drop_old(1, 99, datetime.now(UTC) + timedelta(days=3))
        reader.check_place()  # retention is no other ledger
        assert (reader.first(), [position for position, _, _ in followed(reader)]) == (4, [4, 5, 6])
        folder.rename(tmp_path / "away")
        written(folder, 3, 3, 3)
        for file in ("000000000001.db", "000000000004.db"):
            (folder / file).unlink()
        with pytest.raises(LedgerError, match="another one was put in its place"):
            reader.check_place()


def test_several_threads_may_use_one_reader(ledger: Ledger, reader: LedgerReader) -> None:
    for n in range(1, 10):
        next_day(ledger)
        add(ledger, *[n] * 20)

    def work(seed: int) -> None:
        for n in range(60):
            assert reader.head() == 180
            assert reader.rows((n * 37 + seed) % 180, 5)
            assert reader.changed()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))


def test_who_closes_waits_for_a_thread_that_reads(ledger: Ledger, reader: LedgerReader) -> None:
    """SQLite falls over, and the process with it, where a file is closed under a statement."""
    add(ledger, 1, 2, 3)
    with ThreadPoolExecutor() as pool:
        with reader._at(1) as segment:
            closed = pool.submit(reader.close)
            with pytest.raises(TimeoutError):
                closed.result(0.1)
            assert segment.head() == 3
        closed.result(5)


def test_reading_and_verifying_hold_no_more_of_a_large_ledger_than_of_a_small_one(folder: Path, ledger: Ledger) -> None:
    peaks = []
    for count in (10_000, 50_000):
        while ledger.position < count:
            add(ledger, *range(2000), size=300)
        with closing(LedgerReader(folder)) as reader:
            tracemalloc.start()
            try:
                assert sum(1 for _ in followed(reader, limit=1000)) == count
                assert list(reader.verify())[-1] == count
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
