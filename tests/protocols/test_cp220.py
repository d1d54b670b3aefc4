"""The CP-220 link: every vector in every company, other signs around a line, and any bytes at all."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocols.cp220 import Cp220, build
from protocols.link import Rejected, unescape
from tests.protocols.lines import check_build, cut, each, hostile, receive, rows

FRAMES = rows("cp220")
each_frame = each(FRAMES)
GOOD = b"\n0A 1234 18 P130 01 C005\r"


@each_frame
def test_a_line_is_built_back(row: Any) -> None:
    check_build(row, Cp220().explain, build)


def test_header_and_end_are_what_the_receiver_is_set_to() -> None:
    frame = Cp220().explain(GOOD)
    assert frame
    (item,) = receive(Cp220(), GOOD)
    assert receive(Cp220(header="*", end="#"), build(frame, b"*", b"#") * 2) == [item, item]
    assert Cp220(header="*", end="#").explain(build(frame, b"*", b"#")) == frame


def test_a_damaged_line_between_two_good_ones_is_asked_for_three_times_then_kept() -> None:
    items = receive(Cp220(), GOOD + GOOD.replace(b"P", b"Z") * 4 + GOOD)
    assert [item.reply for item in items] == [b"\x06", b"\x15", b"\x15", b"\x15", b"\x06", b"\x06"]


def test_a_stranger_gets_no_answer() -> None:
    items = receive(Cp220(), b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n")
    assert items
    assert all(isinstance(item, Rejected) and item.reply == b"" and not item.events for item in items)


@given(
    hostile([unescape(row["frame"]) for row in FRAMES], [b"\n", b"\r", b"\n01", b"\x00"]),
    st.lists(st.integers(0, 300), max_size=6),
)
def test_any_bytes_cut_anywhere_never_raise_and_read_the_same(data: bytes, cuts: list[int]) -> None:
    assert receive(Cp220(), *cut(data, cuts)) == receive(Cp220(), data)
