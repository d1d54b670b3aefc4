"""Where an empty Redis begins: nothing was open there that was opened before; and a register of years is not read for it."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dispatch import beginning
from dispatch.beginning import Beginning, first_act_needed
from dispatch.register import Act, Register, RegisterReader
from receiver.delivered import Delivered
from receiver.journal import JournalReader
from tests.dispatch.centre import NOW, Centre, burglary, shops

NOW_MS = int(NOW.timestamp() * 1000)
YEAR_MS = 365 * 86_400_000
ENTRIES = 100


@pytest.fixture
async def here(tmp_path: Path, valkey: str, centre: str) -> AsyncIterator[Centre]:
    """A journal of 100 entries, a second after the other from `NOW` on."""
    async with Centre(tmp_path / "here", shops(), valkey, centre) as made:
        await made.take(*(burglary(n) for n in range(ENTRIES)))
        yield made


def act(name: str, opened: int, cursor: int, journal: str, at_ms: int) -> Act:
    return Act(f"{at_ms}-0", name, f"{journal}-{opened:012d}-0", "s", "Anne", 1, 1, 3, {journal: cursor})


@contextmanager
def begun(here: Centre, folder: Path, acts: Iterable[Act], oldest: int | None = None) -> Iterator[tuple[Beginning, int, int]]:
    """Give where it begins, the first act needed, and how many acts were read for both."""
    Delivered(here.journal.id, ENTRIES, oldest).write(here.folder)
    register = Register(folder)
    register.append(acts)
    read = [0]

    class Counting(RegisterReader):
        def acts(self, after: int, limit: int) -> list[tuple[int, Act]]:
            page = super().acts(after, limit)
            read[0] += len(page)
            return page

    with closing(register), closing(JournalReader(here.folder)) as reader, closing(Counting(folder)) as told:
        begin = beginning.beginning(here.folder, reader, told)
        needed = first_act_needed(here.folder, reader, told)
        yield begin, needed, read[0]


@pytest.mark.parametrize(
    ("oldest", "acts", "start"),
    [
        (None, [], 100),
        (40, [], 39),
        (40, [("close", 10, 30), ("close", 20, 60)], 9),
        (40, [("close", 5, 8), ("close", 10, 15), ("close", 20, 60)], 19),
        (40, [("claim", 10, 60), ("close", 45, 60)], 39),
        (None, [("close", 10, 99)], 100),
        (80, [("close", 10, 30), ("claim", 80, 90), ("close", 20, 60)], 79),
    ],
)
async def test_where_it_begins(
    here: Centre, oldest: int | None, acts: list[tuple[str, int, int]], start: int, tmp_path: Path
) -> None:
    """Where an alarm was open at the place where it would begin, it begins where that one was opened."""
    made = [act(name, opened, at, here.journal.id, NOW_MS + 200_000 + n) for n, (name, opened, at) in enumerate(acts)]
    with begun(here, tmp_path, made, oldest) as (begin, needed, _):
        assert (begin.start, begin.stand_ins) == (start, ())
        after = [n for n, (_, _, cursor) in enumerate(acts, 1) if cursor > start]
        assert needed == min(after, default=len(acts) + 1)


async def test_an_older_copy_of_the_journal_that_was_written_on_is_put_from_its_beginning(here: Centre, tmp_path: Path) -> None:
    """What came there since has the positions of what was delivered before, and would reach nobody."""
    with closing(JournalReader(here.folder)) as reader, closing(Register(tmp_path)), closing(RegisterReader(tmp_path)) as told:
        digest = (reader.digest(90) or b"").hex()
        for head, known, start in ((90, digest, ENTRIES), (90, "00" * 32, 0), (ENTRIES + 1, digest, 0)):
            Delivered(here.journal.id, ENTRIES, None, head, known).write(here.folder)
            assert beginning.beginning(here.folder, reader, told).start == start


@pytest.mark.parametrize("years", [YEAR_MS, 2 * beginning.CLOCKS_APART_MS])
async def test_a_register_of_years_is_not_read_for_it(
    here: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    monkeypatch.setattr(beginning, "ACTS_PAGE", 10)
    old = [act("close", 1, 2, "main-00000000", NOW_MS - years + n) for n in range(5_000)]
    new = [act("close", opened, 60, here.journal.id, NOW_MS + 60_000 + opened) for opened in (30, 45)]
    with begun(here, tmp_path, old + new, oldest=40) as (begin, needed, read):
        assert (begin.start, begin.done, needed) == (29, 5_000, 5_001)
        assert read < 200


async def test_a_clock_of_redis_that_is_years_off_hides_no_act(
    here: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its time nothing was done since: that what was done last was done at a later entry shows that it is not so."""
    monkeypatch.setattr(beginning, "ACTS_PAGE", 10)
    acts = [act("close", opened, 60, here.journal.id, NOW_MS - YEAR_MS + opened) for opened in (10, 20, 45)]
    with begun(here, tmp_path, acts, oldest=40) as (begin, needed, _):
        assert (begin.start, begin.done, needed) == (9, 0, 1)


@pytest.mark.parametrize("broken", range(41))
async def test_an_act_that_cannot_be_read_hides_none_before_it(
    here: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    """It has no time: it may stand wherever the place is looked for."""
    monkeypatch.setattr(beginning, "ACTS_PAGE", 1)
    old = [act("close", 1, 2, "main-00000000", NOW_MS - YEAR_MS + n) for n in range(3)]
    new = [act("close", 10 + n, 60, here.journal.id, NOW_MS + 60_000 + n) for n in range(37)]
    acts = old + new
    with closing(Register(tmp_path)) as register:
        register.append(acts[:broken])
        register._insert([b"[]"])
        register.append(acts[broken:])
    with begun(here, tmp_path, [], oldest=40) as (begin, _, _):
        assert begin.start == 9
        assert begin.done <= 4
