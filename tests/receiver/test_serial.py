"""A receiver on a real pseudo-terminal: cut, glued, damaged, without its ends; pulled and put back."""

import asyncio
import os
import termios
from pathlib import Path

import pytest

from protocols.event import CENTRE
from protocols.lines import QUIET_S
from protocols.link import unescape
from protocols.surgard import SurGard
from receiver import attach
from receiver.journal import Journal
from receiver.serial import SerialListener
from tests.protocols.lines import rows
from tests.receiver.attached import ACK, BEAT, GOOD, NAK, OTHER, attached, told
from tests.receiver.conftest import WAIT_S_MAX, until


class Cable:
    """The receiver's end, and a path by which its port is found while it is plugged in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plug()

    def plug(self) -> None:
        self.ours, theirs = os.openpty()
        self._theirs = theirs  # held open, as a cable is there though nobody has opened the port
        os.set_blocking(self.ours, False)
        self.path.symlink_to(os.ttyname(theirs))

    def pull(self) -> None:
        self.path.unlink()
        os.close(self.ours)
        os.close(self._theirs)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            os.write(self.ours, piece)

    async def answers(self, count: int) -> bytes:
        heard = b""
        async with asyncio.timeout(WAIT_S_MAX):
            while len(heard) < count:
                try:
                    heard += os.read(self.ours, 64)
                except BlockingIOError:
                    await asyncio.sleep(0.002)
        return heard


@pytest.fixture
def cable(tmp_path: Path) -> Cable:
    return Cable(tmp_path / "port")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "AGAIN_S_FIRST", 0.01)
    monkeypatch.setattr(attach, "AGAIN_S_MAX", 0.05)
    monkeypatch.setattr(attach, "STEADY_S", 0.2)


async def test_lines_cut_at_every_byte_glued_and_without_their_end_are_answered_when_stored(
    journal: Journal, state_dir: Path, cable: Cable
) -> None:
    async with attached(SerialListener, journal, str(cable.path)) as door:
        await until(lambda: door.connections)
        for cut in range(1, len(GOOD)):
            cable.send(GOOD[:cut], GOOD[cut:])
            assert await cable.answers(1) == ACK
        cable.send(GOOD[:-1] + OTHER, BEAT)
        assert await cable.answers(3) == ACK * 3
        cable.send(GOOD[:-1])
        await asyncio.sleep(2 * QUIET_S)
        assert journal.durable == len(GOOD) + 1, "it may go on: the receiver sends it again"
        cable.send(GOOD)
        assert await cable.answers(2) == ACK * 2
        assert journal.durable == len(GOOD) + 3
    assert {account for account, _, _ in told(state_dir)} == {"1234"}
    cable.pull()


async def test_silence_ends_a_line_where_no_sign_does(journal: Journal, cable: Cable) -> None:
    async with attached(SerialListener, journal, str(cable.path), SurGard(end="none")) as door:
        await until(lambda: door.connections)
        before = asyncio.get_running_loop().time()
        cable.send(GOOD[:-1])
        assert await cable.answers(1) == ACK
        assert asyncio.get_running_loop().time() - before < 2 * QUIET_S
    cable.pull()


async def test_every_vector_is_answered_as_its_source_says(journal: Journal, cable: Cable) -> None:
    vectors = rows("surgard")
    async with attached(SerialListener, journal, str(cable.path)) as door:
        await until(lambda: door.connections)
        for row in vectors:
            cable.send(unescape(row["frame"]))
            assert await cable.answers(1) == unescape(row["reply"]), row["name"]
        assert journal.durable == sum(row["received"] == "message" for row in vectors)
    cable.pull()


async def test_a_damaged_line_is_asked_for_three_times_then_kept_and_its_neighbours_pass(
    journal: Journal, state_dir: Path, cable: Cable
) -> None:
    async with attached(SerialListener, journal, str(cable.path)) as door:
        await until(lambda: door.connections)
        bad = GOOD.replace(b"E", b"\xc5")
        cable.send(GOOD, bad, OTHER)
        assert await cable.answers(3) == ACK + NAK + ACK
        cable.send(bad * 3)
        assert await cable.answers(3) == NAK + NAK + ACK
    refused = (CENTRE, "refused_damaged", "new")
    assert told(state_dir) == [
        ("1234", "130", "new"), refused, ("1234", "130", "restore"), refused, refused, (CENTRE, "", "new")
    ]  # fmt: skip
    cable.pull()


async def test_what_comes_first_on_a_port_is_a_receiver_s_even_where_it_looks_like_no_line(
    journal: Journal, state_dir: Path, cable: Cable
) -> None:
    async with attached(SerialListener, journal, str(cable.path), SurGard(end="cr")) as door:
        await until(lambda: door.connections)
        cable.send(b"50110 181234E12201005\r" * 4)
        assert await cable.answers(4) == NAK * 3 + ACK
    assert told(state_dir)[-1] == (CENTRE, "", "new")
    cable.pull()


async def test_a_port_that_is_pulled_and_put_back_is_raised_and_restored_each_time(
    journal: Journal, state_dir: Path, cable: Cable
) -> None:
    async with attached(SerialListener, journal, str(cable.path)) as door:
        for n in range(3):
            await until(lambda: door.connections)
            cable.send(GOOD)
            assert await cable.answers(1) == ACK
            cable.pull()
            await until(lambda: journal.durable == 3 * n + 2)  # noqa: B023 - awaited here
            cable.plug()
            await until(lambda: journal.durable == 3 * n + 3)  # noqa: B023 - awaited here
    lost, found = (CENTRE, "receiver_port_lost", "new"), (CENTRE, "receiver_port_lost", "restore")
    assert told(state_dir) == [("1234", "130", "new"), lost, found] * 3
    cable.pull()


async def test_a_port_that_is_not_there_yet_is_awaited(journal: Journal, cable: Cable) -> None:
    cable.pull()
    async with attached(SerialListener, journal, str(cable.path)) as door:
        await until(lambda: journal.durable == 1)
        cable.plug()
        await until(lambda: door.connections)
        cable.send(BEAT)
        assert await cable.answers(1) == ACK
    cable.pull()


async def test_speed_parity_and_bits_reach_the_port(journal: Journal, cable: Cable) -> None:
    async with attached(SerialListener, journal, str(cable.path), speed=1200, parity="even", bits=7, stop_bits=2) as door:
        await until(lambda: door.session)
        assert door.session
        port = door.session.transport.get_extra_info("serial")
        assert (port.baudrate, port.parity, port.bytesize, port.stopbits) == (1200, "E", 7, 2)
        assert termios.tcgetattr(port.fileno())[0] & termios.INPCK, "a wrong parity is read as NUL: the line is damaged"
        cable.send(GOOD.replace(b"E", b"\0"), GOOD)
        assert await cable.answers(2) == NAK + ACK
    cable.pull()
