"""Alarm receivers at a running gateway: on a pseudo-terminal, dialling it and dialled by it. Nothing is lost, nothing doubled."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from dispatch.alarm import Alarm
from dispatch.alarm_queue import AlarmQueue, connect
from protocols.event import CENTRE
from receiver import status
from tests.acceptance.conftest import Centre
from tests.conftest import run_arcgate
from tests.receiver.test_serial import Cable

ACK, NAK = b"\x06", b"\x15"
ANSWER_S_MAX = 5.0
SILENCE_S = 1.0
"""An answer that has not come by now does not come: a line that lost its end is answered after half of it."""
BEAT = b"1011           @    \x14"
WAYS = ("serial", "tcp", "dial")

LISTENER = """
[[listener]]
name = "{0}"
protocol = "surgard"
transport = "{0}"
address = "{1}"
"""


def line(zone: int, account: str = "1001") -> bytes:
    return f"5011 18{account}E13001{zone:03}\x14".encode()


class Wire(Protocol):
    """The receiver's side."""

    def send(self, *pieces: bytes) -> None: ...

    async def answers(self, count: int) -> bytes: ...


class Socket:
    """The receiver's side of a TCP connection, whoever dialled."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)

    async def answers(self, count: int) -> bytes:
        return await asyncio.wait_for(self._reader.readexactly(count), ANSWER_S_MAX)

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """Where a receiver waits to be dialled."""
    with socket.create_server(("127.0.0.1", 0)) as waiting:
        waiting.setblocking(False)
        yield waiting


@pytest.fixture
def cable(tmp_path: Path) -> Cable:
    return Cable(tmp_path / "port")


@pytest.fixture
def heartbeat() -> str:
    """What the listener that dials knows of its receiver's heartbeats; a test may say more."""
    return ""


@pytest.fixture
def centre(tmp_path: Path, cable: Cable, port: socket.socket, heartbeat: str) -> Iterator[Centre]:
    """A gateway with a listener of each kind; it runs."""
    made = Centre(tmp_path)
    at = {"serial": str(cable.path), "tcp": "127.0.0.1:0", "dial": f"127.0.0.1:{port.getsockname()[1]}"}
    made.config.write_text('state_dir = "state"\n' + "".join(LISTENER.format(way, at[way]) for way in WAYS) + heartbeat)
    made.start()
    yield made
    assert made.stop() == 0
    assert "Traceback" not in made.log.read_text()


@asynccontextmanager
async def wired(way: str, centre: Centre, cable: Cable, port: socket.socket) -> AsyncIterator[Wire]:
    """Give the receiver's side of a connection that is proven."""
    if way == "serial":
        wire: Wire = cable
        await connected(centre, "serial")
    elif way == "tcp":
        told = await status.ask(centre.state_dir / "receive.sock")
        assert told
        host, number = told["listeners"][1]["addresses"][0].split(":")
        wire = Socket(*await asyncio.open_connection(host, int(number)))
    else:
        wire = await dialled(port)
    wire.send(BEAT)
    assert await wire.answers(1) == ACK
    yield wire
    if isinstance(wire, Socket):
        wire.close()


async def dialled(port: socket.socket) -> Socket:
    sock, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(port), ANSWER_S_MAX)
    return Socket(*await asyncio.open_connection(sock=sock))


async def connected(centre: Centre, name: str) -> None:
    async with asyncio.timeout(ANSWER_S_MAX):
        while True:
            told = await status.ask(centre.state_dir / "receive.sock")
            assert told
            if next(each for each in told["listeners"] if each["name"] == name)["connected"]:
                return
            await asyncio.sleep(0.02)


async def alarms(centre: Centre) -> dict[str, Alarm]:
    """The open alarms by their site, when all is dispatched; each site has one."""
    await centre.settled()
    async with connect(centre.redis_url, centre.state_dir) as redis:
        found = await AlarmQueue(redis, "main").open_alarms(100)
    assert len({alarm.site for alarm in found}) == len(found)
    return {alarm.site: alarm for alarm in found}


async def centre_s_events(centre: Centre, count: int) -> list[tuple[str, str]]:
    """Wait for so many events of the centre's own; gives code and qualifier of each."""
    async with asyncio.timeout(ANSWER_S_MAX):
        while True:
            told = [
                (event.code, str(event.qualifier))
                for entry in (centre.entries() or ())
                for event in entry.report.events
                if event.account == CENTRE
            ]
            if len(told) >= count:
                return told
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("way", WAYS)
async def test_lines_split_glued_and_without_their_end_are_each_taken_once(
    way: str, centre: Centre, cable: Cable, port: socket.socket
) -> None:
    sent = [line(zone) for zone in range(1, 41)]
    async with wired(way, centre, cable, port) as wire:
        for cut, each in enumerate(sent[: len(sent[0]) - 1], 1):
            wire.send(each[:cut])
            await asyncio.sleep(0.005)
            wire.send(each[cut:])
            assert await wire.answers(1) == ACK
        glued = sent[len(sent[0]) - 1 :]
        wire.send(b"\0\0".join(glued[:8]), b"\r\n")
        wire.send(b"".join(glued[8:12]))
        assert await wire.answers(12) == ACK * 12
        wire.send(*[each[:-1] for each in glued[12:]], b"\x14")
        assert await wire.answers(len(glued) - 12) == ACK * (len(glued) - 12)
    assert Counter(entry.report.frame for entry in centre.entries()) == Counter(each[:-1].decode() for each in sent)
    found = await alarms(centre)
    assert (found["site 1"].events, found["site 1"].repeats) == (len(sent), 0)


@pytest.mark.parametrize("way", WAYS)
async def test_a_sign_that_came_wrong_is_asked_for_again_and_the_line_taken_once(
    way: str, centre: Centre, cable: Cable, port: socket.socket
) -> None:
    """Every byte's high bit in turn, which no legal sign has; the receiver sends it again after the NAK."""
    sent = [line(zone) for zone in range(1, 21)]
    async with wired(way, centre, cable, port) as wire:
        for at, each in enumerate(sent):
            wire.send(each[:at] + bytes([each[at] ^ 0x80]) + each[at + 1 :])
            assert await wire.answers(1) == NAK
            wire.send(each)
            assert await wire.answers(1) == ACK
        last = line(99)
        wire.send(last[:-1] + b"\x94")  # the end itself: nothing tells that it is one
        await asyncio.sleep(SILENCE_S)
        wire.send(last)
        assert await wire.answers(1) == ACK
    kept = Counter(entry.report.frame for entry in centre.entries() if entry.report.events[0].account != CENTRE)
    assert kept == Counter(each[:-1].decode() for each in [*sent, last])
    found = await alarms(centre)
    assert found["site 1"].events == len(kept)
    assert found[CENTRE].label.startswith("A receiver's line came damaged")


async def test_a_bad_line_between_two_good_ones_is_kept_and_raised_and_both_pass(
    centre: Centre, cable: Cable, port: socket.socket
) -> None:
    bad = line(2).replace(b"E130", b"E1\xb30")
    async with wired("serial", centre, cable, port) as wire:
        wire.send(line(1) + bad + line(3))
        assert await wire.answers(3) == ACK + NAK + ACK
        wire.send(bad * 3)
        assert await wire.answers(3) == NAK + NAK + ACK, "the fourth time it is kept, so that what is behind it can pass"
    frames = [entry.report.frame for entry in centre.entries()]
    assert Counter(frames) == {line(1)[:-1].decode(): 1, line(3)[:-1].decode(): 1, bad[:-1].decode("latin-1"): 4}
    found = await alarms(centre)
    assert (found["site 1"].events, found[CENTRE].category) == (2, "generated")


async def test_a_receiver_that_repeats_until_it_is_acknowledged_makes_one_event_with_a_count(
    centre: Centre, cable: Cable, port: socket.socket
) -> None:
    async with wired("tcp", centre, cable, port) as wire:
        for _ in range(3):
            wire.send(line(5))
            assert await wire.answers(1) == ACK
    async with wired("tcp", centre, cable, port) as wire:
        wire.send(line(5))
        assert await wire.answers(1) == ACK
    assert len(centre.entries()) == 4
    found = await alarms(centre)
    assert (found["site 1"].events, found["site 1"].repeats) == (1, 3)


async def test_an_alarm_after_its_restore_is_another_one_whatever_connections_they_come_by(
    centre: Centre, cable: Cable, port: socket.socket
) -> None:
    for each in (line(5), line(5).replace(b"E", b"R"), line(5)):
        async with wired("tcp", centre, cable, port) as wire:
            wire.send(each)
            assert await wire.answers(1) == ACK
    found = await alarms(centre)
    assert (found["site 1"].events, found["site 1"].repeats) == (3, 0)


@pytest.mark.parametrize("heartbeat", ["heartbeat_s = 0.6"])
async def test_a_receiver_whose_heartbeats_stop_is_one_alarm_and_restored_when_they_return(
    centre: Centre, cable: Cable, port: socket.socket
) -> None:
    async with wired("dial", centre, cable, port) as wire:
        assert await centre_s_events(centre, 1) == [("receiver_link_lost", "new")]
        found = await alarms(centre)
        assert list(found) == [CENTRE]
        await asyncio.sleep(SILENCE_S)  # one, however long it is silent
        wire.send(BEAT)
        assert await wire.answers(1) == ACK
        told = await centre_s_events(centre, 2)
    assert told[:2] == [("receiver_link_lost", "new"), ("receiver_link_lost", "restore")]
    found = await alarms(centre)
    assert list(found) == [CENTRE]
    assert found[CENTRE].events == len(await centre_s_events(centre, 2))


async def test_a_port_that_is_pulled_and_put_back_loses_nothing(centre: Centre, cable: Cable, port: socket.socket) -> None:
    for n in range(3):
        async with wired("serial", centre, cable, port) as wire:
            wire.send(line(2 * n + 1))
            assert await wire.answers(1) == ACK
            wire.send(line(2 * n + 2)[:10])
            cable.pull()
            await centre_s_events(centre, 2 * n + 1)
            cable.plug()
            await centre_s_events(centre, 2 * n + 2)
        async with wired("serial", centre, cable, port) as wire:
            wire.send(line(2 * n + 2))
            assert await wire.answers(1) == ACK
    lost, found_again = ("receiver_port_lost", "new"), ("receiver_port_lost", "restore")
    assert [told for told in await centre_s_events(centre, 6) if told[0] == lost[0]] == [lost, found_again] * 3
    kept = Counter(entry.report.frame for entry in centre.entries() if entry.report.events[0].account == "1001")
    assert kept == Counter(line(zone)[:-1].decode() for zone in range(1, 7))
    assert (await alarms(centre))["site 1"].events == 6


async def test_an_account_that_is_filled_with_zeros_reaches_its_site(centre: Centre, cable: Cable, port: socket.socket) -> None:
    async with wired("tcp", centre, cable, port) as wire:
        wire.send(line(1, "001001"), line(2, "0000001001"), line(3), b"3011    001002BA0012\x14", b"3011      1003BA0012\x14")
        assert await wire.answers(5) == ACK * 5
    found = await alarms(centre)
    assert {site: alarm.events for site, alarm in found.items()} == {"site 1": 3, "site 2": 1, "site 3": 1}


async def test_the_pretend_receiver_s_events_arrive(centre: Centre, cable: Cable) -> None:
    cable.pull()
    words = ("--pty", cable.path, "--account", "1007", "--code", "130", "--zone", "1", "--count", 3, "--patience", 20, "--json")
    done = await asyncio.to_thread(run_arcgate, "panel", "receiver", "--protocol", "surgard", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["acked"] == 3
    assert (await alarms(centre))["site 7"].events == 3
