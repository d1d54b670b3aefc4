"""The Bosch link: every vector in every company, the SIA mode behind its switch, and any bytes at all."""

from typing import Any

import pytest
from fastcrc.crc16 import arc
from hypothesis import given
from hypothesis import strategies as st

from protocols.bosch import Bosch, build
from protocols.errors import Reason
from protocols.event import Category, Format
from protocols.link import LinkTest, Message, Rejected, unescape
from tests.protocols.lines import check_build, cut, each, hostile, receive, rows

FRAMES = rows("bosch")
each_frame = each(FRAMES)
GOOD = b"a011 123418E13101015\x14"
SIA_MODE = b'\n12AB"00070101[#1234|Nri1BA005]\r'


@each_frame
def test_a_line_is_built_back(row: Any) -> None:
    check_build(row, Bosch().explain, build)


def test_a_lost_dc4_is_made_up_by_the_next_line() -> None:
    (item,) = receive(Bosch(), GOOD)
    assert receive(Bosch(), GOOD[:-1] + GOOD) == [item, item]
    assert receive(Bosch(), GOOD[:-1]) == [item]


@pytest.mark.parametrize("bad", [GOOD.replace(b"E", b"Z"), b"q" + GOOD[1:], b"a011 1234181131010155\x14"])
def test_a_damaged_line_between_two_good_ones_is_asked_for_three_times_then_kept(bad: bytes) -> None:
    items = receive(Bosch(), GOOD + bad * 4 + GOOD)
    assert [item.reply for item in items] == [b"\x06", b"\x15", b"\x15", b"\x15", b"\x06", b"\x06"]


def test_the_sia_mode_is_named_where_it_is_not_taken() -> None:
    (item,) = receive(Bosch(), SIA_MODE)
    assert isinstance(item, Rejected)
    assert (item.error.reason, item.reply) == (Reason.NOISE, b"")
    assert "experimental" in item.error.message


def test_the_sia_mode_is_kept_unread_and_answered_in_kind_where_it_is() -> None:
    (item,) = receive(Bosch(experimental=True), SIA_MODE)
    assert isinstance(item, Message)
    (event,) = item.events
    assert (event.account, event.format, event.category) == ("1234", Format.RAW, Category.UNKNOWN)
    assert event.text == "#1234|Nri1BA005"
    assert item.reply == b"\n%04X\t00070101[]\r" % arc(b"\t00070101[]")
    frame = Bosch().explain(SIA_MODE)
    assert frame
    assert build(frame) == SIA_MODE


def test_a_link_test_of_the_sia_mode_is_one() -> None:
    (item,) = receive(Bosch(experimental=True), b"\n12AB\t000701  []\r")
    assert isinstance(item, LinkTest)
    assert b"000701  []" in item.reply


@pytest.mark.parametrize("experimental", [False, True])
def test_a_stranger_gets_no_answer(experimental: bool) -> None:  # noqa: FBT001 - a row of the table
    items = receive(Bosch(experimental=experimental), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\x14")
    assert items
    assert all(isinstance(item, Rejected) and item.reply == b"" and not item.events for item in items)


@given(
    hostile([*(unescape(row["frame"]) for row in FRAMES), SIA_MODE], [b"\x14", b"\r", b"a011 ", b"\x00", b" "]),
    st.lists(st.integers(0, 300), max_size=6),
    st.booleans(),
)
def test_any_bytes_cut_anywhere_never_raise_and_read_the_same(data: bytes, cuts: list[int], experimental: bool) -> None:  # noqa: FBT001 - drawn
    protocol = Bosch(experimental=experimental)
    assert receive(protocol, *cut(data, cuts)) == receive(protocol, data)
