"""`arcgate alarms watch`: what happens in the queue, as it happens."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from arcgate import alarm_view
from arcgate.ask import QueueAway, load, open_queue
from arcgate.output import print_json
from dispatch.alarm import Alarm, AlarmState

if TYPE_CHECKING:
    from dispatch.alarm_queue import AlarmQueue

POLL_S: Final = 1.0
WATCHED_MAX: Final = 1000
"""The most urgent so many: asking for more each second would be felt by the operators."""


async def follow(config_file: Path | None, *, json: bool) -> None:
    """Print what is open, then what changes, for ever; where the queue goes away it says so once, and waits."""
    import asyncio

    loaded = load(config_file)
    known: dict[str, Alarm] | None = None
    away = False
    while True:
        try:
            async with open_queue(loaded) as queue:
                seen = {alarm.id: alarm for alarm in await queue.open_alarms(WATCHED_MAX)}
                closed = await _closed(queue, (known or {}).keys() - seen.keys())
        except QueueAway as error:
            if not away:
                print(f"{error} Until it answers again, nothing is shown", file=sys.stderr)
            away = True
        else:
            if away:
                print("the queue answers again", file=sys.stderr)
            away = False
            for change, alarm in changes(known, seen, closed):
                if json:
                    print_json({"change": change, **alarm_view.listed(alarm)})
                else:
                    print(alarm_view.change_line(change, alarm), flush=True)
            known = seen
        await asyncio.sleep(POLL_S)


async def _closed(queue: "AlarmQueue", gone: Iterable[str]) -> list[Alarm]:
    """Return the alarms that were closed; what only gave way to more urgent ones is not among them."""
    return [alarm for alarm_id in gone if (alarm := await queue.alarm(alarm_id)) and alarm.state is AlarmState.CLOSED]


def changes(before: Mapping[str, Alarm] | None, now: Mapping[str, Alarm], closed: Iterable[Alarm]) -> list[tuple[str, Alarm]]:
    """
    Say what happened between two looks: each change and its alarm, as it is now.

    before: None at the first look. A change is `open` (at the first look), `opened`, `raised`, `joined`, `claimed`, `released`,
    `returned` (its lease ran out) or `closed`.
    """
    found: list[tuple[str, Alarm]] = []
    for alarm in now.values():
        was = before.get(alarm.id) if before else None
        if was is None:
            found.append(("open" if before is None else "opened", alarm))
            continue
        if alarm.priority < was.priority:
            found.append(("raised", alarm))
        elif alarm.events > was.events:
            found.append(("joined", alarm))
        if alarm.fence != was.fence:
            back = "returned" if alarm.returned > was.returned else "released"
            found.append(("claimed" if alarm.state is AlarmState.CLAIMED else back, alarm))
    return found + [("closed", alarm) for alarm in closed]
