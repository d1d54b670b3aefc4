"""
Structured logs: JSON lines on stdout, coloured text where stdout is a terminal.

One line per unit of work, whose keys are the nouns of the gateway's vocabulary; an event's `id` runs through all of them.
Lines are written by a thread of their own: whoever reads them slowly can delay no ACK. What he leaves lying beyond
BACKLOG_BYTES_MAX is dropped and counted: the journal has it.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Final

import msgspec
import structlog

GATHER_S: Final = 0.02
"""Lines wait so long for others: made at once, they would compete with the ACKs that they tell of."""
GATHERED_MAX: Final = 1000
"""So many pieces are written in one go."""
BACKLOG_BYTES_MAX: Final = 16 * 1024 * 1024

_encode = msgspec.json.Encoder(enc_hook=str).encode


class LineWriter:
    """Writes what it is given to a descriptor, in order, from its own thread."""

    def __init__(self, descriptor: int) -> None:
        """descriptor: where to write, open as long as this lives."""
        self._descriptor = descriptor
        # Escaped: a peer's bytes must not take over the terminal of who watches
        self._console = structlog.dev.ConsoleRenderer(repr_native_str=True) if os.isatty(descriptor) else None
        self._queue: SimpleQueue[tuple[int, Callable[[], bytes]] | None] = SimpleQueue()
        self._counting = Lock()
        self._backlog = 0
        self._dropped = 0
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Take whole JSON lines; returns at once."""
        self.write_later(len(lines), lines.count(b"\n"), lambda: lines)

    def write_later(self, size: int, count: int, make: Callable[[], bytes]) -> None:
        """
        Take lines that are yet to be made, by the writer's thread; returns at once.

        size: about how many bytes are kept for them until then. count: how many they are.
        """
        with self._counting:  # the loop and the journal's thread both write
            if self._backlog + size > BACKLOG_BYTES_MAX:
                self._dropped += count
                return
            if self._dropped:
                line = _line(level="error", event="log_dropped", lines=self._dropped, why="the reader of the log is too slow")
                self._queue.put((0, lambda: line))
                self._dropped = 0
            self._backlog += size
            self._queue.put((size, make))

    def close(self) -> None:
        """Write what is left, for at most two seconds."""
        self._queue.put(None)
        self._thread.join(2)

    def _run(self) -> None:
        ended = False
        while not ended:
            taken = [self._queue.get()]
            time.sleep(GATHER_S)
            with suppress(Empty):
                while taken[-1] and len(taken) < GATHERED_MAX:
                    taken.append(self._queue.get_nowait())
            ended = taken[-1] is None
            made = [(size, make()) for size, make in filter(None, taken)]
            self._put_out(b"".join([lines for _, lines in made]))
            with self._counting:
                self._backlog -= sum(size for size, _ in made)

    def _put_out(self, lines: bytes) -> None:
        text = b"".join(map(self._render, lines.splitlines())) if self._console else lines
        view = memoryview(text)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            pass  # nobody reads the log any more: the gateway goes on

    def _render(self, line: bytes) -> bytes:
        assert self._console
        values = msgspec.json.decode(line)
        return f"{self._console(None, '', values)}\n".encode()


def configure() -> LineWriter:
    """Send every structlog line of this process to stdout; returns the writer, to be closed at the end."""
    writer = LineWriter(sys.stdout.fileno())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            lambda _logger, _method, values: _line(**values),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("INFO"),
        logger_factory=lambda *_: _Lines(writer),
        cache_logger_on_first_use=False,
    )
    return writer


class _Lines:
    """What structlog calls with a rendered line."""

    def __init__(self, writer: LineWriter) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = writer.write


def _line(*, level: str, event: str, **values: Any) -> bytes:  # noqa: ANN401 - whatever a log line holds
    return _encode({"timestamp": _timestamp(), "level": level, "event": event, **values}) + b"\n"


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def report_lines(journal_id: str, first: int, bodies: Iterable[bytes]) -> bytes:
    """
    Return one line per journalled report, made of the JSON that the journal holds: encoding it twice would cost too much.

    first: the position of the first. Those that were refused are told apart by their last key, `error`.
    """
    head = f'{{"timestamp":"{_timestamp()}","level":'
    taken, refused = (
        f'{head}"{level}","event":"{event}","id":"{journal_id}-'.encode()
        for level, event in (("info", "message_journalled"), ("warning", "frame_rejected"))
    )
    pieces = list[bytes]()
    for position, body in enumerate(bodies, first):
        told = refused if body.endswith(b"}}") else taken
        pieces += (told, b'%012d","position":%d,' % (position, position), body[1:], b"\n")
    return b"".join(pieces)


def lines(level: str, rows: Iterable[dict[str, Any]]) -> bytes:
    """Return many lines of one moment; each row has its `event` and the keys that belong to it."""
    head = {"timestamp": _timestamp(), "level": level}
    return b"".join([_encode(head | row) + b"\n" for row in rows])
