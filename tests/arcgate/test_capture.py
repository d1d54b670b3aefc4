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
    with pytest.raises(ValueError, match="backslash"):
        frame_of(r"\q")
