"""The running receiver: it starts whole or not at all, tells how it is, and stops with nothing half-done."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import enumerate as threads
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from receiver import status
from receiver.accounts import Accounts
from receiver.config import Config, Listener, Redis
from receiver.delivered import Delivered
from receiver.journal import Journal, JournalError, JournalReader
from receiver.listen import ListenError, TcpListener
from receiver.log import LineWriter
from receiver.receive import Receiver, socket_path, watch_path
from receiver.segment import Segment, chain, create, first_digest
from tests.receiver.certificates import Certificate
from tests.receiver.conftest import Panel, ack, connect, event, fill_disk, listen, null, stored, until

PANELS = 100
STOP_S_MAX = 5.0


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
async def lines(log_path: Path) -> AsyncIterator[LineWriter]:
    with log_path.open("wb") as file:
        writer = LineWriter(file.fileno())
        yield writer
        writer.close()


def config(state_dir: Path, *listeners: Listener, **guarantees: Any) -> Config:
    return Config(state_dir, state_dir / "accounts", state_dir / "sites", Redis(), listeners or (listen(),), **guarantees)


@asynccontextmanager
async def running(state_dir: Path, lines: LineWriter, **guarantees: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(config(state_dir, **guarantees), Accounts(), lines)
    await receiver.start()
    try:
        yield receiver
    finally:
        if receiver.journal._thread.is_alive():
            await receiver.stop()


@pytest.fixture
async def receiver(state_dir: Path, lines: LineWriter) -> AsyncIterator[Receiver]:
    async with running(state_dir, lines) as receiver:
        yield receiver


async def begin(receiver: Receiver, receive_bytes: int = 0) -> Panel:
    return Panel(*await asyncio.open_connection(sock=connect(address(receiver), receive_bytes)))


def address(receiver: Receiver) -> tuple[str, int]:
    host, _, port = receiver._listeners[0].addresses[0].rpartition(":")
    return host, int(port)


class BusyPanel(asyncio.Protocol):
    """Keeps ten reports under way, and notes which were acknowledged."""

    goes_on = True

    def __init__(self, account: str) -> None:
        self.account, self.sent, self.acknowledged = account, 0, 0
        self.ended = False
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.begin()

    def begin(self) -> None:
        self.send(10)

    def send(self, count: int) -> None:
        for _ in range(count):
            self.sent += 1
            self.transport.write(event(self.sent, self.account))

    def data_received(self, data: bytes) -> None:
        *answers, self._heard = (self._heard + data).split(b"\r")
        for answer in answers:
            self.acknowledged += 1
            assert answer + b"\r" == ack(self.acknowledged, self.account)
        if self.goes_on:
            self.send(len(answers))

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended = True


class LatePanel(BusyPanel):
    """Sends a flood, and reads no answer before it is told to."""

    goes_on = False

    def begin(self) -> None:
        self.transport.pause_reading()
        self.send(9_000)


async def test_it_takes_reports_and_says_how_it_is(receiver: Receiver, state_dir: Path, log_path: Path) -> None:
    panel = await begin(receiver)
    panel.send(null(1), event(2))
    assert await panel.replies(2) == [ack(1), ack(2)]
    told = await status.ask(state_dir / "receive.sock")
    assert told is not None
    digest = receiver.journal.digest.hex()
    assert told["journal"] == {"id": receiver.journal.id, "position": 1, "digest": digest, "writable": True, "full": None}
    assert told["disk"].keys() == {"free_bytes", "free_files"}
    assert told["undelivered"].keys() == {"lag", "since", "raised", "refusing"}
    (listener,) = told["listeners"]
    assert listener["name"] == "ip"
    assert listener["connected"] == 1
    assert listener["counts"] == {"connections": 1, "link_tests": 1, "messages": 1, "answered": 2}
    panel.close()
    await receiver.stop()
    assert await status.ask(state_dir / "receive.sock") is None
    assert f'"id":"{receiver.journal.id}-000000000001"' in log_path.read_text()  # noqa: ASYNC240 - a line


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return Certificate("gateway", days=5).write(tmp_path / "tls")


async def test_each_transport_is_a_listener_of_its_own_and_is_told_as_such(
    state_dir: Path, lines: LineWriter, files: tuple[str, str]
) -> None:
    tls = listen(name="tls", transport="tls", certificate=files[0], private_key=files[1])
    receiver = Receiver(config(state_dir, listen(), listen(name="udp", transport="udp"), tls), Accounts(), lines)
    with capture_logs() as logs:
        await receiver.start()
        await until(lambda: [line for line in logs if line["event"] == "certificate_ends"])
        os.utime(files[0])
        receiver.reload()
        told = await status.ask(state_dir / "receive.sock")
        await receiver.stop()
    assert told is not None
    assert [(listener["name"], listener["transport"]) for listener in told["listeners"]] == [
        ("ip", "tcp"),
        ("udp", "udp"),
        ("tls", "tls"),
    ]
    untils = [listener["certificate_until"] for listener in told["listeners"]]
    assert untils[:2] == [None, None]
    assert untils[2].startswith(f"{datetime.now(UTC) + timedelta(days=5):%Y-%m-%d}")
    assert [line["listener"] for line in logs if line["event"] == "certificate_ends"] == ["tls"]
    assert [line["listener"] for line in logs if line["event"] == "certificate_taken"] == ["tls"]


async def test_what_is_known_of_an_account_is_told_to_who_asks(receiver: Receiver, state_dir: Path) -> None:
    panel = await begin(receiver)
    panel.send(null(1, "0ab4"), event(2))
    assert await panel.replies(2) == [ack(1, "0ab4"), ack(2)]
    told = await status.ask(state_dir / "receive.sock", "0AB4")
    unheard = await status.ask(state_dir / "receive.sock", "99")
    panel.close()
    assert told is not None
    assert unheard is not None
    assert (told["account"], told["listed"], unheard["heard"]) == ("0AB4", {"ip": None}, [])
    (heard,) = told["heard"]
    assert (heard["listener"], heard["account"], heard["clock_off"]) == ("ip", "0ab4", False)
    assert heard["peer"] == "{}:{}".format(*panel.writer.get_extra_info("sockname"))


async def test_what_comes_is_shown_to_who_watches(receiver: Receiver) -> None:
    reader, writer = await asyncio.open_unix_connection(watch_path(receiver._config))
    await until(lambda: receiver._watch.watchers)
    panel = await begin(receiver)
    panel.send(null(1))
    assert json.loads(await reader.readline())["received"] == "link_test"
    panel.close()
    await receiver.stop()
    assert await reader.read() == b""
    writer.close()
    assert not watch_path(receiver._config).exists()


async def test_what_is_acknowledged_at_the_end_is_what_is_on_disk(receiver: Receiver, state_dir: Path) -> None:
    """A hundred panels in full flow: all that was stored was acknowledged, and nothing else."""
    loop = asyncio.get_running_loop()
    begun = [await loop.create_connection(partial(BusyPanel, f"{1000 + n}"), *address(receiver)) for n in range(PANELS)]
    panels = [panel for _, panel in begun]
    await until(lambda: all(panel.acknowledged > 20 for panel in panels))
    began = time.monotonic()
    await receiver.stop()
    assert time.monotonic() - began < STOP_S_MAX
    await until(lambda: all(panel.ended for panel in panels))
    acknowledged = {event(n, panel.account).decode() for panel in panels for n in range(1, panel.acknowledged + 1)}
    on_disk = stored(state_dir)
    assert len(on_disk) == len(set(on_disk))
    assert acknowledged == set(on_disk)


async def test_a_peer_that_reads_its_answers_late_has_all_of_them_at_the_end(receiver: Receiver, state_dir: Path) -> None:
    """A connection closed while bytes of the peer are unread is reset, which would take back what it has not read yet."""
    panel = LatePanel("1234")
    await asyncio.get_running_loop().create_connection(lambda: panel, sock=connect(address(receiver), receive_bytes=4096))
    await until(lambda: receiver.journal.appended > 2000)
    receiver._listeners[0].refuse_new()
    panel.transport.resume_reading()
    await receiver.stop()
    await until(lambda: panel.ended)
    assert panel.acknowledged == len(stored(state_dir)) == receiver._listeners[0].counts["messages"] < 9_000


async def test_a_peer_that_takes_no_answers_delays_the_end_by_two_seconds_at_most(receiver: Receiver) -> None:
    panel = await begin(receiver, receive_bytes=4096)
    panel.send(null(1) * 200_000)
    (listener,) = receiver._listeners
    assert isinstance(listener, TcpListener)
    (session,) = listener._sessions
    await until(lambda: not session.transport.is_reading())
    began = time.monotonic()
    await receiver.stop()
    assert time.monotonic() - began < STOP_S_MAX
    panel.writer.transport.abort()


@pytest.mark.parametrize("fault", ["port", "second port", "socket"])
async def test_what_cannot_start_leaves_nothing_open(
    receiver: Receiver, state_dir: Path, tmp_path: Path, lines: LineWriter, fault: str
) -> None:
    other_dir = tmp_path / "other"
    used = listen(receiver._listeners[0].addresses[0])
    listeners = {"port": [used], "second port": [listen(), used], "socket": [listen()]}[fault]
    second = config(other_dir, *listeners)
    if fault == "socket":
        (socket_path(second) / "in the way").mkdir(parents=True)
    with pytest.raises(ListenError, match=r"receive\.sock.*state_dir must be" if fault == "socket" else "in use"):
        await Receiver(second, Accounts(), lines).start()
    assert [thread.name for thread in threads()].count("journal") == 1
    await Journal(other_dir).close()
    with pytest.raises(JournalError, match="another arcgate writes"):
        await Receiver(config(state_dir), Accounts(), lines).start()


async def test_a_socket_that_a_killed_receiver_left_is_replaced(state_dir: Path, lines: LineWriter) -> None:
    Path.mkdir(state_dir)
    Path.touch(state_dir / "receive.sock")
    receiver = Receiver(config(state_dir), Accounts(), lines)
    await receiver.start()
    assert await status.ask(state_dir / "receive.sock")
    await receiver.stop()


async def test_a_failed_journal_is_told_with_what_to_do(receiver: Receiver, state_dir: Path) -> None:
    panel = await begin(receiver)
    receiver.journal._ledger._segment._database.execute("PRAGMA query_only = 1")
    with capture_logs() as logs:
        panel.send(event(1), null(2))
        await until(lambda: not receiver.journal.writable)
    (told,) = [line for line in logs if line["event"] == "journal_failed"]
    assert told["log_level"] == "critical"
    assert told["error"] == "attempt to write a readonly database"
    assert "then restart arcgate" in told["todo"]
    snapshot = await status.ask(state_dir / "receive.sock")
    assert snapshot is not None
    assert snapshot["journal"]["writable"] is False
    await receiver.stop()
    assert panel.heard == b""
    panel.close()


async def test_a_full_disk_is_told_with_what_to_do_and_when_it_is_over(receiver: Receiver, state_dir: Path) -> None:
    panel = await begin(receiver)
    fill_disk(receiver.journal)
    with capture_logs() as logs:
        panel.send(*[event(n) * 20 for n in range(100)])
        await until(lambda: not receiver.journal.writable)
        snapshot = await status.ask(state_dir / "receive.sock")
        receiver.journal._ledger._segment._database.execute("PRAGMA max_page_count = 1000000")
        await until(lambda: receiver.journal.writable)
    full, again = [line for line in logs if line["event"].startswith("journal_")]
    assert (full["event"], full["log_level"], full["error"]) == ("journal_full", "critical", "database or disk is full")
    assert "make room" in full["todo"]
    assert (again["event"], again["log_level"]) == ("journal_taking_again", "warning")
    assert snapshot is not None
    assert snapshot["journal"]["full"] == "database or disk is full"
    await receiver.stop()
    assert panel.heard.count(b"\r") <= len(stored(state_dir))
    panel.close()


async def test_reports_that_reach_nobody_are_raised_and_refused_until_they_are_delivered(
    state_dir: Path, lines: LineWriter, tmp_path: Path
) -> None:
    """From the panel to the command and back, as dispatch stands still and then goes on."""
    called = tmp_path / "called"
    with capture_logs() as logs:
        async with running(
            state_dir, lines, undelivered_s=0.1, refuse_when_undelivered=True, alert_command=f"echo >> {called}"
        ) as receiver:
            panel = await begin(receiver)
            panel.send(event(1))
            assert await panel.replies(1) == [ack(1)]
            await until(lambda: not receiver.journal.writable)
            told = await status.ask(state_dir / "receive.sock")
            panel.send(null(2), event(3))
            await until(called.exists)
            Delivered(receiver.journal.id, 1).write(state_dir)
            await until(lambda: receiver.journal.writable)
            panel.send(event(3))
            assert await panel.replies(1) == [ack(3)]
            panel.close()
    assert told is not None
    assert (told["undelivered"]["lag"], told["undelivered"]["raised"], told["undelivered"]["refusing"]) == (1, True, True)
    assert called.read_text() == "\n"
    said = [line["event"] for line in logs]
    assert said.index("reports_undelivered") < said.index("alert_command_done") < said.index("reports_delivered")


async def test_the_digest_of_the_head_is_put_on_record(state_dir: Path, lines: LineWriter) -> None:
    """At the start, at the end, and each ten minutes; but no head twice."""
    with capture_logs() as logs:
        async with running(state_dir, lines) as receiver:
            panel = await begin(receiver)
            panel.send(*map(event, range(5)))
            await panel.replies(5)
            panel.close()
        for _ in range(2):
            async with running(state_dir, lines):
                pass
    reader = JournalReader(state_dir)
    digest = reader.digest(5)
    reader.close()
    heads = [(line["journal"], line["position"], line["digest"]) for line in logs if line["event"] == "journal_head"]
    assert digest
    assert heads == [(receiver.journal.id, 5, digest.hex())] * 3


def days_of(state_dir: Path, *ages: int) -> str:
    """Make a journal with one file and one entry for each age in days, the oldest first; gives its id."""
    journal_id = "main-0123abcd"
    digest, folder = first_digest(journal_id), state_dir / "journal"
    folder.mkdir(parents=True)
    for first, age in enumerate(ages, 1):
        segment = Segment(create(folder, journal_id, first, digest, datetime.now(UTC) - timedelta(days=age)))
        digest = chain(digest, b"{}")
        segment.insert([(digest, b"{}")])
        segment.close()
    return journal_id


@pytest.mark.parametrize(
    ("oldest", "dropped"), [(None, [1, 2]), (2, [1]), (1, [])], ids=["none open", "an alarm open", "the first open"]
)
async def test_retention_deletes_what_is_old_and_not_needed(
    state_dir: Path, lines: LineWriter, oldest: int | None, dropped: list[int]
) -> None:
    journal_id = days_of(state_dir, 9, 8, 7, 2)
    Delivered(journal_id, 4, oldest).write(state_dir)
    with capture_logs() as logs:
        async with running(state_dir, lines, retention_days=5):
            await asyncio.sleep(0)  # it has begun; the end waits for it
    assert [line["first"] for line in logs if line["event"] == "segment_dropped"] == dropped
    assert len(stored_positions(state_dir)) == 4 - len(dropped)


async def test_retention_deletes_nothing_of_which_dispatch_has_not_told_that_it_is_delivered(
    state_dir: Path, lines: LineWriter
) -> None:
    days_of(state_dir, 9, 8, 7, 2)
    Delivered("main-ffffffff", 4).write(state_dir)
    with capture_logs() as logs:
        async with running(state_dir, lines, retention_days=5) as receiver:
            await asyncio.sleep(0)
            await receiver._drop_old()
    assert [line["log_level"] for line in logs if line["event"] == "nothing_dropped"] == ["warning"]
    assert stored_positions(state_dir) == [1, 2, 3, 4]


def stored_positions(state_dir: Path) -> list[int]:
    """Which entries are there, after verifying all of it."""
    reader = JournalReader(state_dir)
    try:
        assert list(reader.verify())[-1] == 4
        return [position for first in range(4) for position, _, _ in reader.rows(first, 1) if position == first + 1]
    finally:
        reader.close()
