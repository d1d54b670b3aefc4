"""The DC-09 link: every vector whole, byte by byte, after noise and twice in one read; and any bytes at all."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, get_args

import msgspec
import pytest
from fastcrc.crc16 import arc
from hypothesis import given
from hypothesis import strategies as st

from protocols.dc09 import FRAME_BYTES_MAX, Dc09, Dialect, Frame, Rules, build, link, read_reply
from protocols.errors import Reason
from protocols.event import Category, Format
from protocols.link import LinkTest, Message, Policy, Received, Rejected, escape, unescape
from tests.protocols.dc09.vectors import FRAMES, KINDS, NOW, STREAMS, now_of, policy_of, receive, receive_row

each_frame = pytest.mark.parametrize("row", FRAMES, ids=lambda row: row["name"][:40])
each_stream = pytest.mark.parametrize("row", STREAMS, ids=lambda row: row["name"])


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def body(text: str) -> bytes:
    """Wrap a body that `build` would not write."""
    raw = text.encode()
    return b"\n%04X%04X%b\r" % (arc(raw), len(raw), raw)


def only(data: bytes) -> Received:
    (item,) = receive(data)
    return item


def without_what_follows(items: list[Received]) -> list[Received]:
    """What follows a CR is seen in the same read alone: all else must be the same."""
    after = {"nul_after_cr", "lf_after_cr"}
    return [
        item
        if isinstance(item, Rejected)
        else msgspec.structs.replace(item, dialects=tuple(n for n in item.dialects if n not in after))
        for item in items
    ]


@pytest.mark.parametrize("data", [b"\n00000000", b"\n00000000\r", b'\n00000000"', b'\n00000000"\r', b"\n\r", b"\r", b"\n"])
def test_a_header_with_nothing_behind_it_is_noise_whole_or_cut(data: bytes) -> None:
    """The checksum and the length of nothing are zeros."""
    frame = build(Frame(id_token="NULL", sequence="0000", account="1234"))
    whole, cut = receive(data + frame), receive(*one_by_one(data + frame))
    assert receive(data) == receive(*one_by_one(data))
    assert whole == cut
    assert isinstance(whole[-1], LinkTest)


@each_frame
def test_vector_is_read_as_its_source_says(row: Any) -> None:
    (item,) = receive_row(row, unescape(row["frame"]))
    assert KINDS[type(item)] == row["received"], item
    if isinstance(item, Rejected):
        assert item.error.reason == row["reason"]
    else:
        assert set(row.get("dialects", item.dialects)) == set(item.dialects)
        assert item.mark.startswith(row.get("mark", ""))
        assert "mark" not in row or bool(item.mark) == bool(row["mark"])
    if row["reply"] == "DUH":
        assert b'"DUH"' in item.reply
    elif row["reply"] == "*ACK":
        reply = read_reply(item.reply, bytes.fromhex(row["key"]))
        assert reply
        assert (reply.id_token, reply.encrypted, reply.timestamp) == ("ACK", True, now_of(row))
        assert unescape(row["frame"]).split(b'"')[2].split(b"[")[0] == item.reply.split(b'"')[2].split(b"[")[0]
    else:
        assert escape(item.reply) == row["reply"]
    if "fields" in row:
        frame = Dc09().explain(item.frame, policy_of(row))
        assert frame
        shown = {field: getattr(frame, field) for field in frame.__struct_fields__}
        shown["extended"] = [list(pair) for pair in frame.extended]
        shown["timestamp"] = frame.timestamp.isoformat().replace("+00:00", "Z") if frame.timestamp else None
        assert shown.items() >= row["fields"].items()


@pytest.mark.parametrize("row", [row for row in FRAMES if row.get("events")], ids=lambda row: row["name"][:40])
def test_vector_gives_its_events(row: Any) -> None:
    (item,) = receive_row(row, unescape(row["frame"]))
    assert isinstance(item, Message)
    assert len(item.events) == len(row["events"])
    for event, expected in zip(item.events, row["events"], strict=True):
        assert event.account in row["frame"]
        assert event.code == expected["code"]
        assert (event.zone or event.user or event.partition) == expected["address"] or expected["address"] is None
        assert event.partition == expected["partition"] or expected["partition"] is None
        assert event.text == expected.get("text", event.text)
        assert "qualifier" not in expected or event.qualifier == expected["qualifier"]


@each_frame
def test_cuts_make_no_difference(row: Any) -> None:
    data = unescape(row["frame"])
    whole = without_what_follows(receive_row(row, data))
    assert without_what_follows(receive_row(row, *one_by_one(data))) == whole
    assert without_what_follows(receive_row(row, data[:20], data[20:])) == whole


@each_frame
def test_a_frame_after_noise_and_twice_in_one_read(row: Any) -> None:
    data = unescape(row["frame"])
    (item,) = without_what_follows(receive_row(row, data))
    found = without_what_follows(receive_row(row, b"GET / HTTP/1.1\r\n\r\n " + data + data))
    if row.get("reason") == "foreign":
        assert all(each.reply == b"" for each in found)
    else:
        assert [each for each in found if each.frame == item.frame] == [item, item]


@each_stream
def test_stream_gives_its_frames(row: Any) -> None:
    chunks = [bytes.fromhex(chunk) for chunk in row["chunks_hex"]]
    frames = [unescape(frame) for frame in row["frames"]]
    items = without_what_follows(receive(*chunks))
    assert [item.frame for item in items if not isinstance(item, Rejected) or item.error.reason is Reason.CRC] == frames
    assert without_what_follows(receive(b"".join(chunks))) == items
    assert without_what_follows(receive(*one_by_one(b"".join(chunks)))) == items
    assert all(item.reply == b"" for item in items if isinstance(item, Rejected))


GOOD = Frame(id_token="SIA-DCS", sequence="0001", line="0", account="1234", data="#1234|Nri1/BA005")


def test_plain_reply_repeats_sequence_receiver_line_and_account() -> None:
    item = only(build(Frame(id_token="SIA-DCS", sequence="0042", receiver="01", line="00A", account="00ab", data="#00ab|NBA1")))
    assert escape(item.reply)[10:] == '"ACK"0042R01L00A#00ab[]\\r'


def test_a_report_that_needs_a_key_is_refused_and_told() -> None:
    item = only(body('"*SIA-DCS"0001L0#1234[00112233445566778899AABBCCDDEEFF'))
    assert isinstance(item, Rejected)
    assert (item.error.reason, item.reply) == (Reason.NO_KEY, b"")
    assert [(event.account, event.category) for event in item.events] == [("1234", Category.GENERATED)]


@pytest.mark.parametrize("token", ["ACK", "NAK", "DUH", "RSP"])
def test_an_answer_gets_no_answer(token: str) -> None:
    item = only(body(f'"{token}"0001L0#1234[]'))
    assert isinstance(item, Rejected)
    assert (item.error.reason, item.reply, item.events) == (Reason.ANSWER, b"", ())


def test_a_token_in_no_list_is_answered_duh_and_told() -> None:
    item = only(body('"SIA-XYZ"0007L0#1234[abc]'))
    assert isinstance(item, Rejected)
    assert escape(item.reply)[10:] == '"DUH"0007L0#1234[]\\r'
    assert item.events


@pytest.mark.parametrize(
    "content", ['"SIA-PUL"0001L0#1234[abc]', '"SIA-DCS"0001L0#1234[]', '"ADM-CID"0001L0#1234[#1234|9999 rubbish]']
)
def test_what_cannot_be_read_is_acknowledged_and_raised_as_unknown(content: str) -> None:
    item = only(body(content))
    assert isinstance(item, Message)
    assert b'"ACK"0001L0#1234[]' in item.reply
    assert [(event.format, event.category) for event in item.events] == [(Format.RAW, Category.UNKNOWN)]
    assert content[1:8] in (item.events[0].text or "")


def test_an_unknown_code_is_kept_and_acknowledged() -> None:
    item = only(body('"SIA-DCS"0001L0#1234[#1234|NQZ7]'))
    assert isinstance(item, Message)
    assert [(event.code, event.category, event.zone) for event in item.events] == [("QZ", Category.UNKNOWN, "7")]


@pytest.mark.parametrize("content", ["NULL", "XNM"])
@pytest.mark.parametrize("data", ["", "#0000|0000 00 000"])
def test_link_tests_may_carry_data(content: str, data: str) -> None:
    item = only(body(f'"{content}"0000R0L0#1234[{data}]_10:00:00,11-22-2026'))
    assert isinstance(item, LinkTest)
    assert b'"ACK"0000R0L0#1234[]' in item.reply


def test_the_inner_account_may_be_missing_or_another() -> None:
    for data in ("|Nri1/BA5", "Nri1/BA5", "#0000|Nri1/BA5", "#1234|Nri1/BA5"):
        item = only(body(f'"SIA-DCS"0001L0#1234[{data}]'))
        assert isinstance(item, Message)
        assert [(event.account, event.code, event.zone) for event in item.events] == [("1234", "BA", "5")]


def test_time_of_occurrence_is_the_h_field() -> None:
    item = only(body('"SIA-DCS"0001L0#1234[#1234|NBA5][H09:59:58,11-22-2026][X006E07.7]'))
    assert isinstance(item, Message)
    assert item.events[0].occurred_at == datetime(2026, 11, 22, 9, 59, 58, tzinfo=UTC)
    assert item.events[0].extended == (("H", "09:59:58,11-22-2026"), ("X", "6.1283333"))


def test_text_in_cp1252_and_utf8_passes_the_checksum() -> None:
    for encoding in ("cp1252", "utf-8"):
        raw = '"SIA-DCS"0001L0#1234[#1234|NBA5^Entrée^]'.encode(encoding)
        item = only(b"\n%04X%04X%b\r" % (arc(raw), len(raw), raw))
        assert isinstance(item, Message)
        assert item.events[0].text == "Entrée"


def test_identity_leaves_out_the_time_and_nothing_else() -> None:
    def identity(text: str) -> str:
        item = only(body(text))
        assert isinstance(item, Message)
        return item.identity

    first = identity('"SIA-DCS"0001L0#1234[#1234|NBA5]_10:00:00,11-22-2026')
    assert first == identity('"SIA-DCS"0001L0#1234[#1234|NBA5]_10:00:11,11-22-2026')
    for other in (
        '"SIA-DCS"0002L0#1234[#1234|NBA5]',
        '"SIA-DCS"0001L0#1234[#1234|NBA6]',
        '"SIA-DCS"0001L0#1234[#1234|NBA5][Ihall]',
    ):
        assert first != identity(other)


def test_a_wrong_length_is_a_dialect_whether_too_long_or_too_short() -> None:
    """The reference has a panic button that lies: it is a life, and is taken by its checksum."""
    frame = build(GOOD)
    for length in (b"0001", b"0FFF", b"0029"):
        wrong = frame[:5] + length + frame[9:]
        for chunks in ([wrong], one_by_one(wrong)):
            (item,) = receive(*chunks)
            assert isinstance(item, Message)
            assert (item.dialects, item.events[0].code) == (("length",), "BA")
            assert item.mark.startswith("length: ")
            (refused,) = receive(*chunks, strict=True)
            assert isinstance(refused, Rejected)
            assert (refused.error.reason, refused.reply, len(refused.events)) == (Reason.DIALECT, b"", 1)


def test_a_header_that_promises_more_does_not_swallow_what_follows() -> None:
    good = build(GOOD)
    items = receive(b'\n00000FFF"SIA', good, good)
    assert [type(item) for item in items] == [Rejected, Message, Message]
    assert receive(*one_by_one(b'\n00000FFF"SIA' + good + good)) == items


def test_memory_is_bounded_whatever_comes() -> None:
    link = Dc09().link()
    for data in (b'\n00000FFF"' + b"x" * 10, b"y" * 65536, b"\n" * 65536, b'\n0000000A"\r' * 6000):
        for _ in range(20):
            link.receive(data, NOW)
            assert len(link._pending) <= FRAME_BYTES_MAX
    assert link.noise_bytes == 20 * (20 + 65536 * 2 + 66000)


@pytest.mark.parametrize(
    "pattern", [b'\n12340FFF"' + b"\r" * 10, b'\n12340FFF"' + b"\r" * 4000, b'\n0000000A"\r', b'\n12340FFF"']
)
def test_noise_made_to_be_slow_is_read_in_time_that_grows_with_its_length(pattern: bytes) -> None:
    """Each byte is summed once for the header before it: 64 kB take some ms, where they took ten seconds."""
    noise = (pattern * (65536 // len(pattern) + 1))[:65536]
    counted = 0

    def counting(data: bytes, initial: int = 0) -> int:
        nonlocal counted
        counted += len(data)
        return arc(data, initial)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("protocols.dc09.link.arc", counting)
        assert all(isinstance(item, Rejected) for item in receive(noise))
    assert counted < 3 * len(noise)


@pytest.mark.parametrize("filling", [b"\n", b"\n00000FFF", b"x"])
def test_a_frame_that_comes_byte_by_byte_is_looked_through_once_for_what_cuts_it_off(filling: bytes) -> None:
    """A header that promises 4095 bytes, and LFs: each byte that came had all before it searched again."""
    noise = (b'\n00000FFF"' + filling * FRAME_BYTES_MAX)[:FRAME_BYTES_MAX]
    searched = 0

    class Counting:
        def search(self, buffer: bytes, begin: int, limit: int) -> re.Match[bytes] | None:
            nonlocal searched
            searched += max(0, min(limit, len(buffer)) - begin)
            return led_header.search(buffer, begin, limit)

    led_header = link._LED_HEADER
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link, "_LED_HEADER", Counting())
        receive(*one_by_one(noise))
    assert searched < 20 * len(noise)


def test_an_account_of_any_kind_is_taken_whole() -> None:
    for account in ("12-34", "AB_12", "12345678901234567890", "foc7688", "1"):
        item = only(body(f'"SIA-DCS"0001L1234567#{account}[#{account}|NBA5]'))
        assert isinstance(item, Message)
        assert f"L1234567#{account}[]".encode() in item.reply
        assert [(event.account, event.code) for event in item.events] == [(account, "BA")]


def test_an_account_ends_at_the_time_where_no_bracket_is_between() -> None:
    item = only(body('"NULL"0000L0#1234_10:00:00,11-22-2026'))
    assert isinstance(item, LinkTest)
    assert (item.account, item.ahead_s) == ("1234", 0)


def test_a_clock_that_is_off_is_marked_and_acknowledged() -> None:
    def mark(time: str) -> str:
        item = only(body(f'"SIA-DCS"0001L0#1234[#1234|NBA5]{time}'))
        assert isinstance(item, Message)
        return item.mark

    assert mark("") == mark("_10:00:15,11-22-2026") == mark("_09:59:25,11-22-2026") == ""
    assert mark("_13:00:00,11-22-2026").startswith("the panel's clock is 3 h ahead: does it send local time?")
    assert mark("_09:58:00,11-22-2026") == "the panel's clock is 2 min behind: set it"
    assert mark("_10:00:21,11-22-2026") == "the panel's clock is 21 s ahead: set it"
    assert "cannot be read" in mark("_25:00:00,11-22-2026")
    assert "cannot be read" in mark("_yesterday")


def test_a_frame_without_its_cr_is_told_as_that() -> None:
    item = only(build(GOOD)[:-1])
    assert isinstance(item, Rejected)
    assert (item.error.reason, item.reply) == (Reason.MALFORMED, b"")
    assert Dc09().explain(item.frame) == GOOD


def test_an_empty_extended_block_swallows_no_other() -> None:
    item = only(body('"SIA-DCS"0001L0#1234[#1234|NBA5/FA6][][H09:59:58,11-22-2026]'))
    assert isinstance(item, Message)
    assert [event.occurred_at for event in item.events] == [datetime(2026, 11, 22, 9, 59, 58, tzinfo=UTC)] * 2
    assert [event.extended for event in item.events] == [(("", ""), ("H", "09:59:58,11-22-2026")), ()]


KEY = b"0123456789abcdef"
SEALED = build(Frame(id_token="SIA-DCS", sequence="0009", account="1234", data="#1234|Nri1/BA005", timestamp=NOW), key=KEY)
pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([unescape(row["frame"]) for row in FRAMES]),
        st.sampled_from([build(GOOD, dialect=dialect) for dialect in get_args(Dialect)]),
        st.sampled_from([build(GOOD, key=KEY, dialect=dialect) for dialect in get_args(Dialect)] + [SEALED, SEALED[:40]]),
        st.sampled_from(
            [b"\n", b"\r", b'\n00000FFF"', b'\n0000000A"\r', b'\nC0DE0010"', b'\n\r\n0010"', b'AB120010"', build(GOOD)[:30]]
        ),
    ),
    max_size=8,
).map(b"".join)
policies = st.sampled_from(
    [None, Policy(), Policy(keys=(KEY,)), Policy(keys=(KEY,), time="ignore"), Policy(time="enforce_plain")]
)


@given(pieces, st.lists(st.integers(0, 400), max_size=6), policies, st.sampled_from([Rules(), Rules(strict=True)]))
def test_any_bytes_cut_anywhere_never_raise_and_read_the_same(
    data: bytes, cuts: list[int], policy: Policy | None, rules: Rules
) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in pairwise(places)]
    cut = without_what_follows(receive(*chunks, policy=policy, strict=rules.strict))
    assert cut == without_what_follows(receive(data, policy=policy, strict=rules.strict))


plain = st.text(st.characters(codec="ascii", exclude_characters='[]|"\r\n', exclude_categories=["Cc"]), max_size=30)


@given(
    st.builds(
        Frame,
        id_token=st.sampled_from(["SIA-DCS", "ADM-CID", "NULL"]),
        sequence=st.integers(0, 9999).map("{:04}".format),
        receiver=st.none() | st.text("0123456789ABCDEF", min_size=1, max_size=6),
        line=st.text("0123456789ABCDEF", max_size=6),
        account=st.text("0123456789ABCDEFabcdef", min_size=1, max_size=16),
        data=plain,
        extended=st.lists(st.tuples(st.sampled_from("AHILMXYZ"), plain), max_size=3).map(tuple),
        timestamp=st.none()
        | st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1)).map(lambda t: t.replace(microsecond=0, tzinfo=UTC)),  # noqa: DTZ001 - given a zone at once
    )
)
def test_build_and_explain_are_inverse(frame: Frame) -> None:
    data = build(frame)
    shown = Dc09().explain(data)
    assert shown == frame
    assert not isinstance(only(data), Rejected)


@given(st.binary(max_size=200))
def test_escape_and_unescape_are_inverse(data: bytes) -> None:
    text = escape(data)
    assert text.isascii()
    assert text.isprintable()
    assert unescape(text) == data
