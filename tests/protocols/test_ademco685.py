"""The 685 link: every vector in every company, the receiver's own word on zone or user, and any bytes at all."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.alarm import Action
from dispatch.engine import decide
from dispatch.sites import Site
from dispatch.state import SiteState
from protocols.ademco685 import Ademco685, build
from protocols.event import CENTRE, Qualifier
from protocols.link import Message, Rejected, unescape
from receiver.journal import Entry, Report
from tests.protocols.lines import NOW, check_build, cut, each, events, hostile, receive, rows

FRAMES = rows("ademco685")
each_frame = each(FRAMES)
GOOD = b"\n01 1234 18 E130 01 C005 \r"


@each_frame
def test_a_line_is_built_back(row: Any) -> None:
    check_build(row, Ademco685().explain, build)


def test_a_lost_cr_is_made_up_by_the_next_line() -> None:
    (item,) = receive(Ademco685(), GOOD)
    assert receive(Ademco685(), GOOD[:-1] + GOOD) == [item, item]
    assert receive(Ademco685(), GOOD[:-1]) == [item]


def test_half_a_second_in_the_middle_of_a_line_is_not_its_end() -> None:
    link = Ademco685().link()
    assert [*link.receive(b"\n01 1234 1", NOW), *link.settle(NOW)] == []
    (item,) = link.receive(b"8 E122 01 C005\r", NOW)
    assert [(event.account, event.code) for event in events(item)] == [("1234", "122")]
    assert item.reply == b"\x06"


def test_what_a_receiver_says_of_itself_comes_as_fault_and_as_restored() -> None:
    items = receive(Ademco685(), b"\n20 LINE 5155 5355 7\r\n20 LINE 5555 5555 7\r")
    told = [(event.account, event.code, event.zone, event.qualifier) for item in items for event in events(item)]
    line = (CENTRE, "receiver_line")
    assert told == [(*line, "2", Qualifier.NEW), (*line, "6", Qualifier.RESTORE), (*line, None, Qualifier.RESTORE)]


def test_good_news_opens_no_alarm() -> None:
    """All channels of an account normal: a status. All lines of the receiver normal: what was wrong with them is over."""
    of_lines, of_channels = receive(Ademco685(), b"\n20 LINE 5555 5555 7\r\n01 1234 5555 5555 7\r")
    for item, action in ((of_lines, Action.JOIN), (of_channels, Action.LOG)):
        entry = Entry(1, Report(NOW, "lines", "", "", events(item)), "")
        (placement,) = decide(Site(("1234",), "shop", "Shop"), SiteState(), entry, "j", NOW).placements
        assert placement.action is action


@pytest.mark.parametrize(
    "bad",
    [
        b"\n01 1234 18 X130 01 C005\r",
        b"\n01 1234 18 E1\xb30 01 C005\r",
        b"\n01 1234 18 E122 01 C00\0\r",
        b"\n01 1234 18 E130 01 C00\r",
        b"\n01 1234 8 E122 01 C005 \r",
        b"\n01 1234 18 E130 01\r",
    ],
)
def test_a_damaged_line_between_two_good_ones_is_asked_for_three_times_then_kept(bad: bytes) -> None:
    items = receive(Ademco685(), GOOD + bad * 4 + GOOD)
    assert [item.reply for item in items] == [b"\x06", b"\x15", b"\x15", b"\x15", b"\x06", b"\x06"]
    assert all(events(item) for item in items)


def test_the_older_685_waits_for_no_answer() -> None:
    items = receive(Ademco685(acknowledge=False), GOOD + GOOD[:12] + b"\r")
    assert [(type(item), item.reply) for item in items] == [(Message, b""), (Rejected, b"")]


def test_a_stranger_gets_no_answer() -> None:
    items = receive(Ademco685(), b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n")
    assert items
    assert all(isinstance(item, Rejected) and item.reply == b"" and not item.events for item in items)


@given(
    hostile([unescape(row["frame"]) for row in FRAMES], [b"\n", b"\r", b"\n01 ", b"\x00"]),
    st.lists(st.integers(0, 300), max_size=6),
)
def test_any_bytes_cut_anywhere_never_raise_and_read_the_same(data: bytes, cuts: list[int]) -> None:
    assert receive(Ademco685(), *cut(data, cuts)) == receive(Ademco685(), data)
