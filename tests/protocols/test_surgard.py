"""The Sur-Gard link: every vector in every company, glued and damaged lines, and any bytes at all."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.event import CENTRE, Category
from protocols.link import LinkTest, Message, Policy, Rejected, unescape
from protocols.surgard import SurGard, build
from tests.protocols.lines import NOW, check_build, cut, each, events, hostile, one_by_one, receive, rows

FRAMES = rows("surgard")
each_frame = each(FRAMES)
GOOD = b"5011 181234E13001004\x14"
OTHER = b"5011 181234R13001004\x14"
BEAT = b"1011           @    \x14"


@each_frame
def test_a_line_is_built_back(row: Any) -> None:
    check_build(row, SurGard().explain, build)
    frame = SurGard().explain(unescape(row["frame"]))
    assert frame
    if frame.kind not in {"raw", "heartbeat"}:
        assert build(frame) == unescape(row["frame"])


@pytest.mark.parametrize("row", FRAMES, ids=lambda row: row["name"][:40])
def test_a_lost_dc4_is_made_up_by_the_next_line_and_never_by_silence(row: Any) -> None:
    whole = unescape(row["frame"])
    (item,) = receive(SurGard(), whole)
    if row["fields"]["kind"] == "raw":
        return  # a line of an unknown kind has no other end
    assert receive(SurGard(), whole.rstrip(b"\x14")) == [item], "the connection is over: nothing follows"
    assert [type(each) for each in receive(SurGard(), whole.rstrip(b"\x14") + GOOD)] == [type(item), Message]
    link = SurGard().link()
    assert link.receive(whole.rstrip(b"\x14"), NOW) == []
    assert not link.unsettled
    assert link.settle(NOW) == []
    assert [type(each) for each in link.receive(whole, NOW)] == [type(item)] * 2, "the receiver sent it again"


@pytest.mark.parametrize("row", FRAMES, ids=lambda row: row["name"][:40])
def test_silence_ends_a_line_where_no_sign_does(row: Any) -> None:
    if row["fields"]["kind"] == "raw":
        return
    whole = unescape(row["frame"])
    (item,) = receive(SurGard(), whole)
    link = SurGard(end="none").link()
    assert link.receive(whole.rstrip(b"\x14"), NOW) == []
    assert link.unsettled
    assert link.settle(NOW) == [item]
    assert not link.unsettled


@pytest.mark.parametrize("row", FRAMES, ids=lambda row: row["name"][:40])
def test_silence_in_the_middle_of_a_line_changes_nothing(row: Any) -> None:
    link, whole = SurGard().link(), unescape(row["frame"])
    (item,) = receive(SurGard(), whole)
    items = [found for piece in one_by_one(whole + BEAT) for found in [*link.receive(piece, NOW), *link.settle(NOW)]]
    assert items[:-1] == [item]
    assert isinstance(items[-1], LinkTest)


@pytest.mark.parametrize(
    ("glued", "accounts"),
    [
        (b"S011[#1111|NHA0001]S011[#2222|NBA0012]", ["1111", "2222"]),
        (b"0011[#0000|NYC011]S011[#2222|NHA0001]", [CENTRE, "2222"]),
        (b"S011[#1111|NBA1]5011 182222E12201005S011[#3333|NBA3]", ["1111", "2222", "3333"]),
        (b"S011[#1111|NBA1^door] 5011 18^]S011[#2222|NBA3]", ["1111", "2222"]),
        (b"".join(b"S011[#%04d|NBA0001]" % n for n in range(100, 140)), [f"{n:04}" for n in range(100, 140)]),
        (b"".join(b"S011[#%04d|NBA^%b^]" % (n, b"x" * 40) for n in range(60)), [f"{n:04}" for n in range(60)]),
    ],
)
@pytest.mark.parametrize("end", ["dc4", "none"])
def test_glued_lines_are_each_one_of_its_own_account_with_its_own_ack(glued: bytes, accounts: list[str], end: Any) -> None:
    items = receive(SurGard(end=end), glued + (b"\x14" if end == "dc4" else b""))
    assert [[event.account for event in events(item)] for item in items] == [[account] for account in accounts]
    assert [item.reply for item in items] == [b"\x06"] * len(accounts)


def test_an_internal_line_is_the_centre_s_where_it_names_no_account_alone() -> None:
    items = receive(SurGard(), b"0011[#1234|NHA0012]\x14" + b"S0011[#1234|NHA0012]\x14" + b"0011[#0000|NHA0012]\x14")
    told = [[(event.account, event.code) for event in events(item)] for item in items]
    assert [each for each in told if each] == [[("1234", "HA")], [("1234", "HA")], [(CENTRE, "HA")]]


def test_a_sia_line_s_time_is_of_the_clock_of_its_account() -> None:
    link = SurGard().link(lambda *_: Policy(time_zone=ZoneInfo("Europe/Paris")))
    (item,) = link.receive(b"S011[#5551|Nti10:15/BA4]\x14", NOW)
    assert [event.occurred_at for event in events(item)] == [datetime(2026, 11, 22, 9, 15, tzinfo=UTC)]


@pytest.mark.parametrize("text", ["café".encode(), "café".encode("cp1252")])
def test_text_may_have_signs_of_eight_bits_and_nothing_else_may(text: bytes) -> None:
    (item,) = receive(SurGard(), b"S011[#1234|NHA0001^%b^]\x14" % text)
    assert [(event.account, event.code, event.text) for event in events(item)] == [("1234", "HA", "café")]
    assert item.reply == b"\x06"
    (item,) = receive(SurGard(), b"S011[#1234|NHA0001%b]\x14" % text)
    assert item.reply == b"\x15"


def test_an_account_may_be_filled_with_blanks() -> None:
    (item,) = receive(SurGard(), b"5011 18  1234E12201005\x14")
    assert [(event.account, event.code) for event in events(item)] == [("1234", "122")]


def test_a_line_that_is_longer_than_what_is_read_at_a_time_is_not_cut_where_that_ends() -> None:
    text = b"y" * (1024 - len(b"S011[#0001|NBA]" + b"S011[#1111|NHA^a]"))
    items = receive(SurGard(end="none"), b"S011[#0001|NBA^%b^]S011[#1111|NHA^a]b^]" % text[2:])
    assert [event.text for item in items for event in events(item)][1:] == ["a]b"]


def test_a_parity_error_in_the_last_sign_is_damage_and_not_a_shorter_line() -> None:
    (item,) = receive(SurGard(), b"5011 18001231E1220100\x00\x14")
    assert (type(item), item.reply) == (Rejected, b"\x15")
    items = receive(SurGard(), GOOD + b"\x00\x00" + GOOD + b"\x00" + GOOD[:-1] + b"\x00" + GOOD)
    assert [item.reply for item in items] == [b"\x06"] * 4, "between lines a NUL is nothing"
    assert SurGard().explain(b"5011 18001231E122010\x00\x14") is None


def test_three_repeats_glued_are_three_answers_and_one_identity() -> None:
    items = receive(SurGard(), GOOD[:-1] * 2 + GOOD)
    assert [item.reply for item in items] == [b"\x06"] * 3
    assert len({item.identity for item in items if isinstance(item, Message)}) == 1


def test_an_area_line_names_the_area_of_the_lines_that_follow_for_its_account() -> None:
    lines = b"3011    001234ri0002\x143011    001234BA0012\x143011    009999BA0001\x14"
    area, first, other = receive(SurGard(), lines)
    assert isinstance(area, LinkTest)
    assert area.reply == b"\x06"
    assert [event.partition for item in (first, other) for event in events(item)] == ["0002", None]


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\x14"])
def test_other_ends_are_a_setting(end: bytes) -> None:
    protocol = SurGard(end="cr" if b"\r" in end else "none")
    items = receive(protocol, GOOD[:-1] + end + BEAT[:-1] + end + OTHER[:-1] + end)
    assert [type(item) for item in items] == [Message, LinkTest, Message]


@pytest.mark.parametrize(
    "bad",
    [
        b"5011 181234E122010055\x14",
        b"5011 181234E113001005\x14",
        b"5011 181234E1220100555\x14",
        b"5011 181234E1322001005\x14",
        b"5011 18001231E1220100\x14",
        b"5011 101234E13001005\x14",
        b"4011 181234E12201005\x14",
        b"S011#1234|NHA0012]\x14",
        b"5011 181234E1300100\x14",
        b"5011 18123\xb4E13001004\x14",
        b"S011[#1234|NBA0012\x14",
        b"1011      12 34 C21\x14",
    ],
)
def test_a_damaged_line_between_two_good_ones_is_asked_for_three_times_then_kept(bad: bytes) -> None:
    items = receive(SurGard(), GOOD + bad + OTHER)
    assert [type(item) for item in items] == [Message, Rejected, Message]
    assert [item.reply for item in items] == [b"\x06", b"\x15", b"\x06"]
    assert [(event.account, event.code) for event in events(items[1])] == [(CENTRE, "refused_damaged")]
    again = receive(SurGard(), GOOD + bad * 5 + OTHER)
    assert [item.reply for item in again] == [b"\x06", b"\x15", b"\x15", b"\x15", b"\x06", b"\x06", b"\x06"]
    kept = again[4]
    assert isinstance(kept, Message)
    assert [(event.account, event.category) for event in kept.events] == [(CENTRE, Category.UNKNOWN)]
    assert kept.identity not in {item.identity for item in again[:4] if not isinstance(item, LinkTest)}


def test_a_line_that_the_next_cut_off_is_told_and_gets_no_answer_of_its_own() -> None:
    items = receive(SurGard(), GOOD[:13] + GOOD)
    assert [(type(item), item.reply) for item in items] == [(Rejected, b""), (Message, b"\x06")]
    assert events(items[0])


def test_a_stranger_gets_no_answer() -> None:
    items = receive(SurGard(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"\x16\x03\x01\x14" * 3)
    assert items
    assert all(isinstance(item, Rejected) and item.reply == b"" and not item.events for item in items)


def test_a_stranger_is_noise_whatever_ends_a_line() -> None:
    """HEAD and POST have the letters of a line that a maker might have added."""
    for end in ("cr", "none"):
        for word in (b"GET", b"HEAD", b"POST", b"OPTIONS"):
            items = receive(SurGard(end=end), word + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert items
            assert all(isinstance(item, Rejected) and item.reply == b"" and not item.events for item in items)


def test_a_first_line_that_looks_like_none_is_asked_for_and_kept_all_the_same() -> None:
    items = receive(SurGard(), b"50110 181234E12201005\x14" * 4)
    assert [item.reply for item in items] == [b"\x15", b"\x15", b"\x15", b"\x06"]
    assert [(type(item), len(events(item))) for item in items] == [(Rejected, 1)] * 3 + [(Message, 1)]


def test_memory_is_bounded_whatever_comes() -> None:
    link = SurGard().link()
    for data in (b"y" * 65536, b"5011 18" * 9000, b"S011[#" * 9000, b"\x14" * 65536, BEAT[:-1] * 3000):
        link.receive(data, NOW)
        assert len(link._pending) <= 1024
    for n in range(1100):
        link.receive(b"5011 18%04dE13001004\x145011 18%04dx\x14" % (n, n), NOW)
    assert len(link._seen) <= 1024
    assert len(link._naks) <= 8


SIGNS = [b"\x14", b"\x00", b"\r\n", b"5011 18", b"S011[#", b" "]


@given(hostile([unescape(row["frame"]) for row in FRAMES], SIGNS), st.lists(st.integers(0, 300), max_size=6))
def test_any_bytes_cut_anywhere_never_raise_and_read_the_same(data: bytes, cuts: list[int]) -> None:
    assert receive(SurGard(), *cut(data, cuts)) == receive(SurGard(), data)


@given(st.integers(0, len(GOOD) - 2), st.integers(0, 6))
def test_a_flipped_bit_loses_neither_the_line_before_nor_the_one_after(at: int, bit: int) -> None:
    bad = bytearray(GOOD)
    bad[at] ^= 1 << bit
    items = receive(SurGard(), BEAT + OTHER + bytes(bad) + OTHER.replace(b"004", b"005"))
    good = [item for item in items if isinstance(item, Message) and item.events[0].qualifier == "restore"]
    assert {item.events[0].zone for item in good} >= {"004", "005"}
    told = [event for item in items for event in events(item)]
    assert len(told) >= 3, "the damaged line is in the journal, whatever became of it"
