"""The journal as it grows, with what to do about it, while there is no queue to work from."""

import json
import signal
from asyncio import Event as Done
from asyncio import create_subprocess_exec, timeout
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocols.errors import FrameError, Reason
from protocols.event import Category, Event, Format, Qualifier
from receiver.journal import Journal, Report
from tests.conftest import ARCGATE, CONFIG, Gateway, sia

HOLD_UP = Event("1234", Format.SIA, "HA", Qualifier.NEW, Category.HOLD_UP)
BURGLARY = Event("1234", Format.SIA, "BA", Qualifier.NEW, Category.BURGLARY, zone="05")
WATER = Event("1234", Format.SIA, "WA", Qualifier.NEW, Category.WATER)
SITE = """
name = "Bakery"
time_zone = "Asia/Tokyo"
accounts = ["1234"]
[zones]
5 = "Oven room"
[[contacts]]
name = "Claire Dumont"
phone = "+33 6 39 98 01 23"
[[instructions]]
name = "Intrusion"
when = [{ rule = "category", in = ["burglary"] }]
priority = "confirmed"
steps = ["Send the guard"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A configuration with one site; nothing runs."""
    (tmp_path / "arcgate.toml").write_text(CONFIG)
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "bakery.toml").write_text(SITE)
    return tmp_path


def now() -> datetime:
    return datetime.now(UTC)


def report(event: Event, ago_s: float = 0, identity: str = "") -> Report:
    return Report(now() - timedelta(seconds=ago_s), "ip", "127.0.0.1:5000", "frame", (event,), identity)


async def keep(home: Path, *reports: Report) -> None:
    """Write reports as the receiver does."""
    journal, durable = Journal(home / "state"), Done()
    journal.append(reports, durable.set)
    await durable.wait()
    await journal.close()


class Watch:
    """`arcgate journal watch`, as somebody sees it."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout
        async with timeout(10):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def told(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(await self.line()) for _ in range(count)]

    async def said(self) -> str:
        """The next line on stderr."""
        assert self.process.stderr
        async with timeout(10):
            return (await self.process.stderr.readline()).decode()

    async def rest(self) -> str:
        """What stands on both after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        stdout, stderr = await self.process.communicate()
        assert self.process.returncode == 0
        return (stdout + stderr).decode()


@asynccontextmanager
async def watching(home: Path, *words: str) -> AsyncIterator[Watch]:
    arguments = ("journal", "watch", *words, "--config", str(home / "arcgate.toml"))
    watch = Watch(await create_subprocess_exec(ARCGATE, *arguments, stdout=PIPE, stderr=PIPE))
    try:
        yield watch
    finally:
        if watch.process.returncode is None:
            watch.process.kill()
            await watch.process.communicate()


async def test_what_came_in_the_last_ten_minutes_and_what_comes_is_shown_without_a_queue(home: Path) -> None:
    """`arcgate receive` alone, as where Redis is away: an old alarm and what is not urgent are left out."""
    await keep(home, report(BURGLARY, ago_s=700), report(BURGLARY, ago_s=500), report(WATER))
    receive = Gateway(home)
    receive.start("receive")
    try:
        async with watching(home, "--urgent", "--json") as watch:
            assert "from entry 2; Ctrl-C ends it" in await watch.said()
            assert [event["position"] for event in await watch.told(1)] == [2]
            await receive.send(sia("1234", "Nri1/HA7", 1), sia("1234", "Nri1/WA5", 2), sia("1234", "Nri1/HR7", 3))
            await receive.send(sia("77", "Nri1/PA1", 4))
            hold_up, panic = await watch.told(2)
            assert (hold_up["code"], hold_up["priority"], hold_up["steps"][0][:6]) == ("HA", 0, "Do NOT")
            assert (panic["site"], panic["name"]) == ("ghost:77", "Unknown account 77")
            assert await watch.rest() == ""
    finally:
        assert receive.stop() == 0


async def test_an_event_is_told_with_its_site_its_instruction_and_whom_to_call(home: Path) -> None:
    await keep(home, report(BURGLARY))
    async with watching(home, "--after", "0", "--json") as watch:
        (told,) = await watch.told(1)
    assert told["id"].endswith("-000000000001-0")
    assert datetime.fromisoformat(told["local_time"]) == datetime.fromisoformat(told["received_at"])
    assert told["local_time"].endswith("+09:00")
    assert told["received_at"].endswith("Z")
    expected = {
        "position": 1,
        "priority": 2,
        "site": "bakery",
        "name": "Bakery",
        "account": "1234",
        "category": "burglary",
        "label": "Burglary alarm",
        "zone": "05",
        "zone_name": "Oven room",
        "instruction": "Intrusion",
        "steps": ["Send the guard"],
        "contacts": [{"name": "Claire Dumont", "phone": "+33 6 39 98 01 23"}],
        "repeat_of": None,
        "mark": "",
    }
    assert expected.items() <= told.items()


async def test_a_person_reads_time_priority_place_and_steps_and_a_repetition_is_marked(home: Path) -> None:
    opening = Event("1234", Format.SIA, "OP", Qualifier.NEW, Category.OPENING, user="3")
    twice = (report(BURGLARY, 309, "one"), report(BURGLARY, 10, "one"))
    await keep(home, *twice, report(opening), report(BURGLARY, -300, "one"))
    async with watching(home, "--after", "0") as watch:
        journal = (await watch.said()).split()[2]
        seen = [await watch.line() for _ in range(10)]
    at = (twice[0].received_at + timedelta(hours=9)).strftime("%Y-%m-%d %H:%M:%S")
    assert seen[:5] == [
        f"{at} JST  CONFIRMED  Bakery  account 1234",
        "    Burglary alarm (BA)  zone 05: Oven room",
        "    Intrusion:",
        "      1. Send the guard",
        "      contact: Claire Dumont, +33 6 39 98 01 23",
    ]
    assert seen[6] == f"    Burglary alarm (BA)  zone 05: Oven room  REPEAT of {journal}-000000000001-0"
    assert [seen[7].split("  ", 1)[1], seen[8]] == ["LOG  Bakery  account 1234", "    Opening (OP)  user 3"]
    assert "CONFIRMED" in seen[9], "300 s after it was last received it is an alarm again"


async def test_a_peers_bytes_do_not_take_over_the_terminal(home: Path) -> None:
    text = "\x1b]0;owned\x07\x9b2J\r\nall is well"
    event = Event("12\x1b[31m", Format.SIA, "HA", Qualifier.NEW, Category.HOLD_UP, zone="\x1b[2J", user="\b", text=text)
    await keep(home, report(event))
    async with watching(home, "--urgent") as watch:
        lines = [await watch.line() for _ in range(3)]
        rest = await watch.rest()
    assert "\ufffd]0;owned\ufffd\ufffd2J\ufffd\ufffdall is well" in lines[1]
    assert all(line.isprintable() for line in lines + rest.splitlines())


async def test_no_journal_a_bad_site_and_another_journal_do_not_stop_it(home: Path) -> None:
    (home / "sites" / "bad.toml").write_text('name = "Bad"\nacounts = ["5"]\n')
    async with watching(home, "--json") as watch:
        assert "did you mean `accounts`?" in await watch.said()
        assert "accounts: is missing" in await watch.said()
        assert "It is tried again each second" in await watch.said()
        await keep(home, report(BURGLARY, ago_s=60), report(HOLD_UP, ago_s=-60))
        assert "from entry 2" in await watch.said()
        assert [(event["position"], event["code"]) for event in await watch.told(1)] == [(2, "HA")]
        (home / "state" / "journal").rename(home / "yesterday")
        assert "It is tried again each second" in await watch.said()
        await keep(home, report(WATER, ago_s=-60))
        assert [(event["position"], event["code"]) for event in await watch.told(1)] == [(1, "WA")]


async def test_what_is_damaged_is_told_and_passed_over(home: Path) -> None:
    """A page of the file that cannot be read, and an entry that is not JSON."""
    await keep(
        home, *(report(Event("1234", Format.SIA, "HA", Qualifier.NEW, Category.HOLD_UP, zone=str(n))) for n in range(1, 101))
    )
    (path,) = (home / "state" / "journal").glob("*.db")
    whole = bytearray(path.read_bytes())
    page = whole.index(b'"zone":"50"') // 4096 * 4096
    whole[page : page + 100] = bytes(100)
    other = whole.index(b'"zone":"99"')
    whole[other] = 0
    path.write_bytes(whole)
    async with watching(home, "--after", "0", "--urgent", "--json") as watch:
        first = await watch.told(1)
        assert (await watch.said()).startswith("watching")
        damage = (await watch.said()).split()
        lost = range(int(damage[1]), int(damage[3]) + 1)
        assert 50 in lost
        readable = [n for n in range(1, 101) if n not in lost and n != 99]
        rest = await watch.told(len(readable) - 1)
        assert "Entry 99 of the journal cannot be read" in await watch.said()
    assert [event["position"] for event in first + rest] == readable


async def test_a_hold_up_with_a_time_that_is_refused_again_is_shown_marked(home: Path) -> None:
    """As dispatch would raise it: from the second refusal on, once."""
    error = FrameError(Reason.OLD_TIME, "its time is 3 h old")
    told = Event("1234", Format.ARCGATE, "refused_old_time", Qualifier.NEW, Category.GENERATED, text="Reports are being refused")
    refused = msgspec.structs.replace(report(told, identity="X"), events=(told, HOLD_UP), error=error)
    await keep(home, refused, refused, refused)
    async with watching(home, "--urgent", "--json", "--after", "0") as watch:
        second, third = await watch.told(2)
        assert (second["position"], second["code"], second["mark"]) == (2, "HA", "refused: its time is 3 h old")
        assert (second["repeat_of"], third["repeat_of"]) == (None, second["id"])
    async with watching(home, "--urgent", "--after", "0") as watch:
        assert "LIFE" in await watch.line()
        assert "refused: its time is 3 h old" in await watch.line()
