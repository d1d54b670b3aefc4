"""What we send is what others read: an independent codec reads our answers, and we read what we build."""

import re
from collections.abc import Callable
from typing import Any, Literal, get_args

import pytest
from siadc09 import message as independent

from protocols.dc09 import DIALECTS, Dc09, Dialect, Frame, build, build_nak, read_reply
from protocols.link import LinkTest, Message, Policy, unescape
from tests.protocols.dc09.vectors import FRAMES, NOW, receive, receive_row

KEYS = [b"", b"0123456789abcdef", b"0123456789abcdef01234567", b"0123456789abcdef0123456789abcdef"]
FRAME = Frame(id_token="SIA-DCS", sequence="0042", receiver="1F", account="12AB", data="#12AB|Nri1/BA005^Entrée^", timestamp=NOW)
parse: Callable[..., Any] = independent.parse_frame
ANSWER = re.compile(rb'\n[0-9A-F]{8}"[^"]*"[0-9]{4}(R[0-9A-F]+)?L0#([0-9A-Fa-f]+)\[')
"""What the independent codec can hold: a checksum in digits, a decimal sequence, an account that is a number."""
INDEPENDENT = [
    row
    for row in FRAMES
    if row["reply"].startswith(("\\n", "*ACK", "DUH")) and ANSWER.match(receive_row(row, unescape(row["frame"]))[0].reply)
]


@pytest.mark.parametrize("row", INDEPENDENT, ids=lambda row: row["name"][:40])
def test_an_independent_codec_reads_our_answer(row: Any) -> None:
    (item,) = receive_row(row, unescape(row["frame"]))
    answer = ANSWER.match(item.reply)
    assert answer
    number = int(answer[2], 16)
    read = parse(item.reply, bytes.fromhex(row["key"]) if "key" in row else None)
    assert read.idtoken in {"ACK", "DUH", "NAK"}
    assert (read.account.acct, read.encrypted) == (number & 0xFFFFFFFFFFFFFFFF, item.reply[10:11] == b"*")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_every_dialect_is_built_recognised_and_read_back(dialect: Dialect, key: bytes) -> None:
    policy = Policy(keys=(key,)) if key else Policy()
    data = build(FRAME, key=key, dialect=dialect)
    (item,) = receive(data, policy=policy)
    assert isinstance(item, Message), item
    nothing_in_clear = dialect == "bracket_in_clear" and not key
    assert set(item.dialects) == (set() if nothing_in_clear or not dialect else {dialect})
    assert item.events[0].text == "Entrée"
    assert Dc09().explain(item.frame, policy) == (FRAME if not key else Frame(**{**as_dict(FRAME), "encrypted": True}))
    reply = read_reply(item.reply, key)
    assert reply
    assert (reply.id_token, reply.sequence, reply.receiver, reply.line, reply.account) == ("ACK", "0042", "1F", "0", "12AB")
    assert (reply.encrypted, reply.timestamp) == (bool(key), NOW if key else None)
    assert (item.reply[7:8] == b'"') == (dialect == "binary_crc"), "answered in kind"


def as_dict(frame: Frame) -> dict[str, Any]:
    return {field: getattr(frame, field) for field in frame.__struct_fields__}


def test_each_dialect_has_a_vector() -> None:
    assert set(DIALECTS) == {name for row in FRAMES for name in row.get("dialects", ())}


@pytest.mark.parametrize(("pad", "begins"), [(b"", b"0"), (b"p", b"p"), (b"\xff\x00" * 9, b"\xff\x00")])
def test_a_pad_of_any_length_is_as_given(pad: bytes, begins: bytes) -> None:
    (item,) = receive(build(FRAME, key=KEYS[1], pad=pad), policy=Policy(keys=(KEYS[1],)))
    assert isinstance(item, Message)
    assert begins


@pytest.mark.parametrize("year", [2017, 2026])
def test_the_answers_pad_is_as_long_as_the_panels_year_has_it(year: int) -> None:
    (item,) = receive(build(FRAME, key=KEYS[1], pad=b"x" * (16 if year == 2026 else 0)), policy=Policy(keys=(KEYS[1],)))
    assert len(item.reply.partition(b"[")[2]) - 1 == (96 if year == 2026 else 64)


def test_two_answers_are_never_the_same_ciphertext() -> None:
    first, second = (receive(build(FRAME, key=KEYS[1], pad=pad), policy=Policy(keys=(KEYS[1],)))[0].reply for pad in (b"a", b"b"))
    assert first[-30:] != second[-30:]


@pytest.mark.parametrize("binary", [False, True])
def test_a_nak_has_the_time_in_clear_and_is_read_by_a_panel(binary: bool) -> None:  # noqa: FBT001 - given
    spellings: tuple[Literal["A0", "#0"], ...] = ("A0", "#0")
    for spelling in spellings:
        nak = build_nak(NOW, spelling, binary=binary)
        read = read_reply(nak)
        assert read
        assert (read.id_token, read.timestamp, read.encrypted) == ("NAK", NOW, False)
        assert f"R0L0{spelling}[]_10:00:00,11-22-2026\r".encode() in nak
    assert parse(build_nak(NOW, "#0")).timestamp == NOW


def test_a_damaged_answer_and_another_keys_answer_are_none() -> None:
    item = receive(build(FRAME, key=KEYS[1]), policy=Policy(keys=(KEYS[1],)))[0]
    assert read_reply(item.reply, KEYS[1])
    assert read_reply(item.reply, KEYS[2]) is read_reply(item.reply) is read_reply(item.reply[:-1], KEYS[1]) is None
    assert read_reply(item.reply.replace(b"0042", b"0043"), KEYS[1]) is read_reply(b"", KEYS[1]) is read_reply(b"GET /") is None


def test_every_vector_that_can_be_is_built_back() -> None:
    """By the standard, or in a dialect of the frame around it: the same bytes."""
    built = 0
    for row in FRAMES:
        data = unescape(row["frame"])
        (item,) = receive_row(row, data)
        frame = Dc09().explain(data)
        if (
            not isinstance(item, Message | LinkTest)
            or frame is None
            or frame.encrypted
            or set(item.dialects) - set(get_args(Dialect))
        ):
            continue
        if (
            len(item.dialects) > 1
            or "length" in item.dialects
            or "K" in dict(frame.extended)
            or not frame.account
            or item.mark[:3] == "its"
        ):
            continue
        assert build(frame, dialect=next(iter(item.dialects), "")) == data, row["name"]  # type: ignore[arg-type] # one of them
        built += 1
    assert built > 60
