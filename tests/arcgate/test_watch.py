"""`arcgate watch`: what it shows of a receiver's lines, that it finds a restarted one again, and how it ends."""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from arcgate.watch import Seen, _is_of, page
from protocols.errors import FrameError, Reason
from protocols.event import Category, Event, Format, Qualifier
from tests.conftest import ARCGATE, CONFIG, Gateway, sia

BURGLARY = Event("1234", Format.SIA, "BA", Qualifier.NEW, Category.BURGLARY, partition="1", zone="5")
TOLD: dict[str, Any] = {
    "at": datetime(2026, 11, 22, 15, 0, 21, tzinfo=UTC),
    "listener": "ip",
    "peer": "192.0.2.1:5000",
    "received": "message",
    "account": "1234",
    "frame": r'\n00000000"SIA-DCS"0001L0#1234[#1234|Nri1/BA5]\r',
    "events": [BURGLARY],
    "reply": r'\n1BC10012"ACK"0001L0#1234[]\r',
    "error": None,
    "mark": "",
    "dialects": [],
}


class Watcher:
    """The verb as a process."""

    def __init__(self, home: Path, *words: str) -> None:
        (home / "arcgate.toml").write_text(CONFIG)
        (home / "state").mkdir(exist_ok=True)
        self.command = [str(ARCGATE), "watch", "--config", str(home / "arcgate.toml"), *words]

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*self.command, stdout=pipe, stderr=pipe)
        return self

    async def read(self) -> str:
        assert self.process.stdout
        return (await asyncio.wait_for(self.process.stdout.readline(), 20)).decode().rstrip("\n")

    async def hear(self) -> str:
        assert self.process.stderr
        return (await asyncio.wait_for(self.process.stderr.readline(), 20)).decode().rstrip("\n")

    async def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 20)

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


@asynccontextmanager
async def telling(home: Path, *told: dict[str, Any]) -> AsyncIterator[None]:
    """A receiver's watch socket that tells each who comes the same, and ends with the block."""
    writers = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(b"".join(msgspec.json.encode(line) + b"\n" for line in told))

    server = await asyncio.start_unix_server(serve, str(home / "state" / "receive.watch.sock"))
    yield
    server.close()
    for writer in writers:
        writer.close()
    (home / "state" / "receive.watch.sock").unlink()


def test_a_page_has_what_a_commissioner_asks_for() -> None:
    seen = msgspec.json.decode(msgspec.json.encode(TOLD), type=Seen)
    assert page(seen) == [
        "2026-11-22 15:00:21 UTC  ip 192.0.2.1:5000  account 1234  report",
        "  " + str(TOLD["frame"]),
        "  Burglary alarm (BA)  partition 1  zone 5",
        "  reply    " + str(TOLD["reply"]),
    ]
    told = msgspec.structs.replace(seen.events[0], code="refused_no_key", text="Reports are being refused: no key here")
    refused = msgspec.structs.replace(
        seen,
        received="rejected",
        events=(told, *seen.events),
        error=FrameError(Reason.NO_KEY, "no key here"),
        reply="",
        dialects=("eldes",),
        mark="slow",
    )
    assert page(refused)[0].endswith("REFUSED")
    assert page(refused)[2:] == [
        "  Burglary alarm (BA)  partition 1  zone 5",
        "  why      no_key: no key here",
        "  marked   slow",
        "  dialect  eldes",
        "  reply    silence",
    ]
    assert page(Seen(lost=3))[0].startswith("3 frames are not shown")


async def test_shows_the_wanted_account_alone_and_what_was_lost(tmp_path: Path) -> None:
    others = ({"account": "77"}, {"account": "ab"}, {"account": "AB", "listener": "udp"})
    lines = (*(TOLD | other for other in others), {"lost": 7}, TOLD | {"account": "AB", "new": "of a later version"})
    async with (
        telling(with_state(tmp_path), *lines),
        Watcher(tmp_path, "--account", "aB", "--listener", "ip", "--json") as seen,
    ):
        told = [json.loads(await seen.read()) for _ in range(3)]
    assert [line.get("account") for line in told] == ["ab", None, "AB"]
    assert told[1] == {"lost": 7}
    assert told[0]["events"][0] | {"label": "Burglary alarm"} == told[0]["events"][0]
    assert told[2]["new"] == "of a later version"


def test_what_has_no_account_that_can_be_read_is_shown_where_the_wanted_one_stands_in_it() -> None:
    lost = Seen(received="rejected", account="(centre)", frame=r"5011 18123\xC5E1300100AB")
    assert [_is_of(lost, wanted) for wanted in ("", "123", "00ab", "5678")] == [True, True, True, False]
    assert not _is_of(Seen(account="5678", frame="1234"), "1234")


def with_state(home: Path) -> Path:
    (home / "state").mkdir()
    return home


async def test_waits_for_a_receiver_and_finds_it_again(tmp_path: Path) -> None:
    async with Watcher(tmp_path) as seen:
        assert "does `arcgate run` or `arcgate receive` run" in await seen.hear()
        for _ in range(2):
            async with telling(tmp_path, TOLD):
                assert await seen.hear() == "watching; Ctrl-C ends it"
                assert "192.0.2.1:5000" in await seen.read()
                while await seen.read():
                    pass
            assert await seen.hear() == "the receiver has stopped"
            assert "Waiting" in await seen.hear()
        assert await seen.end() == 0
        assert seen.process.stderr
        assert b"Traceback" not in await seen.process.stderr.read()


async def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    async with telling(with_state(tmp_path), *[TOLD] * 5000):
        command = f"{' '.join(Watcher(tmp_path).command)} | head -1"
        done = await asyncio.to_thread(subprocess.run, ["sh", "-c", command], capture_output=True, timeout=20, check=True)
    assert b"192.0.2.1" in done.stdout
    assert done.stderr == b"watching; Ctrl-C ends it\n"


async def test_a_gateway_tells_what_it_takes_and_what_it_refuses(gateway: Gateway) -> None:
    async with Watcher(gateway.home, "--json") as seen:
        assert await seen.hear() == "watching; Ctrl-C ends it"
        await gateway.send(sia("0042", "Nri1/BA5"))
        told = json.loads(await seen.read())
    assert (told["received"], told["account"], told["events"][0]["label"]) == ("message", "0042", "Burglary alarm")
    assert '"ACK"0001L0#0042[]' in told["reply"]
