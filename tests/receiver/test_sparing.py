"""One line a minute of each kind and address, and no flood of them from addresses that are made up."""

import pytest
from structlog.testing import capture_logs

from receiver.sparing import AGAIN_S, LINES_MAX, SparingLog


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> SparingLog:
    return SparingLog(clock)


def test_a_line_is_written_once_a_minute_for_each_address_and_cause(lines: SparingLog, clock: Clock) -> None:
    with capture_logs() as logs:
        for _ in range(5):
            lines.tell("frame_rejected", "192.0.2.1", "crc", frame="a")
        lines.tell("frame_rejected", "192.0.2.1", "noise", frame="b")
        lines.tell("frame_rejected", "192.0.2.2", "crc", frame="c")
        lines.tell("peer_closed", "192.0.2.1", "crc", frame="d", level="info")
        assert [line["frame"] for line in logs] == ["a", "b", "c", "d"]
        clock.now += AGAIN_S
        lines.tell("frame_rejected", "192.0.2.1", "crc", frame="e")
    spared, last = logs[4:]
    assert spared == {
        "event": "lines_not_logged",
        "log_level": "warning",
        "of": "frame_rejected",
        "host": "192.0.2.1",
        "cause": "crc",
        "count": 4,
    }
    assert last == {"event": "frame_rejected", "log_level": "warning", "frame": "e"}


def test_what_was_not_written_is_said_at_the_end_and_only_once(lines: SparingLog) -> None:
    lines.tell("source_refused", "192.0.2.1", "")
    lines.tell("source_refused", "192.0.2.1", "")
    with capture_logs() as logs:
        lines.flush()
        lines.flush()
    assert [line["count"] for line in logs] == [1]


def test_addresses_that_are_made_up_neither_fill_the_log_nor_the_memory(lines: SparingLog) -> None:
    with capture_logs() as logs:
        for n in range(100_000):
            lines.tell("frame_rejected", f"10.0.{n >> 8}.{n & 255}", "crc")
        assert len(logs) == LINES_MAX
        assert len(lines._said) + len(lines._spared) <= LINES_MAX + 1
        lines.tell("tls_refused", "192.0.2.1", "")
        lines.flush()
    assert logs[LINES_MAX]["event"] == "tls_refused"
    assert (logs[-1]["host"], logs[-1]["count"]) == ("others", 100_000 - LINES_MAX)
