"""UDP over real sockets: who is answered, from where, when, with how much; and a flood that costs others nothing."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import ClassVar

import pytest
from structlog.testing import capture_logs

from protocols.dc09 import Frame, build
from protocols.dc09.frame import wrap
from protocols.link import Policy
from receiver.config import Listener
from receiver.conversation import UNANSWERED_MAX
from receiver.journal import Journal
from receiver.listen import ListenError, TcpListener
from receiver.udp import DATAGRAM_BYTES_MAX, UdpListener
from tests.receiver.conftest import (
    WAIT_S_MAX,
    OpenDoor,
    ack,
    event,
    fill_disk,
    held,
    intake,
    listen,
    null,
    policies,
    stored,
    until,
)

OpenPort = Callable[[Listener], Awaitable[UdpListener]]


def udp(address: str = "127.0.0.1:0", *allow: str) -> Listener:
    return listen(address, transport="udp", allow=allow)


def place(listener: UdpListener | TcpListener) -> tuple[str, int]:
    host, _, port = listener.addresses[0].rpartition(":")
    return host.strip("[]"), int(port)


@pytest.fixture
async def open_port(journal: Journal) -> AsyncIterator[OpenPort]:
    opened: list[UdpListener] = []

    async def open_one(listener: Listener) -> UdpListener:
        opened.append(UdpListener(listener, intake(journal), policies))
        await opened[-1].open()
        return opened[-1]

    yield open_one
    for listener in opened:
        listener.refuse_new()
        await listener.closed()
    while Panel.begun:
        Panel.begun.pop().close()


@pytest.fixture
async def port(open_port: OpenPort) -> UdpListener:
    return await open_port(udp())


class Panel:
    """A panel that hears nobody but the address that it sends to."""

    begun: ClassVar[list[socket.socket]] = []

    def __init__(self, to: tuple[str, int], host: str = "") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self.begun.append(self.socket)
        self.socket.setblocking(False)
        self.socket.bind((host, 0))
        self.socket.connect(to)

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.socket.send(datagram)

    async def reply(self) -> bytes:
        async with asyncio.timeout(WAIT_S_MAX):
            return await asyncio.get_running_loop().sock_recv(self.socket, 65536)

    @property
    def heard(self) -> bytes:
        """What has arrived and was not read."""
        try:
            return self.socket.recv(65536)
        except BlockingIOError:
            return b""


@pytest.fixture
def panel(port: UdpListener) -> Panel:
    return Panel(place(port))


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
async def test_a_report_is_stored_and_answered_from_where_it_was_sent_to(
    open_port: OpenPort, state_dir: Path, address: str
) -> None:
    listener = await open_port(udp(address))
    panel = Panel(place(listener))
    panel.send(event(1))
    assert await panel.reply() == ack(1)
    panel.send(null(2))
    assert await panel.reply() == ack(2)
    assert stored(state_dir) == [event(1).decode()]
    assert listener.counts == {"datagrams": 2, "messages": 1, "link_tests": 1, "answered": 2}


@pytest.mark.parametrize(("address", "host"), [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")])
async def test_a_machine_with_several_addresses_answers_from_the_one_that_the_panel_knows(
    open_port: OpenPort, address: str, host: str
) -> None:
    """A connected socket hears that one alone, as a panel's and a firewall's do."""
    listener = await open_port(udp(address))
    panel = Panel((host, place(listener)[1]))
    panel.send(event(1), null(2))
    assert [await panel.reply(), await panel.reply()] == [ack(2), ack(1)]


async def test_it_shares_its_number_with_a_tcp_listener_and_two_panels_do_not_mix(
    open_door: OpenDoor, open_port: OpenPort, state_dir: Path
) -> None:
    door = await open_door(listen())
    listener = await open_port(udp(door.listener.addresses[0]))
    one, other, wired = Panel(place(listener)), Panel(place(listener)), await door.panel()
    for n in range(1, 30):
        one.send(event(n, "1111"))
        other.send(event(n, "2222"))
        wired.send(event(n, "3333"))
        assert (await one.reply(), await other.reply()) == (ack(n, "1111"), ack(n, "2222"))
    assert await wired.replies(29) == [ack(n, "3333") for n in range(1, 30)]
    assert len(stored(state_dir)) == 87


async def test_nothing_is_answered_before_the_commit(port: UdpListener, panel: Panel, journal: Journal, state_dir: Path) -> None:
    other = Panel(place(port))
    with held(journal):
        panel.send(event(1))
        await until(lambda: port.counts["messages"])
        other.send(null(2))
        assert await other.reply() == ack(2)
        assert panel.heard == b""
        assert stored(state_dir) == []
    assert await panel.reply() == ack(1)


async def test_a_frame_that_is_repeated_is_stored_and_answered_each_time(panel: Panel, state_dir: Path) -> None:
    for _ in range(3):
        panel.send(event(7))
        assert await panel.reply() == ack(7)
    assert stored(state_dir) == [event(7).decode()] * 3


async def test_frames_glued_in_one_datagram_are_answered_in_one(panel: Panel, state_dir: Path) -> None:
    panel.send(event(1) + null(2) + event(3))
    assert await panel.reply() == ack(1) + ack(2) + ack(3)
    assert len(stored(state_dir)) == 2


async def test_half_a_frame_has_no_other_half(port: UdpListener, panel: Panel) -> None:
    frame = event(1)
    with capture_logs() as logs:
        panel.send(frame[:30], frame[30:], frame[:-1], b"", b"\n", frame.replace(b"BA005", b"BA006"), b"GET / HTTP/1.1\r\n\r\n")
        panel.send(null(2))
        assert await panel.reply() == ack(2)
    assert panel.heard == b""
    assert port.counts["answered"] == 1
    assert {line["error"].reason for line in logs if line["event"] == "frame_rejected"} >= {"malformed", "noise", "crc"}


KEY = b"Example, 16 char"


@pytest.mark.parametrize(
    ("policy", "frame", "answer"),
    [
        (Policy(time="enforce_plain"), wrap(b'"X"0000#1'), rb"NAK"),
        (Policy(time="enforce_plain"), wrap(b'"X"0000#1', binary=True) * 20, rb"(.*?NAK){20}"),
        (Policy(), wrap(b'"X"0000L0#1'), rb"DUH"),
        (
            Policy(keys=(KEY,), time="ignore"),
            build(Frame(id_token="NULL", sequence="0001", line=None, account="1"), key=KEY),
            rb"\*ACK",
        ),
    ],
    ids=["nak", "many", "duh", "encrypted"],
)
async def test_an_answer_may_be_longer_than_its_frame_but_not_by_much(
    journal: Journal, policy: Policy, frame: bytes, answer: bytes
) -> None:
    """A panel that waits for its NAK, or sends no time, is answered; who forges a sender gains nothing by it."""
    listener = UdpListener(udp(), intake(journal), lambda *_: policy)
    await listener.open()
    panel = Panel(place(listener))
    panel.send(frame)
    reply = await panel.reply()
    await listener.closed()
    panel.socket.close()
    assert re.search(answer, reply, re.DOTALL)
    assert len(frame) < len(reply) < 3 * len(frame)


async def test_who_is_of_no_network_that_is_let_in_is_not_heard(open_port: OpenPort, state_dir: Path) -> None:
    listener = await open_port(udp("0.0.0.0:0", "127.0.0.8/32", "2001:db8::/32"))
    to = ("127.0.0.1", place(listener)[1])
    stranger, panel = Panel(to), Panel(to, "127.0.0.8")
    with capture_logs() as logs:
        stranger.send(*[event(1)] * 50)
        panel.send(event(2))
        assert await panel.reply() == ack(2)
    assert stranger.heard == b""
    assert listener.counts["refused_source"] == 50
    assert [line["event"] for line in logs].count("source_refused") == 1
    assert stored(state_dir) == [event(2).decode()]


async def test_a_datagram_too_long_for_a_panel_is_dropped(port: UdpListener, panel: Panel) -> None:
    panel.send(null(1) * (DATAGRAM_BYTES_MAX // len(null(1)) + 1))
    panel.send(null(2))
    assert await panel.reply() == ack(2)
    assert port.counts["datagrams_too_long"] == 1


async def test_while_too_much_waits_for_the_disk_nothing_is_read_and_nothing_grows(
    port: UdpListener, panel: Panel, journal: Journal, state_dir: Path
) -> None:
    """The system's buffer holds the rest, and drops what is beyond; then all that was taken is answered, and it goes on."""
    with held(journal):
        for n in range(3 * UNANSWERED_MAX):
            panel.send(event(n))
            if not n % 50:
                await asyncio.sleep(0)
        await until(lambda: port.counts["messages"] >= UNANSWERED_MAX)
        taken = port.counts["messages"]
        await asyncio.sleep(0.02)
        assert port.counts["messages"] == taken < UNANSWERED_MAX + 100
    await until(lambda: port.counts["messages"] > taken)
    await until(lambda: port.counts["answered"] == port.counts["messages"])
    assert len(stored(state_dir)) == port.counts["messages"]
    last = Panel(place(port))
    last.send(null(1))
    assert await last.reply() == ack(1)


async def test_a_flood_leaves_a_tcp_panel_its_turn(open_door: OpenDoor, open_port: OpenPort) -> None:
    door = await open_door(listen())
    listener = await open_port(udp(door.listener.addresses[0]))
    panel = await door.proven()
    flood, longest_s, answered = Panel(place(listener)), 0.0, 0
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        flood.send(*[event(1)] * 500)
        began = time.monotonic()
        panel.send(event(2))
        assert await panel.replies(1) == [ack(2)]
        longest_s = max(longest_s, time.monotonic() - began)
        answered += 1
    assert answered > 5
    assert longest_s < 1
    assert listener.counts["datagrams"] > 1000


async def test_where_the_journal_takes_nothing_nobody_is_answered(port: UdpListener, panel: Panel, journal: Journal) -> None:
    fill_disk(journal)
    for n in range(2000):
        panel.send(event(n))
        if not n % 50:
            await asyncio.sleep(0)
    await until(lambda: not journal.writable)
    port.cut_unanswered()
    answered = port.counts["answered"]
    panel.send(null(1), event(2))
    tests = port.counts["link_tests"]
    await until(lambda: port.counts["link_tests"] > tests)
    assert port.counts["answered"] == answered == journal.durable


async def test_an_answer_to_nowhere_harms_nothing(port: UdpListener, panel: Panel) -> None:
    panel.send(event(1))
    panel.socket.close()
    other = Panel(place(port))
    other.send(event(2))
    assert await other.reply() == ack(2)


@pytest.mark.parametrize("address", ["{used}", "192.0.2.1:0", "no-such-host.invalid:0"])
async def test_an_address_that_cannot_be_listened_on_is_refused_in_words(
    journal: Journal, open_port: OpenPort, port: UdpListener, address: str
) -> None:
    address = address.format(used=port.addresses[0])
    with pytest.raises(ListenError) as told:
        await open_port(udp(address))
    assert str(told.value).startswith(f"listener[ip].address: cannot listen on {address}: ")
    assert journal.writable


async def test_after_the_end_nothing_is_read(port: UdpListener, panel: Panel) -> None:
    panel.send(null(1))
    assert await panel.reply() == ack(1)
    port.refuse_new()
    panel.send(null(2))
    await asyncio.sleep(0.02)
    assert port.counts["link_tests"] == 1
