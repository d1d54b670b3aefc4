"""How a journal ends: the disk is full, the process is killed, the log is torn; what was durable is there afterwards."""

import asyncio
import errno
import random
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from receiver import journal as receiver_journal
from receiver import room
from receiver.config import Guarantees
from receiver.journal import LOOK_FOR_ROOM_S, Journal
from tests.receiver.conftest import database, fill_disk, held, report, store, stored, until

ROOT = Path(__file__).parents[2]


async def test_a_full_disk_stops_everything_until_there_is_room(state_dir: Path) -> None:
    full: list[Exception | None] = []
    failures: list[Exception] = []
    journal = Journal(state_dir, on_failure=failures.append, on_full=full.append)
    done: list[int] = []
    fill_disk(journal)
    for n in range(200):
        journal.append([report("x" * 500)], partial(done.append, n))
        await asyncio.sleep(0)
    await until(lambda: full)
    assert not journal.writable
    assert "full" in str(full[0])
    durable = journal.durable
    assert not journal.append([report("ignored")], lambda: done.append(-1))
    assert not journal.append([], lambda: done.append(-2))
    assert (journal.appended, len(journal._waiting)) == (durable, 0)
    journal._ledger._segment._database.execute("PRAGMA max_page_count = 1000000")
    await until(lambda: journal.writable)
    await store(journal, report("after"))
    await journal.close()
    assert (full[1:], failures, done) == ([None], [], list(range(durable)))
    frames = stored(state_dir)
    assert len(frames) == durable + 1
    assert frames[-1] == "after"


async def test_below_free_bytes_min_nothing_is_taken_from_the_first_turn_on(state_dir: Path) -> None:
    """What is taken before the first look fails by itself; it is told once that the disk is full."""
    full: list[Exception | None] = []
    given_up: list[int] = []
    low = Guarantees(free_bytes_min=1 << 50)
    journal = Journal(state_dir, on_full=full.append, on_given_up=lambda: given_up.append(len(full)), kept=low)
    done: list[int] = []
    assert journal.append([report()], lambda: done.append(1))
    await asyncio.sleep(0)
    assert not journal.writable
    await until(lambda: given_up)
    assert "free_bytes_min" in str(full[0])
    assert (done, journal.durable, journal.appended, len(full), given_up) == ([], 0, 0, 1, [1])
    await journal.close()
    assert stored(state_dir) == []


async def test_what_was_taken_before_a_look_found_no_room_is_written_if_it_can_be(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's number of free bytes is stood in for: 0, from the moment in which the commit has begun."""
    full: list[Exception | None] = []
    given_up: list[int] = []
    journal = Journal(state_dir, on_full=full.append, on_given_up=lambda: given_up.append(1))
    done: list[str] = []
    with held(journal), monkeypatch.context() as patch:
        journal.append([report("taken")], lambda: done.append("taken"))
        await asyncio.sleep(0.05)
        patch.setattr(receiver_journal, "free_bytes", lambda _: 0)
        await until(lambda: full)
        assert not journal.append([], lambda: done.append("after"))
        assert (done, journal.appended) == ([], 1)
    await until(lambda: journal.writable)
    await until(lambda: done)
    await journal.close()
    assert (done, given_up, full[1:], stored(state_dir)) == (["taken"], [], [None], ["taken"])


async def test_a_quota_that_is_used_up_is_a_full_disk(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit to a file's size stands in for it: SQLite tells both as an I/O error, and the system as want of room for more."""
    monkeypatch.setattr(room, "NO_ROOM", {errno.EFBIG})
    full: list[Exception | None] = []
    failures: list[Exception] = []
    journal = Journal(state_dir, on_failure=failures.append, on_full=full.append)
    await store(journal, report("before"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        for n in range(1000):
            if not journal.append([report(f"{n}" + "x" * 500)], lambda: None):
                break
            await asyncio.sleep(0)
        await until(lambda: full)
        assert not isinstance(full[0], OSError)
        await asyncio.sleep(1.5 * LOOK_FOR_ROOM_S)
        assert (full[1:], journal.writable) == ([], False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await until(lambda: journal.writable)
    await store(journal, report("after"))
    await journal.close()
    assert failures == []
    assert len(stored(state_dir)) == journal.durable
    assert stored(state_dir)[-1] == "after"


def test_a_disk_that_fills_at_a_real_limit_loses_nothing_that_was_durable(state_dir: Path) -> None:
    """The operating system refuses to let a file grow: first the database at a checkpoint, then its log."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.receiver.writer", state_dir, "1", "8300000"],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    *positions, failed, writable = process.stdout.decode().splitlines()
    assert failed.startswith("failed ")
    assert writable == "writable False"
    numbers = list(map(int, positions))
    assert numbers == sorted(numbers)
    assert [frame.split()[0] for frame in stored(state_dir)] == [str(n) for n in range(1, numbers[-1] + 1)]


def test_no_room_at_the_start_is_refused_in_words(state_dir: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tests.receiver.writer", state_dir, "1", "100000"],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"LedgerError" in process.stderr
    assert b"needs a folder that it may write, with room" in process.stderr


async def test_another_writer_of_the_file_holds_up_the_commit_and_then_stops_the_journal(state_dir: Path) -> None:
    """As an sqlite3 shell with an open transaction would: nothing is acknowledged meanwhile, or after."""
    failures: list[Exception] = []
    journal = Journal(state_dir, on_failure=failures.append)
    journal._ledger._segment._database.execute("PRAGMA busy_timeout = 50")
    done: list[int] = []
    with held(journal):
        journal.append([report()], lambda: done.append(1))
        await until(lambda: failures)
    await journal.close()
    assert (done, journal.writable, str(failures[0])) == ([], False, "database is locked")


def test_kill_9_at_any_moment_loses_nothing_that_was_reported_durable(state_dir: Path) -> None:
    chance = random.SystemRandom()
    reported = 0
    for round_ in range(3):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.receiver.writer", state_dir, str(round_)], cwd=ROOT, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            for _ in range(chance.randrange(1, 400)):
                reported = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            for line in process.stdout:
                reported = int(line)
        frames = stored(state_dir)
        assert len(frames) >= reported
        assert [frame.split()[0] for frame in frames] == [str(n) for n in range(1, len(frames) + 1)]


async def test_a_torn_log_never_yields_half_an_append(state_dir: Path) -> None:
    """The last append's pages are cut or garbled at every kind of place: it is there whole, or not at all."""
    journal = Journal(state_dir)
    await store(journal, *map(report, range(10)))
    log = database(state_dir).with_name("000000000001.db-wal")
    before = log.read_bytes()
    await store(journal, *[report(f"last {n} {'x' * 200}") for n in range(50)])
    after = log.read_bytes()
    left = state_dir.parent / "left"
    places = [place for place in range(0, len(after), 256) if before[place : place + 256] != after[place : place + 256]]
    heads = []
    for place in [*places[:: len(places) // 6], places[-1], places[-1] + 256]:
        for torn in (after[: place + 100], after[: place + 100] + b"\xff" * 100 + after[place + 200 :]):
            shutil.rmtree(left, ignore_errors=True)
            (left / "journal").mkdir(parents=True)
            shutil.copy(database(state_dir), database(left))
            (left / "journal" / log.name).write_bytes(torn)
            again = Journal(left)
            heads.append(again.durable)
            await store(again, report("after"))
            await again.close()
            frames = stored(left)
            assert len(frames) in {11, 61}
            assert frames[:10] + frames[-1:] == [*map(str, range(10)), "after"]
    assert set(heads) == {10, 60}
    await journal.close()
