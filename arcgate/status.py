"""`arcgate status`: what runs, what it has done, and whether anything waits."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import typer

from arcgate.ask import QueueAway, load, open_queue, place
from arcgate.output import AsJson, clock, console, print_json, printable, table
from arcgate.run import ConfigFile

if TYPE_CHECKING:
    from rich.table import Table

    from receiver.config import Config

HALVES: Final = ("receive", "dispatch")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(status)


def status(config_file: ConfigFile = None, *, json: AsJson = False) -> None:
    """
    Say what runs, since when, its listeners and frames, the journal and what waits in it, Redis, the queue by priority.

    Exit code 1 where neither half runs.

    Example: `arcgate status`
    """
    import asyncio

    told = asyncio.run(_look(load(config_file)))
    if json:
        print_json(told)
    else:
        console().print(_page(told))
    if not any(told[half] for half in HALVES):
        raise typer.Exit(1)


async def _look(loaded: "Config") -> dict[str, Any]:
    """Ask both halves, the journal and the queue: each may be there without the others."""
    from receiver.journal import JournalError, JournalReader
    from receiver.status import ask

    halves = {half: await ask(loaded.state_dir / f"{half}.sock") for half in HALVES}
    for half in halves.values():
        if half:
            half["since"] = datetime.fromtimestamp(half["since"], UTC)
    journal: dict[str, Any] = {"id": None, "head": 0, "lag": None, "error": None}
    try:
        reader = JournalReader(loaded.state_dir)
        journal |= {"id": reader.id, "head": reader.head()}
        reader.close()
    except JournalError as error:
        journal["error"] = str(error)
    redis = {"place": place(loaded), "embedded": loaded.redis.url == "embedded", "reachable": True, "error": None}
    queue: dict[str, int] | None = None
    try:
        async with open_queue(loaded) as asked:
            queue = {priority.name.lower(): count for priority, count in (await asked.counts()).items()}
            if journal["id"]:
                journal["lag"] = max(0, journal["head"] - await asked.cursor(journal["id"]))
    except QueueAway as away:
        redis |= {"reachable": False, "error": str(away)}
    return {**halves, "journal": journal, "redis": redis, "queue": queue}


def _page(told: dict[str, Any]) -> "Table":
    rows = table("", "", folded=("",))
    for half in HALVES:
        running = told[half]
        rows.add_row(half, f"runs as process {running['pid']} since {clock(running['since'])} UTC" if running else "not running")
        if half == "receive" and running:
            for listener in running["listeners"]:
                rows.add_row(f"  {listener['name']}", printable(_listener(listener)))
            if not running["journal"]["writable"]:
                rows.add_row("  journal", "CANNOT BE WRITTEN: nothing is acknowledged; its log says why")
    journal = told["journal"]
    lag = "" if journal["lag"] is None else f", {journal['lag']:,} wait for dispatch"
    rows.add_row("journal", printable(journal["error"] or f"{journal['id']}: {journal['head']:,} entries{lag}"))
    rows.add_row("redis", printable(told["redis"]["error"] or f"{told['redis']['place']}: reachable"))
    if told["queue"] is not None:
        counts = ", ".join(f"{count:,} {priority}" for priority, count in told["queue"].items())
        rows.add_row("queue", counts or "no alarm is open")
    return rows


def _listener(listener: dict[str, Any]) -> str:
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(listener["counts"].items()))
    return f"{' '.join(listener['addresses'])}: {listener['connected']:,} connected{counts and ': '}{counts}"
