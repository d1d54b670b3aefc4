"""The files of Asterisk's AlarmReceiver: every vector, both layouts of metadata, damaged files, and any bytes at all."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from protocols.asterisk import Asterisk, build, read
from protocols.errors import Reason
from protocols.event import Category
from protocols.link import Message, Rejected, unescape
from tests.protocols.lines import NOW, cut, each, events, hostile, receive, rows

FRAMES = rows("asterisk")
each_frame = each(FRAMES)
GOOD = b"1234181131010158\n"


@each_frame
def test_a_line_is_built_back(row: Any) -> None:
    (item,) = receive(Asterisk(), unescape(row["frame"]))
    frame = read(item.frame)
    assert frame
    if frame.kind == "contact_id":
        built = build(frame)
        again = read(built.strip())
        assert again
        assert msgspec.structs.replace(again, checksum=frame.checksum) == frame
        assert frame.checksum == "_" or item.frame.removeprefix(b"event=") == built.strip()


def test_metadata_goes_with_each_event() -> None:
    meta = b"PROTOCOL=ADEMCO_CONTACT_ID\nCALLINGFROM=0102030405\n[events]\n\n"
    first, second = receive(Asterisk(), meta + GOOD + b"1234183131010156\n")
    for item in (first, second):
        (event,) = events(item)
        assert event.extended == (("PROTOCOL", "ADEMCO_CONTACT_ID"), ("CALLINGFROM", "0102030405"))


def test_a_checksum_that_does_not_fit_is_told_and_the_event_kept() -> None:
    (item,) = receive(Asterisk(), b"1234181131010157\n")
    assert isinstance(item, Message)
    assert item.mark == "its checksum is 7, its digits give 8"
    assert receive(Asterisk(), GOOD)[0].mark == ""  # type: ignore[union-attr] # a Message, as above


def test_the_key_d_is_the_ten_of_one_dialler() -> None:
    """See `contact_id.from_tones`: the sum of these fifteen wants a ten, which is written 0."""
    ten, none = receive(Asterisk(), b"123418113001019D\n123418113001008_\n")
    assert isinstance(ten, Message)
    assert isinstance(none, Message)
    assert (ten.mark, none.mark) == ("", "")
    assert read(b"123418113001019D") == read(b"1234181130010190")


def test_what_cannot_be_read_is_kept_and_raised() -> None:
    items = receive(Asterisk(), b"1234D81131010158\n12\n12341811\n\xff\xfe\n" + GOOD)
    assert [type(item) for item in items] == [Message, Rejected, Message, Rejected, Message]
    assert [event.category for item in items[:4] for event in events(item)] == [Category.UNKNOWN] * 2
    assert [item.error.reason for item in items if isinstance(item, Rejected)] == [Reason.NOISE] * 2


def test_the_same_file_read_twice_is_a_retransmission_and_another_call_is_none() -> None:
    def identity(time: bytes) -> str:
        (item,) = receive(Asterisk(), b"TIMESTAMP=" + time + b"\n" + GOOD)
        assert isinstance(item, Message)
        return item.identity

    assert identity(b"10:00") == identity(b"10:00") != identity(b"10:01")


def test_memory_is_bounded_whatever_comes() -> None:
    link = Asterisk().link()
    for n in range(40):
        link.receive(b"y" * 65536 + b"\nKEY%c%c=x\n" % (65 + n % 26, 65 + n // 26), NOW)
        assert len(link._pending) <= 256
    assert len(link._metadata) <= 32


@given(
    hostile([unescape(row["frame"]) for row in FRAMES], [b"\n", b"=", b"event=", b"\r\n"]),
    st.lists(st.integers(0, 300), max_size=6),
)
def test_any_bytes_cut_anywhere_never_raise_and_read_the_same(data: bytes, cuts: list[int]) -> None:
    assert receive(Asterisk(), *cut(data, cuts)) == receive(Asterisk(), data)
