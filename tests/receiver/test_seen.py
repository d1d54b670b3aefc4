"""What is remembered of an account, and a clock that is off: raised once, restored once, also over a restart."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from protocols.errors import FrameError, Reason
from protocols.event import Category, Event, Qualifier
from protocols.link import LinkTest, Message, Rejected
from receiver import seen
from receiver.seen import PLACES_MAX, Seen
from tests.receiver.conftest import AT, BURGLARY


def message(ahead_s: float | None = None, *dialects: str, account: str = "1234", line: str | None = None) -> Message:
    event = msgspec.structs.replace(BURGLARY, account=account, line=line)
    return Message(b"frame", (event,), b"reply", "identity", "", dialects, ahead_s)


def note(seen: Seen, *items: Message | LinkTest) -> list[Event]:
    """All that was raised with these."""
    return [event for item in items if (event := seen.note("192.0.2.1:5000", item, AT))]


def test_an_account_is_remembered_with_what_its_frames_were_like() -> None:
    seen = Seen("ip", 60)
    refused = Rejected(b"", FrameError(Reason.NO_KEY, ""), events=(BURGLARY,))
    later = AT + timedelta(seconds=5)
    assert note(seen, message(-3.5, "eldes", "no_lf"), LinkTest(b"", "1234", b"", dialects=("eldes",))) == []
    seen.note_refused(refused, AT)
    seen.note_refused(refused, AT)
    assert seen.note("[2001:db8::1]:9", LinkTest(b"", "1234", b""), later) is None
    (heard,) = seen.of("1234")
    assert heard == {
        "listener": "ip",
        "receiver": None,
        "line": None,
        "account": "1234",
        "at": later,
        "peer": "[2001:db8::1]:9",
        "ahead_s": -3.5,
        "clock_off": False,
        "dialects": {"eldes": 2, "no_lf": 1},
        "refused": {"no_key": 2},
        "refused_at": AT,
    }


def test_what_names_no_account_is_not_remembered() -> None:
    seen = Seen("ip", 60)
    seen.note_refused(Rejected(b"GET", FrameError(Reason.NOISE, "")), AT)
    assert seen._accounts == {}


def test_the_same_number_at_two_places_is_two_panels() -> None:
    seen = Seen("ip", 60)
    one, other = message(0, account="0a", line="1"), message(3600, account="0a", line="2")
    assert [(event.code, event.line) for event in note(seen, one, other, one, other)] == [("clock_off", "2")]
    for number in ("0a", "0A"):
        assert [(heard["line"], heard["clock_off"]) for heard in seen.of(number)] == [("1", False), ("2", True)]
    assert seen.of("A") == []


def test_the_places_of_one_number_are_bounded() -> None:
    seen = Seen("ip", 60)
    note(seen, *[message(0, line=f"{n}") for n in range(10_000)])
    assert len(seen._accounts) == len(seen.of("1234")) == PLACES_MAX + 1


def test_a_clock_that_is_off_is_raised_once_and_restored_once_when_it_is_well_back() -> None:
    seen = Seen("ip", 60)
    assert note(seen, message(60), message(-60), message(None)) == []
    (raised,) = note(seen, message(-3600.4), message(-3600), message(61), message(None), message(59), message(-30))
    assert (raised.account, raised.code, raised.qualifier, raised.category) == (
        "1234",
        "clock_off",
        Qualifier.NEW,
        Category.GENERATED,
    )
    assert raised.text == "The panel's clock is 3600 s behind: set it, or its account's time_zone"
    (restored,) = note(seen, message(29), message(3), message(60))
    assert (restored.code, restored.qualifier) == ("clock_off", Qualifier.RESTORE)
    assert len(note(seen, LinkTest(b"", "1234", b"", ahead_s=61))) == 1


def test_a_restart_neither_raises_it_again_nor_forgets_to_restore_it(tmp_path: Path) -> None:
    before = Seen("ip", 60, tmp_path)
    before.save()
    assert list(tmp_path.iterdir()) == []
    note(before, message(900), message(900, account="5678"), message(0, account="5678"), message(900, line="7"))
    before.save()
    after = Seen("ip", 60, tmp_path)
    assert note(after, message(900), message(900, line="7")) == []
    assert [event.qualifier for event in note(after, message(1))] == [Qualifier.RESTORE]
    after.save()
    assert note(Seen("ip", 60, tmp_path), message(1)) == []


def test_a_damaged_file_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "clocks_off.ip.json").write_bytes(b'[["ip"]]')
    assert Seen("ip", 60, tmp_path)._accounts == {}


def test_it_stays_bounded_and_forgets_who_was_silent_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "ACCOUNTS_MAX", 100)
    known = Seen("ip", 60)
    for n in range(5_000):
        known.note("", message(0, account=f"{n}"), AT + timedelta(seconds=n))
        known.note("", message(0, account="1234"), AT + timedelta(seconds=n))
    assert len(known._accounts) == 100
    assert known.of("1234")
    assert known.of("4999")
