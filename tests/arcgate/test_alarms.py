"""The console in the terminal, against a gateway that really runs."""

import asyncio
import json
import re
import shlex
import signal
from asyncio.subprocess import PIPE
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arcgate.alarm_view import event_table
from arcgate.alarm_watch import changes
from arcgate.ask import QueueAway, load, open_queue
from dispatch.alarm import Alarm, AlarmState, Priority
from protocols.event import Category
from tests.conftest import ARCGATE, CONFIG, Gateway, run_arcgate, sia

LISTED = ["id", "site", "priority", "category", "state", "events", "opened_at", "owner"]


async def test_a_first_alarm_from_the_panel_to_its_close(gateway: Gateway) -> None:
    to = await gateway.address()
    panel = run_arcgate("panel", "send", "--to", to, "--account", "1234", "--code", "BA", "--zone", "5", "--text", "front door")
    assert panel.returncode == 0, panel.stderr

    (alarm,) = gateway.told("alarms", "list")
    assert list(alarm)[:8] == LISTED
    assert "fence" not in alarm
    assert alarm["site"] == "ghost:1234"
    assert (alarm["priority"], alarm["category"], alarm["state"], alarm["events"]) == (3, "burglary", "waiting", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", alarm["opened_at"])

    (claimed,) = gateway.told("alarms", "claim", "--operator", "anna")
    assert (claimed["id"], claimed["owner"], claimed["state"]) == (alarm["id"], "anna", "claimed")
    assert claimed["steps"]
    assert claimed["lease_until"].endswith("Z")

    gateway.told(
        *("alarms", "close", alarm["id"], "--fence", claimed["fence"]),
        *("--seen", "1", "--outcome", "false alarm", "--note", "a cat"),
    )
    (closed,) = gateway.told("alarms", "show", alarm["id"])
    assert (closed["state"], closed["outcome"], closed["note"]) == ("closed", "false alarm", "a cat")
    assert [(event["label"], event["zone"], event["text"]) for event in closed["event_list"]] == [
        ("Burglary alarm", "5", "front door")
    ]

    done = gateway.arcgate("alarms", "claim", "--operator", "anna", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "nothing waits\n")


async def test_on_a_page_the_next_commands_can_be_typed_as_they_stand(gateway: Gateway) -> None:
    await gateway.send(sia("1234", "Nri1/FA5^kitchen^"))
    listed = gateway.arcgate("alarms", "list").stdout
    assert "fire" in listed
    assert "Unknown account 1234" in listed
    page = gateway.arcgate("alarms", "claim", "--operator", "anna").stdout
    assert "1. " in page
    assert "kitchen" in page
    commands = [shlex.split(line) for line in page.splitlines() if line.startswith("  arcgate ")]
    assert [command[2] for command in commands] == ["renew", "close", "release"]
    for command in commands[:2]:
        done = run_arcgate(*command[1:])
        assert done.returncode == 0, done.stderr


async def test_an_act_that_is_not_the_present_claim_s_is_refused_and_says_why(gateway: Gateway) -> None:
    await gateway.send(sia("1234", "Nri1/BA5"))
    (claimed,) = gateway.told("alarms", "claim", "--operator", "anna")
    alarm, fence = claimed["id"], claimed["fence"]
    await gateway.send(sia("1234", "Nri1/BA6", 2))

    def refused(*words: object) -> str:
        done = gateway.arcgate("alarms", *words, "--json")
        assert done.returncode == 1
        error = json.loads(done.stdout)["error"]
        assert error["message"] == done.stderr.strip()
        return str(error["reason"])

    acts = {
        "CHANGED": ("close", alarm, "--fence", fence, "--seen", 1, "--outcome", "x"),
        "FENCED": ("release", alarm, "--fence", fence - 1),
        "NOALARM": ("show", "nobody-knows-1"),
        "BADARG": ("claim", "--operator", ""),
    }
    with ThreadPoolExecutor() as hands:
        assert list(hands.map(lambda words: refused(*words), acts.values())) == list(acts)

    assert gateway.told("alarms", "release", alarm, "--fence", fence)[0]["state"] == "waiting"


def test_a_queue_that_is_away_is_told_in_words_with_what_to_check(tmp_path: Path) -> None:
    config = tmp_path / "arcgate.toml"
    config.write_text(CONFIG)
    done = run_arcgate("alarms", "list", "--config", config, "--json")
    assert done.returncode == 1
    assert "is `arcgate run` or `arcgate dispatch` running" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout) == {"error": {"reason": "AWAY", "message": done.stderr.strip()}}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://operator:hunter2@127.0.0.1:1/0", "Redis at redis://127.0.0.1:1/0 gives no answer"),
        ("redis://:hun/ter2@127.0.0.1:1", "cannot be read"),
        ("unix:///nowhere/redis.sock?password=hunter2", "Redis at unix:///nowhere/redis.sock gives no answer"),
    ],
)
async def test_a_queue_that_is_away_is_named_without_its_password(tmp_path: Path, url: str, says: str) -> None:
    config = tmp_path / "arcgate.toml"
    config.write_text(f'{CONFIG}\n[redis]\nurl = "{url}"\n')
    with pytest.raises(QueueAway) as away:
        async with open_queue(load(config)) as queue:
            await queue.counts()
    assert says in str(away.value)
    assert "hun" not in str(away.value)


async def test_watch_tells_what_happens_and_survives_the_queue_s_going_away(gateway: Gateway) -> None:
    await gateway.send(sia("1", "Nri1/WA1"))
    words = ("alarms", "watch", "--json", "--config", str(gateway.config))
    watching = await asyncio.create_subprocess_exec(ARCGATE, *words, stdout=PIPE, stderr=PIPE)
    assert watching.stdout
    assert watching.stderr
    changes_told = watching.stdout

    async def next_change() -> tuple[str, str]:
        told = json.loads(await changes_told.readline())
        return told["change"], told["site"]

    assert await next_change() == ("open", "ghost:1")
    await gateway.send(sia("2", "Nri1/FA1"))
    assert await next_change() == ("opened", "ghost:2")
    gateway.told("alarms", "claim", "--operator", "anna")
    assert await next_change() == ("claimed", "ghost:2")
    gateway.stop()
    assert b"Until it answers again, nothing is shown" in await watching.stderr.readline()
    gateway.start()
    assert await watching.stderr.readline() == b"the queue answers again\n"
    watching.send_signal(signal.SIGINT)
    assert await watching.wait() == 0
    assert await watching.stderr.read() == b""


def an_alarm(**fields: Any) -> Alarm:
    alarm = Alarm(
        id="j-1-0",
        site="s",
        name="S",
        account="1",
        priority=Priority.FAULT,
        category=Category.FAULT,
        label="Fault",
        instruction="i",
        steps=(),
        state=AlarmState.WAITING,
        opened_at=0,
        events=1,
        repeats=0,
        returned=0,
    )
    return msgspec.structs.replace(alarm, **fields)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({}, {"events": 2}, ["joined"]),
        ({}, {"events": 2, "priority": Priority.FIRE}, ["raised"]),
        ({}, {"state": AlarmState.CLAIMED, "fence": 7, "owner": "anna"}, ["claimed"]),
        ({"fence": 7}, {}, ["released"]),
        ({"fence": 7}, {"returned": 1}, ["returned"]),
        ({"fence": 7}, {"fence": 8, "state": AlarmState.CLAIMED, "returned": 1, "events": 2}, ["joined", "claimed"]),
        ({}, {"repeats": 1}, []),
    ],
)
def test_two_looks_tell_what_happened_between_them(before: dict[str, Any], now: dict[str, Any], told: list[str]) -> None:
    was, found = an_alarm(**before), an_alarm(**now)
    assert changes({was.id: was}, {found.id: found}, []) == [(change, found) for change in told]


def test_the_first_look_tells_what_is_open_and_later_ones_what_opened_or_was_closed() -> None:
    alarm = an_alarm()
    assert changes(None, {alarm.id: alarm}, []) == [("open", alarm)]
    assert changes({}, {alarm.id: alarm}, []) == [("opened", alarm)]
    assert changes({alarm.id: alarm}, {}, [alarm]) == [("closed", alarm)]


@pytest.mark.parametrize(
    ("text", "mark", "shown"),
    [
        ("Shop door", "", "Shop door"),
        ("Shop door", "refused: 3 h old", "Shop door (refused: 3 h old)"),
        (None, "refused: 3 h old", "(refused: 3 h old)"),
        ("Reports are being refused: 3 h old", "3 h old", "Reports are being refused: 3 h old"),
    ],
)
def test_what_was_wrong_with_a_frame_stands_by_its_event(text: str | None, mark: str, shown: str) -> None:
    event = {"received_at": "2026-03-02T12:00:00Z", "code": "BA", "label": "Burglary", "text": text, "mark": mark}
    assert [str(cell) for cell in event_table([event]).columns[4].cells] == [shown]
