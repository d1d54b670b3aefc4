"""Reports that reach nobody: noticed by their age, raised once, said again, and over when they are delivered."""

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from receiver.config import Guarantees
from receiver.delivered import Delivered
from receiver.journal import Journal
from receiver.undelivered import Undelivered
from tests.receiver.conftest import report, store, until

DAY_S = 86_400


class Watch:
    """A watched journal, in which time and dispatch are what the test says."""

    def __init__(self, journal: Journal, **guarantees: Any) -> None:
        self.journal, self.state_dir = journal, journal.folder.parent
        self.config = Guarantees(node="north", **guarantees)
        self.undelivered = Undelivered(journal, self.state_dir, self.config)

    async def take(self, count: int = 1) -> None:
        await store(self.journal, *map(report, range(count)))

    def deliver(self, cursor: int, journal: str = "") -> None:
        Delivered(journal or self.journal.id, cursor).write(self.state_dir)

    def look(self, *times: float) -> list[str]:
        """Look at these times, and give the names of the lines that it logged."""
        with capture_logs() as logs:
            for now in times:
                self.undelivered.look(now)
        return [line["event"] for line in logs]


@pytest.fixture
async def watch(journal: Journal) -> AsyncIterator[Watch]:
    watch = Watch(journal)
    yield watch
    await watch.undelivered.stop()


async def test_nothing_waits_where_all_is_delivered_or_nothing_came(watch: Watch) -> None:
    assert watch.look(0, 1000) == []
    await watch.take(5)
    watch.deliver(5)
    assert watch.look(1001, 2000) == []
    assert watch.undelivered.snapshot() == {"lag": 0, "since": None, "raised": False, "refusing": False}


async def test_it_is_raised_when_the_oldest_has_waited_so_long_and_not_before(watch: Watch) -> None:
    await watch.take(3)
    watch.deliver(2)
    assert watch.look(0, 89.9) == []
    with capture_logs() as logs:
        watch.undelivered.look(90)
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("reports_undelivered", "critical")
    assert (line["node"], line["journal"], line["lag"], line["waited_s"]) == ("north", watch.journal.id, 1, 90)
    assert "kept and acknowledged" in line["effect"]
    assert "arcgate journal watch --urgent" in line["todo"]
    told = watch.undelivered.snapshot()
    assert (told["lag"], told["raised"], told["refusing"]) == (1, True, False)
    assert watch.journal.writable


async def test_the_age_is_that_of_the_oldest_report_that_still_waits(watch: Watch) -> None:
    """Delivery that is slow but keeps going is no outage: each second's reports are delivered 60 s later."""
    for now in range(300):
        await watch.take()
        watch.deliver(max(0, now - 60))
        assert watch.look(now) == []
    assert watch.undelivered.waited_s == pytest.approx(60, abs=2)
    watch.deliver(280)
    assert watch.look(300) == []
    assert watch.undelivered.waited_s == pytest.approx(20, abs=2)


@pytest.mark.parametrize("told", ["nothing", "another journal", "ahead"])
async def test_what_says_nothing_of_this_journal_delivers_nothing(watch: Watch, told: str) -> None:
    """A cursor ahead of the journal is that of a later copy of it: dispatch has stopped, or skips reports."""
    await watch.take(3)
    if told != "nothing":
        watch.deliver(3 if told == "another journal" else 4, "other-00000000" if told == "another journal" else "")
    assert watch.look(10, 99) == []
    assert watch.look(100) == ["reports_undelivered"]
    assert watch.undelivered.lag == 3
    assert watch.undelivered.delivered is None


async def test_a_queue_that_is_filled_anew_has_its_time_from_then_on(watch: Watch) -> None:
    await watch.take(50)
    watch.deliver(50)
    assert watch.look(0, 1000) == []
    watch.deliver(0)
    assert watch.look(1001, 1090) == []
    assert watch.look(1091) == ["reports_undelivered"]


async def test_it_is_said_again_at_growing_intervals_of_ten_minutes_at_most(watch: Watch) -> None:
    await watch.take()
    said = [now for now in range(7200) if watch.look(now)]
    assert said[:6] == [90, 120, 150, 210, 330, 570]
    assert {later - earlier for earlier, later in pairwise(said[6:])} == {600}


async def test_it_is_over_when_delivery_has_caught_up_and_armed_again(watch: Watch) -> None:
    """Under load a report or two are always on their way."""
    await watch.take(10)
    assert watch.look(0, 90) == ["reports_undelivered"]
    await watch.take()
    assert watch.look(91) == []
    watch.deliver(9)
    assert watch.look(92) == []
    watch.deliver(10)
    with capture_logs() as logs:
        watch.undelivered.look(93)
    assert logs == [{"event": "reports_delivered", "log_level": "warning", "journal": watch.journal.id, "lag": 1, "lasted_s": 93}]
    assert watch.look(94) == []
    assert watch.look(181) == ["reports_undelivered"]


async def test_where_the_centre_wants_it_so_nothing_is_taken_until_all_is_delivered(journal: Journal) -> None:
    watch = Watch(journal, refuse_when_undelivered=True)
    await watch.take(10)
    watch.look(0, 89)
    assert journal.writable
    with capture_logs() as logs:
        watch.undelivered.look(90)
    assert "no report is acknowledged" in logs[0]["effect"]
    assert not journal.writable
    assert not journal.append([report()], lambda _: None)
    watch.deliver(9)
    assert watch.look(91) == []
    assert watch.undelivered.snapshot()["refusing"]
    watch.deliver(10)
    assert watch.look(92) == ["reports_delivered"]
    assert journal.writable
    await watch.take()


async def test_the_command_is_run_once_an_outage_with_the_facts(journal: Journal, tmp_path: Path) -> None:
    watch = Watch(journal, alert_command=f"cat >> {tmp_path}/told")
    told = tmp_path / "told"
    await watch.take(2)
    watch.look(0, 90, 120, 150, 1000)
    await until(lambda: told.exists() and told.read_bytes().endswith(b"\n"))
    (facts,) = map(msgspec.json.decode, told.read_bytes().splitlines())
    assert (facts["alert"], facts["node"], facts["lag"], facts["waited_s"]) == ("reports_undelivered", "north", 2, 90)
    await until(lambda: not watch.undelivered._alerts)
    watch.deliver(2)
    watch.look(1001)
    await watch.take()
    watch.look(1002, 1092)
    await until(lambda: told.read_bytes().count(b"\n") == 2)
    await watch.undelivered.stop()


async def test_a_week_without_delivery_is_remembered_in_a_thousand_samples_at_most(journal: Journal) -> None:
    watch = Watch(journal)
    await watch.take()
    watch.undelivered.look(0)
    for now in range(1, 7 * DAY_S, 15):
        journal.durable += 1  # as if it came: nothing is read from the journal
        journal.appended += 1
        watch.undelivered._measure(now)
    assert len(watch.undelivered._samples) < 1000
    assert watch.undelivered.waited_s == pytest.approx(7 * DAY_S, abs=20)
    watch.deliver(journal.durable - 4 * 60 * 24)
    watch.undelivered._measure(7 * DAY_S)
    assert watch.undelivered.waited_s == pytest.approx(DAY_S, rel=0.1)
