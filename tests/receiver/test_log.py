"""The log: JSON lines, text on a terminal, and no reader so slow that it delays the gateway."""

import json
import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
import structlog

from protocols.errors import FrameError, Reason
from receiver.journal import Report
from receiver.log import BACKLOG_BYTES_MAX, LineWriter, configure, lines, report_lines
from tests.receiver.conftest import AT, report

HOSTILE = '\x1b[2J\x9b31m\r\n"}}\u0085é'
"""What could clear a terminal, break a line, or pass for the end of a refused report; all of it Latin-1."""


class Pipe:
    """A log's reader, which reads when it is told to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.open = True

    def rest(self) -> list[dict[str, Any]]:
        """Read to the end; each line must be JSON."""
        os.close(self.writer)
        self.open = False
        with os.fdopen(self.reader, "rb") as file:
            return [json.loads(line) for line in file]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    if pipe.open:
        os.close(pipe.writer)
        os.close(pipe.reader)


@contextmanager
def configured(pipe: Pipe) -> Iterator[None]:
    """Log to the pipe, as the gateway does to stdout."""
    with os.fdopen(os.dup(pipe.writer), "w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        writer = configure()
        yield
        writer.close()
    structlog.reset_defaults()


def body(one: Report) -> bytes:
    return msgspec.json.encode(one)


def test_structlog_lines_are_json_with_what_any_type_says(pipe: Pipe) -> None:
    with configured(pipe):
        log = structlog.get_logger()
        log.debug("not told")
        log.info("listening", listener="ip", path=Path("/a"), error=FrameError(Reason.CRC, "wrong"), frame=HOSTILE)
        log.critical("journal_failed")
    first, second = pipe.rest()
    assert list(first)[:3] == ["timestamp", "level", "event"]
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "level": "info",
        "event": "listening",
        "listener": "ip",
        "path": "/a",
        "error": {"reason": "crc", "message": "wrong"},
        "frame": HOSTILE,
    }
    assert (second["level"], second["event"]) == ("critical", "journal_failed")


def test_an_exception_is_told_whole_in_one_line(pipe: Pipe) -> None:
    with configured(pipe):
        try:
            int("the cause")
        except ValueError:
            structlog.get_logger().exception("failed")
    (line,) = pipe.rest()
    assert (line["level"], line["event"]) == ("error", "failed")
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("with base 10: 'the cause'")


def test_a_report_is_one_line_by_whether_it_was_taken() -> None:
    taken, refused = report(HOSTILE), report(HOSTILE, FrameError(Reason.LENGTH, HOSTILE))
    told = report_lines("0b3ee62b", 41, map(body, [taken, refused, report('"}}'), report("", FrameError(Reason.NO_KEY, "x}}"))]))
    rows = [json.loads(line) for line in told.splitlines()]
    assert [row["event"] for row in rows] == ["message_journalled", "frame_rejected"] * 2
    assert [row["level"] for row in rows] == ["info", "warning"] * 2
    assert [row["position"] for row in rows] == [41, 42, 43, 44]
    assert rows[0]["id"] == "0b3ee62b-000000000041"
    assert rows[0]["frame"] == rows[1]["frame"] == HOSTILE
    assert rows[1]["error"] == {"reason": "length", "message": HOSTILE}
    assert " ".join(rows[0]) == "timestamp level event id position received_at listener peer frame events identity"
    assert rows[0]["received_at"] == AT.isoformat().replace("+00:00", "Z")
    assert [event["code"] for event in rows[0]["events"]] == ["BA"]


def test_many_lines_of_one_moment_share_its_time() -> None:
    first, second = map(json.loads, lines("info", [{"event": "alarm_queued", "id": 1}, {"event": "alarm_joined"}]).splitlines())
    assert first == {"timestamp": second["timestamp"], "level": "info", "event": "alarm_queued", "id": 1}
    assert second["event"] == "alarm_joined"


def test_on_a_terminal_it_is_text_that_no_peer_can_take_over() -> None:
    ours, theirs = pty.openpty()
    writer = LineWriter(theirs)
    writer.write(report_lines("0b3ee62b", 1, [body(report(HOSTILE)), body(report("\x1b[2J\x9b31m"))]))
    writer.write(lines("error", [{"event": "failed", "exception": "Traceback\nValueError"}]))
    writer.close()
    os.close(theirs)
    text = b""
    while chunk := read_terminal(ours):
        text += chunk
    os.close(ours)
    shown = text.decode().replace("\r\n", "\n")
    assert "message_journalled" in shown
    assert shown.count(r"\x1b[2J\x9b31m") == 2
    assert "\x1b[2J" not in shown
    assert "\x9b" not in shown
    assert "Traceback\nValueError" in shown
    assert shown.count("\n") == 5


def read_terminal(descriptor: int) -> bytes:
    """Read what is there; a terminal whose other end is closed is an error, not an end."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_a_reader_that_stops_delays_nobody_and_learns_how_much_it_missed(pipe: Pipe) -> None:
    """Nobody reads while far more is written than is kept; all of it is then there or counted."""
    writer = LineWriter(pipe.writer)
    batch = lines("info", [{"event": "message_journalled", "frame": "x" * 900}] * 100)
    batches = 2 * BACKLOG_BYTES_MAX // len(batch)
    for _ in range(batches):
        writer.write(batch)
    assert writer._dropped > 0
    assert writer._backlog <= BACKLOG_BYTES_MAX
    rows: list[dict[str, Any]] = []
    copy = os.dup(pipe.reader)
    with os.fdopen(copy, "rb") as file:
        while writer._backlog > BACKLOG_BYTES_MAX // 2:
            rows.append(json.loads(file.readline()))
        reader = Thread(target=lambda: rows.extend(map(json.loads, file)))
        reader.start()
        writer.write(lines("info", [{"event": "after"}]))
        writer.close()
        os.close(pipe.writer)
        reader.join()
    pipe.open = False
    os.close(pipe.reader)
    (dropped,) = [row for row in rows if row["event"] == "log_dropped"]
    assert [row["event"] for row in rows[-2:]] == ["log_dropped", "after"]
    assert dropped["level"] == "error"
    assert dropped["lines"] + len(rows) - 2 == batches * 100
    assert writer._backlog == 0


def test_a_reader_that_is_gone_stops_nobody(pipe: Pipe) -> None:
    os.close(pipe.reader)
    writer = LineWriter(pipe.writer)
    for _ in range(100):
        writer.write(lines("info", [{"event": "x"}] * 100))
    writer.close()
    assert not writer._thread.is_alive()
    assert writer._backlog == 0
    os.close(pipe.writer)
    pipe.open = False


def write_many(writer: LineWriter, count: int) -> None:
    for _ in range(count):
        writer.write(lines("info", [{"event": "x"}]))


def test_threads_that_write_at_once_lose_no_line_and_no_count(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writer)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    rows: list[dict[str, Any]] = []
    file = os.fdopen(os.dup(pipe.reader), "rb")
    reader = Thread(target=lambda: rows.extend(map(json.loads, file)))
    reader.start()
    try:
        writers = [Thread(target=write_many, args=(writer, 3000)) for _ in range(4)]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        writer.close()
    finally:
        sys.setswitchinterval(before)
    os.close(pipe.writer)
    reader.join()
    file.close()
    os.close(pipe.reader)
    pipe.open = False
    assert (len(rows), writer._backlog) == (12_000, 0)
