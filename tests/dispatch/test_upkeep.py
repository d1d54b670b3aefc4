"""The register's head is in the log, and what is old goes from it, but for what a lost Redis would need."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from dispatch.register import Act, Register, RegisterReader
from dispatch.upkeep import Upkeep
from receiver.config import Guarantees
from receiver.delivered import Delivered
from receiver.journal import Journal
from receiver.segment import segments
from tests.receiver.conftest import report, store

KEPT = Guarantees(segment_bytes=65_536, retention_days=2)
ACTS = 60


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[str]:
    """The id of the state folder's journal, of 600 entries."""
    journal = Journal(tmp_path)
    await store(journal, *map(report, range(600)))
    yield journal.id
    await journal.close()


@pytest.fixture
def register(tmp_path: Path, journal: str) -> Iterator[Register]:
    """Sixty acts in three files: each the close, at entry 10 * n, of the alarm that entry 10 * n - 5 opened."""

    def close(n: int) -> Act:
        return Act(f"{n}-0", "close", f"{journal}-{10 * n - 5:012d}-0", "s", "anna", n, 1, 3, {journal: 10 * n}, note="x" * 4000)

    with closing(Register(tmp_path, KEPT)) as register:
        for batch in range(1, ACTS + 1, 20):
            register.append(map(close, range(batch, batch + 20)))
        yield register


def upkeep(folder: Path, register: Register, kept: Guarantees = KEPT) -> Upkeep:
    return Upkeep(folder, register, kept, structlog.get_logger())


async def in_days(days: int, folder: Path, register: Register, kept: Guarantees = KEPT) -> list[int]:
    """Let retention look at it then; gives the first positions of the files that are left, which verify."""
    with capture_logs() as said:
        await upkeep(folder, register, kept).drop_old(datetime.now(UTC) + timedelta(days=days))
    with closing(RegisterReader(folder)) as reader:
        assert list(reader.verify())[-1] == ACTS
    left = [first for first, _ in segments(folder / "register")]
    assert sum(line["event"] == "segment_dropped" for line in said) == len(said)
    return left


async def test_whole_files_go_but_none_that_a_refill_needs(tmp_path: Path, register: Register, journal: str) -> None:
    files = await in_days(1, tmp_path, register)
    assert files == [1, 21, 41]
    assert await in_days(3, tmp_path, register) == files, "nobody has told how far this journal is delivered"
    Delivered("another", 600, None).write(tmp_path)
    assert await in_days(3, tmp_path, register) == files
    Delivered(journal, 600, 10 * files[1] - 5).write(tmp_path)
    assert await in_days(3, tmp_path, register, Guarantees()) == files
    assert await in_days(1, tmp_path, register) == files
    assert await in_days(3, tmp_path, register) == files[1:]
    Delivered(journal, 600, None).write(tmp_path)
    assert await in_days(3, tmp_path, register) == files[2:], "the last one is written on"
    with closing(RegisterReader(tmp_path)) as reader:
        assert (reader.first(), [position for position, _ in reader.acts(0, 1)]) == (files[2], [files[2]])


async def test_the_head_is_said_once_for_each_that_is_new(tmp_path: Path, register: Register) -> None:
    keeper = upkeep(tmp_path, register)
    with capture_logs() as said:
        keeper.say_head()
        keeper.say_head()
        register.append([Act("99-0", "claim", "a", "s", "anna", 99, 1, 3, {})])
        keeper.say_head()
    with closing(RegisterReader(tmp_path)) as reader:
        digests = [(reader.digest(position) or b"").hex() for position in (ACTS, ACTS + 1)]
    assert [(line["event"], line["position"], line["digest"]) for line in said] == [
        ("register_head", ACTS, digests[0]),
        ("register_head", ACTS + 1, digests[1]),
    ]


async def test_a_register_that_cannot_be_looked_at_is_told_and_it_goes_on(tmp_path: Path, register: Register) -> None:
    path = segments(tmp_path / "register")[1][1]
    path.write_bytes(b"no database" * 100)
    with capture_logs() as said:
        running = asyncio.create_task(upkeep(tmp_path, register).run())
        async with asyncio.timeout(5):
            while len(said) < 2:  # noqa: ASYNC110 - it is looked at, it does not tell
                await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()
    assert [line["event"] for line in said] == ["register_head", "retention_failed"]
