"""How an alarm is told: its fields for programs, a line or a page for people."""

import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from arcgate.output import clock, printable, table, utc
from dispatch.alarm import Alarm, Priority

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

LISTED: Final = (
    *("id", "site", "priority", "category", "state", "events", "opened_at", "owner"),
    *("name", "label", "account", "returned", "repeats"),
)
"""What a list tells of an alarm. The fence is its owner's: who reads a list must not act on it."""

_STYLES: Final = {
    Priority.LIFE: "bold red",
    Priority.FIRE: "bold red",
    Priority.CONFIRMED: "bold yellow",
    Priority.INTRUSION: "yellow",
}


def fields(alarm: Alarm) -> dict[str, Any]:
    """Return all of an alarm for JSON: moments are moments, not numbers."""
    told = msgspec.structs.asdict(alarm)
    return told | {name: utc(told[name]) for name in ("opened_at", "lease_until", "closed_at")}


def listed(alarm: Alarm) -> dict[str, Any]:
    """Return what a list tells of an alarm, for JSON."""
    told = fields(alarm)
    return {name: told[name] for name in LISTED}


def list_table(alarms: Iterable[Alarm]) -> "Table":
    """Lay alarms out, one a line."""
    rows = table("priority", "opened (UTC)", "id", "state", "events", "what", folded=("state", "what"))
    for alarm in alarms:
        what = f"{alarm.name}: {alarm.label}"
        cells = (f"{utc(alarm.opened_at):%m-%d %H:%M:%S}", alarm.id, _state(alarm), alarm.events, what)
        rows.add_row(priority(alarm.priority), *map(printable, cells))
    return rows


def change_line(change: str, alarm: Alarm) -> str:
    """Write one change of an alarm on a line."""
    words = (change, alarm.priority.name.lower(), alarm.name, alarm.label, f"{alarm.events} events", _state(alarm), alarm.id)
    return printable("  ".join(words))


def page(alarm: Alarm) -> "Table":
    """Lay one alarm out, without its events."""
    rows = table("", "", folded=("",))
    told: dict[str, Any] = {
        "alarm": alarm.id,
        "priority": priority(alarm.priority),
        "what": f"{alarm.label} ({alarm.category})",
        "site": alarm.name if alarm.name == alarm.site else f"{alarm.name} ({alarm.site})",
        "account": alarm.account,
        "opened": f"{clock(utc(alarm.opened_at))} UTC",
        "state": _state(alarm),
        "closed": alarm.closed_at and f"{clock(utc(alarm.closed_at))} UTC",
        "outcome": alarm.outcome,
        "note": alarm.note,
        "events": alarm.events,
        "repeats": alarm.repeats or None,
        "returned": alarm.returned and f"{alarm.returned} (a lease ran out)",
        "instruction": alarm.instruction,
    }
    told |= {f"{'steps' if n == 1 else ''}{' ' * n}": f"{n}. {step}" for n, step in enumerate(alarm.steps, 1)}
    for name, value in told.items():
        if value:
            rows.add_row(name.rstrip(), value if name == "priority" else printable(value))
    return rows


def event_table(events: Sequence[dict[str, Any]]) -> "Table":
    """Lay an alarm's events out, one a line, as the queue gives them."""
    rows = table("received (UTC)", "code", "what", "where", "text", folded=("what", "where", "text"))
    for event in events:
        where = " ".join(f"{name} {event[name]}" for name in ("partition", "zone", "user") if event.get(name))
        text, mark = event.get("text") or dict(event.get("extended", ())).get("I") or "", event.get("mark", "")
        text = text if mark in text else f"{text} ({mark})".lstrip()
        rows.add_row(
            *map(printable, (clock(datetime.fromisoformat(event["received_at"])), event["code"], event["label"], where, text))
        )
    return rows


def next_commands(alarm: Alarm, config_file: Path | None) -> str:
    """Write what the operator who has the alarm may type next."""
    config = f" --config {shlex.quote(str(config_file))}" if config_file else ""
    with_fence = f"{shlex.quote(alarm.id)} --fence {alarm.fence}"
    return (
        f"It is yours until {clock(utc(alarm.lease_until))} UTC. Next:\n"
        f"  arcgate alarms renew {with_fence}{config}\n"
        f"  arcgate alarms close {with_fence} --seen {alarm.events} --outcome OUTCOME{config}\n"
        f"  arcgate alarms release {with_fence}{config}"
    )


def priority(priority: Priority) -> "Text":
    """Write a priority's name, the urgent ones in colour."""
    from rich.text import Text

    return Text(priority.name.lower(), _STYLES.get(priority, ""))


def _state(alarm: Alarm) -> str:
    return f"{alarm.state} by {alarm.owner}" if alarm.owner else str(alarm.state)
