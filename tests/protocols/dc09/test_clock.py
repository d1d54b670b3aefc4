"""How far a panel's clock is off, in any zone, and in whose words it is told."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from protocols.dc09 import clock
from protocols.dc09.frame import stamp

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ahead_s", "told"),
    [
        (0, ""),
        (20, ""),
        (-40, ""),
        (21, "the panel's clock is 21 s ahead: set it"),
        (-41, "the panel's clock is 41 s behind: set it"),
        (300, "the panel's clock is 5 min ahead: set it"),
        (3600, "the panel's clock is 1 h ahead: does it send local time? Then its account needs a time_zone"),
        (-10795, "the panel's clock is 3 h behind: does it send local time? Then its account needs a time_zone"),
        (19800, "the panel's clock is 5.5 h ahead: does it send local time? Then its account needs a time_zone"),
        (-10000, "the panel's clock is 2.8 h behind: set it"),
        (-86400 * 400, "the panel's clock is 400 days behind: set it"),
    ],
)
def test_it_is_told_in_words(ahead_s: int, told: str) -> None:
    assert clock.check(stamp(NOW + timedelta(seconds=ahead_s))[1:], None, NOW) == (ahead_s, told)


@pytest.mark.parametrize(
    "text", ["", "25:00:00,11-22-2026", "10:00:00,22-11-2026", "10:00:00,00-31-2019", "10:00:00,02-30-2026", "x" * 99]
)
def test_what_is_no_time_is_told(text: str) -> None:
    ahead_s, told = clock.check(text, None, NOW)
    assert ahead_s is None
    assert "cannot be read" in told
    assert len(told) < 200


@pytest.mark.parametrize(
    ("local", "now"),
    [
        ("11:00:00,11-22-2026", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("12:00:00,07-22-2026", datetime(2026, 7, 22, 10, tzinfo=UTC)),
        ("02:30:00,10-25-2026", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("02:30:00,10-25-2026", datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        ("00:00:05,01-01-2027", datetime(2026, 12, 31, 23, 0, 5, tzinfo=UTC)),
    ],
)
def test_local_time_is_read_in_its_zone_and_the_hour_that_comes_twice_is_the_nearer_one(local: str, now: datetime) -> None:
    assert clock.check(local, ZoneInfo("Europe/Paris"), now) == (0, "")


def test_a_panel_in_another_zone_than_its_account_is_asked_about_that() -> None:
    _, told = clock.check("10:00:00,11-22-2026", ZoneInfo("Europe/Paris"), NOW)
    assert told == "the panel's clock is 1 h behind: is Europe/Paris the time_zone it keeps, with summer time?"


@pytest.mark.parametrize("count", [1, 10, 12, 13, 16])
def test_padding_behind_the_time_is_named(count: int) -> None:
    """A general library of AES pads so unless it is told not to."""
    ahead_s, told = clock.check("14:23:45,11-22-2026" + chr(count) * count, None, NOW)
    assert ahead_s is None
    assert f"{count} bytes of PKCS#7" in told
    assert "cannot be read" in clock.check("14:23:45,11-22-2026" + chr(count) * (count + 1), None, NOW)[1]


@pytest.mark.parametrize("text", ["00:00:00,01-01-0001", "23:59:59,12-31-9999"])
def test_the_ends_of_all_calendars_do_not_raise(text: str) -> None:
    for zone in (None, ZoneInfo("Europe/Paris"), ZoneInfo("America/New_York")):
        assert clock.check(text, zone, NOW)[1]
