"""Whatever somebody kept a conversation with: the frames come out as a receiver would have read them."""

import json
from datetime import UTC, datetime

import pytest

from arcgate.capture import Piece, frame_of, pieces
from protocols import dc09
from protocols.link import escape
from tests.conftest import sia

ONE, TWO = dc09.build(sia("1234", "Nri1/BA1")), dc09.build(sia("5678", "Nri1/FA2", 2))


def test_raw_bytes_are_one_peer_s() -> None:
    for data in (ONE + TWO, ONE + b"\0", b"\x16\x03\x01\0", ONE[:20] + b"\xff\x01"):
        assert list(pieces(data)) == [Piece("", data, whole=True)]


def test_each_line_of_text_is_read_as_it_was_written() -> None:
    at = "2026-11-22T15:00:21.500000Z"
    lines = (
        "# panel 12, seen on Sunday",
        escape(ONE),
        f"2026-11-22 15:00:21 DEBUG received {escape(TWO)}",
        escape(ONE)[2:-2],
        ONE.hex(),
        TWO.hex(" ").upper(),
        json.dumps({"event": "message_journalled", "received_at": at, "frame": ONE.decode("latin-1")}),
        json.dumps({"at": at, "frame": escape(TWO), "reply": "x"}),
        json.dumps({"event": "frame_rejected", "timestamp": at[:-1], "frame": "GET / HTTP/1.1"}),
        json.dumps({"event": "started"}),
        json.dumps({"at": "0001-01-01T00:00:00+14:00", "frame": escape(TWO)}),
        '{"frame": "", "deep": ' + "[" * 9999 + "]" * 9999 + "}",
        json.dumps(["frame"]),
        "{broken",
        "",
    )
    found = list(pieces("\r\n".join(lines).encode()))
    assert [piece.data for piece in found] == [ONE, TWO, ONE, ONE, TWO, ONE, TWO, b"GET / HTTP/1.1"]
    assert [piece.peer for piece in found] == [f"line {n}" for n in range(2, 10)]
    moment = datetime(2026, 11, 22, 15, 0, 21, 500000, UTC)
    assert [piece.at for piece in found] == [None] * 5 + [moment] * 3
    assert found[1].note == "35 characters before the frame were left out"
    assert found[2].note == "it was given without the LF at its beginning; it was given without the CR at its end"


def test_what_was_pasted_gets_back_what_pasting_loses_and_nothing_else() -> None:
    binary = b'\n\\\r0012"NULL"0000L0#1[]\r'
    assert frame_of(escape(binary)) == (binary, "")
    assert frame_of(escape(ONE)) == (ONE, "")
    assert frame_of("GET / HTTP/1.1") == (b"GET / HTTP/1.1", "")
    assert frame_of(escape(ONE + TWO)) == (ONE + TWO, "")
    assert frame_of(escape(ONE + b"\0")) == (ONE + b"\0", "")
    with pytest.raises(ValueError, match="backslash"):
        frame_of(r"\q")


NO_ENDS = "it was given without the LF at its beginning; it was given without the CR at its end"
TEXT = escape(ONE)[2:-2]
TAB = dc09.build(sia("1234", "Nri1/BA1^it's a\t\\\xe9^"))


@pytest.mark.parametrize(
    ("text", "frame", "note"),
    [
        (ONE[1:-1].hex(), ONE, NO_ENDS),
        (ONE[1:-1].hex(" "), ONE, NO_ENDS),
        (repr(ONE), ONE, "it was taken out of a literal of Python's"),
        (repr(TAB), TAB, "it was taken out of a literal of Python's; escapes of JSON's or Python's were read in it"),
        (f"received {ONE!r}", ONE, "11 characters before the frame were left out; ' behind the frame was left out"),
        (json.dumps(ONE.decode()), ONE, "escapes of JSON's or Python's were read in it"),
        (json.dumps(escape(ONE)), ONE, "its backslashes, each of which stood twice, were taken once"),
        (escape(ONE).replace('"', r"\""), ONE, "escapes of JSON's or Python's were read in it"),
        (r"\u000a" + TEXT + r"\u000D", ONE, "escapes of JSON's or Python's were read in it"),
        (f"<LF>{TEXT}<CR>", ONE, "<LF> and <CR> were taken for the signs that they name"),
        (f"12:00 <0x0a> {TEXT} <0D>", ONE, "<LF> and <CR> were taken for the signs that they name"),
        (f".{TEXT}.", ONE, f"1 characters before the frame were left out; . behind the frame was left out; {NO_ENDS}"),
        (f"'{TEXT}'", ONE, f"1 characters before the frame were left out; ' behind the frame was left out; {NO_ENDS}"),
    ],
)
def test_a_frame_is_taken_out_of_what_it_was_pasted_with(text: str, frame: bytes, note: str) -> None:
    data, told = frame_of(text)
    assert data == frame
    assert told.startswith(note)


def test_what_belongs_to_a_frame_is_not_taken_for_what_stands_around_it() -> None:
    """Without the CR, only what the length does not count is left out; with it, what may be a frame is kept."""
    shorter = ONE.replace(b"0024", b"0023")
    assert shorter != ONE
    assert frame_of(escape(shorter[1:-1])) == (shorter, NO_ENDS)
    assert frame_of(escape(ONE) + "GET") == (ONE + b"GET", "")
    dots = dc09.build(sia("1234", "Nri1/BA1^...^"))[:-2]
    assert frame_of(escape(dots))[0] == dots + b"\r"


def test_what_is_made_to_be_slow_is_read_all_the_same() -> None:
    """Each sign is looked at a few times: else these would take an hour."""
    for text in ("a" + " " * 2_000_000 + "b", "<LF>" + " " * 2_000_000 + "b"):
        assert len(frame_of(text)[0]) in {len(text), 2}
    headers = b'\n00000FFF"' * 200_000
    assert [piece.data for piece in pieces(headers + b"\0")] == [headers + b"\0"]


@pytest.mark.parametrize("text", ["<LF> <CR>", " <LF>\t <CR> <CR>", "  <CR>  <LF> "])
def test_blanks_around_signs_that_are_named_are_left_out(text: str) -> None:
    assert frame_of(f"x{text}y")[0].split() == [b"x", b"y"]


@pytest.mark.parametrize("line", [repr(ONE), f"<LF>{TEXT}<CR>", json.dumps(escape(ONE)), ONE[1:-1].hex()])
def test_a_capture_has_them_too(line: str) -> None:
    assert [piece.data for piece in pieces(f"{line}\n{line}\n".encode())] == [ONE, ONE]


def test_a_receiver_s_line_is_taken_out_of_a_literal_too() -> None:
    assert frame_of(r"b'5011 181234E13001004\x14'")[0] == b"5011 181234E13001004\x14"
