"""The load generator: what is due when, the sum of what came, and a run against a gateway."""

import asyncio
import json
import socket
from datetime import UTC, datetime
from itertools import count, islice

import pytest

from arcgate import panel_load
from arcgate.panel_load import Plan, Tally, due
from arcgate.panel_options import PanelOptions
from arcgate.panel_talk import Trip
from protocols.dc09 import Dc09
from tests.conftest import Gateway, run_arcgate, sia

NULL, EVENT = sia("1", "null"), sia("1", "event")


def plan(*, event: bool = True, panels: int = 4, rate: float = 0, seconds: float = 10, interval: float = 0) -> Plan:
    return Plan(EVENT if event else None, NULL, panels, rate, seconds, interval)


def test_the_panels_take_turns_at_the_rate() -> None:
    sent = sorted((at, nth) for nth in range(4) for _, at in due(plan(rate=8, seconds=1), nth, EVENT, NULL, lambda: 0.0))
    assert sent == [(n / 8, n % 4) for n in range(8)]


def test_link_tests_come_between_the_events_at_their_interval() -> None:
    sent = list(due(plan(rate=4, seconds=4, interval=2), 1, EVENT, NULL, lambda: 0.0))
    assert [at for frame, at in sent if frame is NULL] == [0.5, 2.5]
    assert [at for frame, at in sent if frame is EVENT] == [0.25, 1.25, 2.25, 3.25]
    assert [at for _, at in sent] == sorted(at for _, at in sent)


def test_as_fast_as_they_go_still_polls_and_still_ends() -> None:
    clock = count(0, 0.5)
    sent = [frame for frame, _ in due(plan(seconds=10, interval=4), 0, EVENT, NULL, lambda: next(clock))]
    assert (sent.count(NULL), sent[0]) == (3, EVENT)


def test_without_events_the_link_tests_have_the_rate_and_with_an_interval_that() -> None:
    assert [at for _, at in due(plan(event=False, rate=4, seconds=3), 0, None, NULL, lambda: 0.0)] == [0, 1, 2]
    assert [at for _, at in due(plan(event=False, interval=2, seconds=4), 0, None, NULL, lambda: 0.0)] == [0, 2]


def test_a_receiver_that_is_late_does_not_make_it_longer() -> None:
    assert list(islice(due(plan(rate=4, seconds=10), 0, EVENT, NULL, lambda: 11.0), 1)) == []


def test_the_sum_has_times_within_one_per_cent_and_each_error_counted() -> None:
    tally = Tally()
    for ms in range(1, 101):
        tally.note(Trip(b"", b"", float(ms), None))
    tally.note(Trip(b"", b"", None, "DUH: not understood"))
    told = tally.summary(plan(), 2.0)
    assert (told["sent"], told["acked"], told["errors"], told["frames_per_s"]) == (101, 100, {"DUH": 1}, 50.5)
    assert (told["p50_ms"], told["p99_ms"], told["max_ms"]) == (pytest.approx(50, rel=0.011), pytest.approx(99, rel=0.011), 100)


async def test_many_panels_are_acknowledged_each_under_its_own_account(gateway: Gateway) -> None:
    to = await gateway.address()
    panels = ("--to", to, "--account", "0998", "--panels", "3", "--rate", "20", "--seconds", "0.5", "--json")
    done = run_arcgate("panel", "load", *panels, "--code", "RP", "--interval", "0.2")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["sent"] == told["acked"] >= 15
    entries = gateway.told("journal", "list")
    assert {entry["events"][0]["account"] for entry in entries} == {"0998", "0999", "1000"}
    assert len(entries) == 10


async def test_a_connection_that_breaks_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not answered is told, and the panel goes on."""
    monkeypatch.setattr(panel_load, "REOPEN_S", 0.01)
    opened = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        link = Dc09().link()
        for item in link.receive(await reader.readuntil(b"\r"), datetime.now(UTC)):
            writer.write(item.reply)
        await reader.readuntil(b"\r")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        to = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        options = PanelOptions(to=to, account="1")
        tally = Tally()
        await panel_load.play(plan(event=False, panels=2, rate=100, seconds=0.3), options, b"", tally)
    assert opened > 4
    assert tally.reopened == opened - 2
    assert tally.errors["no reply"] == tally.sent - tally.acked >= 3


def test_panels_count_up_from_a_number_and_a_closed_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        to = f"127.0.0.1:{closed.getsockname()[1]}"
    done = run_arcgate("panel", "load", "--to", to, "--account", "A", "--panels", "2")
    assert done.returncode == 2
    assert "--account" in done.stderr
    done = run_arcgate("panel", "load", "--to", to, "--account", "1", "--panels", "2", "--seconds", "0.2")
    assert done.returncode == 1
    assert "connection refused" in done.stderr
