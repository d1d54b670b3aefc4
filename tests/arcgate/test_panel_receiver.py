"""`arcgate panel receiver` and a gateway that answers as it is told: over TCP either way, and real pseudo-terminals."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from arcgate.__main__ import app
from tests.conftest import ARCGATE

ACK, NAK = b"\x06", b"\x15"
GOOD = b"5011 181234E13001005\x14"
BEAT = b"1011           @    \x14"
ALARM = ("--code", "130", "--zone", "005")
QUICK = ("--timeout", "0.3", "--patience", "10")
LINES_S_MAX = 10


class Gateway(asyncio.Protocol):
    """Answers line by line from a list; b"" is silence, None cuts the connection. What comes beyond it is acknowledged."""

    def __init__(self, answers: Iterable[bytes | None] = (), end: bytes = b"\x14") -> None:
        self.answers, self.end, self.heard = iter(answers), end, list[bytes]()
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write: Callable[[bytes], None] = transport.write  # type: ignore[attr-defined] # a stream's
        self.cut = transport.close

    def data_received(self, data: bytes) -> None:
        *lines, self._pending = (self._pending + data).split(self.end)
        for line in lines:
            self.heard.append(line + self.end)
            answer = next(self.answers, ACK)
            if answer is None:
                self.cut()
            elif answer:
                self.write(answer)


@asynccontextmanager
async def listening(gateway: Gateway) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(lambda: gateway, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()


async def receiver(*words: object, protocol: str = "surgard") -> tuple[int, list[dict[str, Any]], str]:
    process = await started(*words, protocol=protocol)
    return await over(process)


async def started(*words: object, protocol: str = "surgard") -> asyncio.subprocess.Process:
    command = ("panel", "receiver", "--protocol", protocol, *map(str, words), "--json")
    return await asyncio.create_subprocess_exec(ARCGATE, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)


async def over(process: asyncio.subprocess.Process) -> tuple[int, list[dict[str, Any]], str]:
    out, err = await asyncio.wait_for(process.communicate(), LINES_S_MAX)
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


async def test_each_event_is_a_line_of_its_own_and_nothing_new_goes_out_before_its_ack() -> None:
    gateway = Gateway()
    async with listening(gateway) as place:
        code, told, _ = await receiver("--to", place, *ALARM, "--count", 3)
    assert gateway.heard == [GOOD, GOOD.replace(b"005", b"006"), GOOD.replace(b"005", b"007")]
    assert code == 0
    assert [row["answers"] for row in told[:3]] == [["ACK"]] * 3
    assert (told[3]["sent"], told[3]["acked"], told[3]["naks"], told[3]["heartbeats"]) == (3, 3, 0, 0)


async def test_a_line_is_sent_again_after_a_nak_and_after_silence() -> None:
    gateway = Gateway([NAK, b"", b"noise" + ACK])
    async with listening(gateway) as place:
        code, told, _ = await receiver("--to", place, *ALARM, *QUICK)
    assert gateway.heard == [GOOD] * 3
    assert (code, told[0]["answers"]) == (0, ["NAK", "silence", "ACK"])


async def test_after_its_tries_it_sends_heartbeats_and_goes_on_with_the_same_line_when_one_is_acknowledged() -> None:
    gateway = Gateway([NAK, NAK, b""])
    async with listening(gateway) as place:
        code, told, _ = await receiver("--to", place, *ALARM, *QUICK, "--tries", 2)
    assert gateway.heard == [GOOD, GOOD, BEAT, BEAT, GOOD]
    assert (code, told[0]["answers"], told[1]["heartbeats"]) == (0, ["NAK", "NAK", "ACK"], 2)


async def test_a_line_that_nobody_takes_is_told_with_exit_code_1() -> None:
    gateway = Gateway([b""] * 100)
    async with listening(gateway) as place:
        code, told, _ = await receiver("--to", place, *ALARM, "--timeout", 0.05, "--tries", 2, "--patience", 0.2)
    assert (code, told[0]["ok"], told[1]["acked"]) == (1, False, 0)


async def test_a_connection_that_is_cut_is_opened_again_and_the_line_repeated() -> None:
    gateway = Gateway([None])
    async with listening(gateway) as place:
        code, told, _ = await receiver("--to", place, *ALARM, *QUICK)
    assert gateway.heard == [GOOD] * 2
    assert (code, told[0]["answers"]) == (0, ["silence", "ACK"])


async def test_heartbeats_alone_and_between_events() -> None:
    gateway = Gateway()
    async with listening(gateway) as place:
        assert (await receiver("--to", place, "--heartbeat", 0.05, "--count", 3))[0] == 0
        assert gateway.heard == [BEAT] * 3
        code, told, _ = await receiver("--to", place, *ALARM, "--count", 2, "--rate", 2, "--heartbeat", 0.1)
    assert code == 0
    assert gateway.heard[3] == GOOD
    assert BEAT in gateway.heard[4:-1]
    assert told[-1]["heartbeats"] == len(gateway.heard) - 5


async def test_it_is_dialled_by_a_gateway() -> None:
    process = await started("--listen", "127.0.0.1:0", *ALARM, "--account", "123456", *QUICK, protocol="bosch")
    assert process.stderr
    host, port = (await process.stderr.readline()).decode().split()[-1].split(":")
    gateway = Gateway()
    await asyncio.get_running_loop().create_connection(lambda: gateway, host, int(port))
    code, told, _ = await over(process)
    assert gateway.heard == [BEAT, b"a011 12345618E13001005\x14"]
    assert (code, told[0]["ok"]) == (0, True)


async def test_it_makes_a_terminal_and_waits_until_the_port_is_opened(tmp_path: Path) -> None:
    port = tmp_path / "port"
    process = await started("--pty", port, "--code", "401", "--zone", "7", *QUICK, protocol="ademco685")
    assert process.stderr
    await process.stderr.readline()
    heard = await on_port(os.open(port, os.O_RDWR | os.O_NOCTTY), process, b"\r")
    assert heard[-1] == b"\n11 1234 18 E401 01 U007\r"
    assert set(heard[:-1]) == {b"\n11 OKAY @\r"}
    assert (await over(process))[0] == 0
    assert not port.is_symlink()


async def test_it_speaks_on_a_port_that_is_there() -> None:
    ours, theirs = os.openpty()
    process = await started("--serial", os.ttyname(theirs), "--code", "BA", "--zone", "12", "--line", "001", *QUICK)
    assert await on_port(ours, process, b"\x14") == [b"S01001[#1234|Nri1/BA12]\x14"]
    assert (await over(process))[0] == 0
    os.close(theirs)


async def on_port(port: int, process: asyncio.subprocess.Process, end: bytes) -> list[bytes]:
    """Acknowledge what comes by a port until an event was; gives the lines."""
    os.set_blocking(port, False)
    heard = b""
    async with asyncio.timeout(LINES_S_MAX):
        while process.returncode is None:
            try:
                data = os.read(port, 100)
            except BlockingIOError:
                await asyncio.sleep(0.005)
                continue
            except OSError:  # the other side is closed
                break
            if not data:
                break
            heard += data
            os.write(port, ACK * data.count(end))
    os.close(port)
    return [line + end for line in heard.split(end)[:-1]]


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--protocol", "asterisk", "--to", "127.0.0.1:1"), "--protocol"),
        (("--protocol", "x25", "--to", "127.0.0.1:1"), "--protocol"),
        (("--protocol", "surgard"), "--to"),
        (("--protocol", "surgard", "--to", "127.0.0.1:1", "--serial", "/dev/null"), "--to"),
        (("--protocol", "surgard", "--to", "127.0.0.1"), "--to"),
        (("--protocol", "surgard", "--set", "end=x", "--to", "127.0.0.1:1"), "--set"),
        (("--protocol", "surgard", "--to", "127.0.0.1:1", "--code", "130", "--account", "1"), "--protocol"),
        (("--protocol", "bosch", "--to", "127.0.0.1:1", "--code", "BA"), "--protocol"),
        (("--protocol", "surgard", "--to", "127.0.0.1:1", "--code", "1"), "--code"),
        (("--protocol", "surgard", "--to", "127.0.0.1:1", "--code", "130", "--line", "12"), "--protocol"),
        (("--protocol", "ademco685", "--to", "127.0.0.1:1", "--code", "130", "--receiver", "12"), "--receiver"),
        (("--protocol", "ademco685", "--to", "127.0.0.1:1", "--code", "130", "--partition", "123"), "--partition"),
    ],
)
def test_a_mistake_is_a_usage_error_that_names_its_option(words: tuple[str, ...], option: str) -> None:
    done = CliRunner().invoke(app, ["panel", "receiver", *words])
    assert done.exit_code == 2, done.stderr
    assert option in done.stderr


def test_nobody_there_is_told_with_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words in (("--to", "127.0.0.1:1"), ("--serial", str(tmp_path / "gone")), ("--pty", str(tmp_path / "file"))):
        done = CliRunner().invoke(app, ["panel", "receiver", "--protocol", "surgard", *words, "--patience", "0.1"])
        assert done.exit_code == 1, words
        assert words[1] in done.stderr
    assert (tmp_path / "file").exists()
