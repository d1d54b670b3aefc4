"""What one who watches is told, and that nobody waits for him."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import AnyProtocol
from protocols.dc09 import Dc09, Frame, build
from protocols.dc09.frame import HEADER
from protocols.errors import FrameError, Reason
from protocols.event import CENTRE
from protocols.link import Rejected, escape
from protocols.surgard import SurGard
from receiver.journal import Journal
from receiver.listen import TcpListener
from receiver.watch import BACKLOG_BYTES_MAX, WATCHERS_MAX, Watch, _line
from tests.receiver.conftest import AT, WAIT_S_MAX, Door, ack, event, fill_disk, intake, listen, null, policies, until


@pytest.fixture
async def door(journal: Journal) -> AsyncIterator[Door]:
    """A listener whose watchers are let in."""
    shared = intake(journal)
    door = Door(TcpListener(listen(), shared, policies))
    await door.listener.open()
    await shared.watch.open()
    yield door
    await shared.watch.close()
    for panel in door.panels:
        panel.close()
    door.listener.refuse_new()
    await door.listener.closed()


@pytest.fixture
def watch(door: Door) -> Watch:
    return door.listener.intake.watch


class Watcher:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S_MAX):
            return dict(json.loads(await self.reader.readline()))


async def begin(watch: Watch, limit: int = 2**16) -> Watcher:
    before = len(watch.watchers)
    watcher = Watcher(*await asyncio.open_unix_connection(watch._socket._path, limit=limit))
    await until(lambda: len(watch.watchers) > before)
    return watcher


async def test_each_frame_is_told_as_it_is_read(door: Door, watch: Watch) -> None:
    watcher, other = await begin(watch), await begin(watch)
    panel = await door.panel()
    refused = build(Frame(id_token="SIA-XYZ", sequence="0003", account="1234"))
    panel.send(event(1), null(2), refused, event(4).replace(b"BA005", b"BA006"), null(5))
    await panel.replies(4)
    lines = [await watcher.line() for _ in range(5)]
    assert lines == [await other.line() for _ in range(5)]
    peer = "{}:{}".format(*panel.writer.get_extra_info("sockname"))
    assert {(line["listener"], line["peer"]) for line in lines} == {("ip", peer)}
    assert [line["received"] for line in lines] == ["message", "link_test", "rejected", "rejected", "link_test"]
    assert [line["account"] for line in lines] == ["1234"] * 5
    message, test, unknown, damaged, _ = lines
    usual = {"at", "listener", "peer", "received", "account", "frame", "events", "reply", "error"}
    assert message.keys() == usual | {"mark", "dialects"}
    assert (message["frame"], message["reply"], message["error"]) == (escape(event(1)), escape(ack(1)), None)
    assert (message["events"][0]["code"], message["mark"], message["dialects"]) == ("BA", "", [])
    assert test["events"] == []
    assert (unknown["error"]["reason"], unknown["reply"]) == ("unknown_token", escape(ack(3, word="DUH")))
    assert unknown["events"][0]["code"] == "refused_unknown_token"
    assert (damaged["error"]["reason"], damaged["reply"]) == ("crc", "")
    watcher.writer.close()
    other.writer.close()
    await until(lambda: not watch.watchers)


STRANGER = build(Frame(id_token="SIA-DCS", sequence="0001", account="77", data="#77|Nri1/BA5"))


@pytest.mark.parametrize(
    ("protocol", "frame", "account", "reason"),
    [
        (Dc09(unknown_accounts="silence"), STRANGER, "77", "unknown_account"),
        (Dc09(), ack(1), "1234", "answer"),
        (Dc09(), STRANGER.replace(b"BA5", b"BA6"), "77", "crc"),
        (Dc09(), build(Frame(id_token="SIA-DCS", sequence="0001", account="77", data="AB" * 16, encrypted=True)), "77", "no_key"),
        (Dc09(), b"GET / HTTP/1.1\r\n\r\n", "", "foreign"),
        (SurGard(), b"5011 18123\xc5E13001004\x14", CENTRE, "damaged"),
    ],
    ids=lambda of: of if isinstance(of, str) else "",
)
def test_a_refusal_is_told_of_the_account_that_stands_in_its_frame(
    protocol: AnyProtocol, frame: bytes, account: str, reason: str
) -> None:
    """Who commissions a panel asks for its account alone: what is refused of it must be there."""
    link = protocol.link()
    received = [*link.receive(frame, AT), *link.finish()]
    told = [json.loads(_line("ip", "", item, AT, protocol.explain, answering=True)) for item in received]
    assert (told[0]["error"]["reason"], told[0]["account"]) == (reason, account)


@pytest.mark.parametrize("member", get_args(AnyProtocol))
@given(frame=st.binary() | st.from_regex(HEADER).map(lambda head: head + b"#1[_"))
def test_whatever_is_refused_can_be_told(member: type[AnyProtocol], frame: bytes) -> None:
    rejected = Rejected(frame, FrameError(Reason.NOISE, ""))
    assert json.loads(_line("ip", "", rejected, AT, member().explain, answering=True))["received"] == "rejected"


async def test_an_answer_that_does_not_go_out_is_not_told(door: Door, watch: Watch, journal: Journal) -> None:
    panel = await door.proven()
    fill_disk(journal)
    for n in range(2, 200):
        panel.send(event(n) * 20)
    await until(lambda: not journal.writable)
    watcher = await begin(watch)
    other = await door.panel()
    other.send(null(1))
    while (line := await watcher.line())["received"] != "link_test":
        assert line["reply"] == ""
    assert line["reply"] == ""
    watcher.writer.close()


async def test_who_reads_too_slowly_loses_lines_is_told_how_many_and_delays_nobody(door: Door, watch: Watch) -> None:
    slow = await begin(watch, limit=1024)
    panel = await door.panel()
    sent = 0
    (there,) = watch.watchers
    while not there._lost:
        panel.send(b"".join(map(null, range(1000))))
        await panel.replies(1000)
        sent += 1000
    assert there.transport.get_write_buffer_size() < BACKLOG_BYTES_MAX + 1024 * 1024
    heard = lost = 0
    slow.reader._limit = 2**20  # type: ignore[attr-defined] # what it reads now is a line
    while heard + lost < sent:
        line = await slow.line()
        lost += line.get("lost", 0)
        heard += "lost" not in line
    assert lost > 0
    assert heard + lost == sent
    slow.writer.close()


async def test_nothing_is_made_while_nobody_watches(door: Door, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "tell", None)
    panel = await door.panel()
    panel.send(event(1))
    assert await panel.replies(1) == [ack(1)]
    assert watch.watchers == set()


async def test_only_so_many_may_watch_and_only_the_owner(watch: Watch) -> None:
    path = watch._socket._path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    watchers = [await begin(watch) for _ in range(WATCHERS_MAX)]
    reader, writer = await asyncio.open_unix_connection(path)
    assert await reader.read() == b""
    watch.tell("ip", "", [], AT, explain=lambda _: None, answering=True)
    assert len(watch.watchers) == WATCHERS_MAX
    for each in (*watchers, Watcher(reader, writer)):
        each.writer.close()


async def test_at_the_end_all_are_sent_away_and_no_socket_is_left(tmp_path: Path) -> None:
    path = tmp_path / "receive.watch.sock"
    watch = Watch(path)
    await watch.open()
    watcher = await begin(watch)
    await watch.close()
    assert await watcher.reader.read() == b""
    assert not path.exists()
    watcher.writer.close()
