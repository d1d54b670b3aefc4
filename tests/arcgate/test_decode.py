"""`arcgate decode` for the integrator who has a frame and a question."""

import json
import os
import pty
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from arcgate.__main__ import app
from protocols import dc09
from protocols.link import unescape
from tests.conftest import ARCGATE, run_arcgate, sia

VECTORS = Path(__file__).parents[2] / "fixtures" / "dc09" / "frames.jsonl"
BURGLARY = r'\n90D8002A"SIA-DCS"0001L0#0123[#0123|Nri1BA3|Ahello]\r'


def decode(*words: object, stdin: bytes = b"") -> list[dict[str, Any]]:
    done = run_arcgate("decode", *words, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_frame_is_told_field_by_field_with_its_events_and_reply() -> None:
    (told,) = decode(BURGLARY)
    assert list(told)[:5] == ["received", "frame", "events", "reply", "error"]
    assert told["received"] == "message"
    assert told["frame"] == {
        "id_token": "SIA-DCS",
        "encrypted": False,
        "sequence": "0001",
        "receiver": None,
        "line": "0",
        "account": "0123",
        "data": "#0123|Nri1BA3|Ahello",
        "extended": [],
        "timestamp": None,
    }
    (event,) = told["events"]
    assert event == {
        "account": "0123",
        "format": "sia",
        "code": "BA",
        "qualifier": "new",
        "category": "burglary",
        "partition": "1",
        "zone": "3",
        "user": None,
        "occurred_at": None,
        "text": "hello",
        "label": "Burglary alarm",
    }
    assert told["reply"] == r'\nF7340012"ACK"0001L0#0123[]\r'
    assert told["error"] is None


def test_all_vectors_on_stdin_are_told_one_line_each_in_their_order() -> None:
    rows = [json.loads(line) for line in VECTORS.read_text().splitlines()]
    rows = [row for row in rows if row["received"] != "rejected"]
    told = decode(stdin=b"".join(unescape(row["frame"]) for row in rows))
    assert [(line["received"], line["reply"]) for line in told] == [(row["received"], row["reply"]) for row in rows]
    assert [line["frame"]["data"] for line in told] == [row["fields"]["data"] for row in rows]


def test_a_refused_frame_shows_its_fields_and_why() -> None:
    (told,) = decode(BURGLARY.replace("90D8", "90D9"))
    assert (told["received"], told["reply"], told["events"]) == ("rejected", "", [])
    assert told["error"]["reason"] == "crc"
    assert "90D8" in told["error"]["message"]
    assert told["frame"]["account"] == "0123"


def test_noise_is_no_frame_and_gets_no_answer() -> None:
    (told,) = decode(stdin=b"GET / HTTP/1.1\r\n\r\n")
    assert (told["received"], told["frame"], told["reply"]) == ("rejected", None, "")
    assert told["error"]["reason"] == "noise"


def test_a_time_without_a_date_is_that_nearest_to_now() -> None:
    frame = dc09.build(sia("1", "Nti23:59:00/BA1"))
    (told,) = decode("--now", "2026-01-01T00:01:00", stdin=frame)
    assert datetime.fromisoformat(told["events"][0]["occurred_at"]) == datetime(2025, 12, 31, 23, 59, tzinfo=UTC)


def test_a_wrong_escape_and_an_unknown_protocol_are_usage_errors() -> None:
    assert CliRunner().invoke(app, ["decode", r"\q"]).exit_code == 2
    done = CliRunner().invoke(app, ["decode", "--protocol", "x25", "A"])
    assert done.exit_code == 2
    assert "dc09" in done.stderr


def test_on_a_terminal_the_brackets_of_a_frame_are_there() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([ARCGATE, "decode", BURGLARY], stdout=theirs, env={**os.environ, "COLUMNS": "120"}) as decoding:
        os.close(theirs)
        page = b""
        try:
            while data := os.read(ours, 4096):
                page += data
        except OSError:  # the terminal's other side is closed
            pass
    os.close(ours)
    assert decoding.returncode == 0
    assert b"L0#0123[#0123|Nri1BA3|Ahello]" in page
    assert b"Burglary alarm" in page
