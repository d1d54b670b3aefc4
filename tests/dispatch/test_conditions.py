from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.conditions import Between, CategoryIs, CodeIs, Condition, PartitionIs, ZoneIs, plain
from protocols.event import Category, Event, Format, Qualifier

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday


def event(code: str = "BA", format_: Format = Format.SIA, zone: str | None = None, partition: str | None = None) -> Event:
    return Event("1234", format_, code, Qualifier.NEW, Category.BURGLARY, zone=zone, partition=partition)


def test_a_code_is_compared_without_case_and_where_asked_in_its_code_space() -> None:
    assert CodeIs(("ba",)).holds(event("BA"), NOON)
    assert not CodeIs(("BA",)).holds(event("BR"), NOON)
    assert CodeIs(("130",), "contact_id").holds(event("130", Format.CONTACT_ID), NOON)
    assert not CodeIs(("130",), "sia").holds(event("130", Format.CONTACT_ID), NOON)


def test_a_category_is_one_of_those_named() -> None:
    assert CategoryIs((Category.FIRE, Category.BURGLARY)).holds(event(), NOON)
    assert not CategoryIs((Category.FIRE,)).holds(event(), NOON)


@pytest.mark.parametrize(
    ("written", "sent", "same"),
    [
        ("5", "005", True),
        ("005", "5", True),
        ("0a", "A", True),
        ("0", "000", True),
        ("5", "50", False),
        ("0", "", False),
        ("5", None, False),
    ],
)
def test_zones_and_partitions_are_compared_without_leading_zeros(written: str, sent: str | None, *, same: bool) -> None:
    assert ZoneIs((written,)).holds(event(zone=sent), NOON) is same
    assert PartitionIs((written,)).holds(event(partition=sent), NOON) is same


@pytest.mark.parametrize(
    ("start", "end", "time", "inside"),
    [
        ("08:00", "18:00", "08:00", True),
        ("08:00", "18:00", "17:59", True),
        ("08:00", "18:00", "18:00", False),
        ("08:00", "18:00", "07:59", False),
        ("22:00", "06:00", "22:00", True),
        ("22:00", "06:00", "05:59", True),
        ("22:00", "06:00", "06:00", False),
        ("22:00", "06:00", "21:59", False),
        ("22:00", "00:00", "23:59", True),
        ("22:00", "00:00", "00:00", False),
    ],
)
def test_a_window_holds_its_start_and_not_its_end(start: str, end: str, time: str, *, inside: bool) -> None:
    hour, minute = map(int, time.split(":"))
    assert Between(start, end).holds(event(), NOON.replace(hour=hour, minute=minute)) is inside


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_starts() -> None:
    night = Between("22:00", "06:00", ("mon",))
    monday, tuesday = NOON, NOON + timedelta(days=1)
    assert not night.holds(event(), monday.replace(hour=3))
    assert night.holds(event(), monday.replace(hour=23))
    assert night.holds(event(), tuesday.replace(hour=3))
    assert not night.holds(event(), tuesday.replace(hour=23))
    assert Between("22:00", "06:00", ("sun",)).holds(event(), monday.replace(hour=3))


def test_the_clocks_change_within_a_window() -> None:
    """In Paris on 29 March 2026 it is never 02:30; on 25 October it is 02:30 twice: the window goes by the clock on the wall."""
    window = Between("02:00", "03:00")
    spring, autumn = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)
    assert not any(window.holds(event(), (spring + timedelta(minutes=m)).astimezone(PARIS)) for m in range(24 * 60))
    assert sum(window.holds(event(), (autumn + timedelta(minutes=m)).astimezone(PARIS)) for m in range(24 * 60)) == 120


@given(st.integers(0, 1439), st.integers(0, 1439), st.datetimes(timezones=st.just(PARIS)))
def test_each_moment_is_in_a_window_or_in_the_one_that_completes_the_day(start: int, end: int, local: datetime) -> None:
    first, last = (f"{minute // 60:02}:{minute % 60:02}" for minute in (start, end))
    if first == last:
        with pytest.raises(ValueError, match="are the same"):
            Between(first, last)
    else:
        assert Between(first, last).holds(event(), local) != Between(last, first).holds(event(), local)


@given(st.text())
def test_plain_is_its_own_plain(number: str) -> None:
    assert plain(plain(number)) == plain(number)
    assert plain(f"0{number}") == plain(number or "0")


@pytest.mark.parametrize(
    "condition",
    [
        CodeIs(("BA",), "sia"),
        CategoryIs((Category.FIRE,)),
        ZoneIs(("5",)),
        PartitionIs(("1",)),
        Between("22:00", "06:00", ("mon",)),
    ],
)
def test_a_condition_is_read_back_as_it_was_written(condition: Condition) -> None:
    assert msgspec.json.decode(msgspec.json.encode(condition), type=Condition) == condition
