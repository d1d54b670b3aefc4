"""`arcgate status`: what runs, what it has done, and whether anything waits."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from arcgate.ask import QueueAway, load, open_queue, place
from arcgate.output import AsJson, clock, console, fail, print_json, printable, table
from arcgate.run import ConfigFile

if TYPE_CHECKING:
    from rich.table import Table

    from receiver.config import Config

Account = Annotated[str, typer.Option("--account", "-a", help="What is known of this account alone.")]

HALVES: Final = ("receive", "dispatch")
DIGEST_DIGITS: Final = 16
"""So much of the head's digest is enough to compare it by eye."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(status)


def status(config_file: ConfigFile = None, *, account: Account = "", json: AsJson = False) -> None:
    """
    Say what runs, since when, its listeners and frames, the journal and what waits in it, Redis, the queue by priority.

    With --account: when its panel was last heard and from where, its clock, its dialects, what was refused and why, since the
    receiver's start. Exit code 1 where neither half runs, or that account was not heard.

    Example: `arcgate status`
    """
    import asyncio

    loaded = load(config_file)
    if account:
        _tell_account(loaded, account, json=json)
        return
    told = asyncio.run(_look(loaded))
    if json:
        print_json(told)
    else:
        console().print(_page(told))
    if not any(told[half] for half in HALVES):
        raise typer.Exit(1)


def _tell_account(loaded: "Config", account: str, *, json: bool) -> None:
    import asyncio

    from receiver.receive import socket_path
    from receiver.status import ask

    told = asyncio.run(ask(socket_path(loaded), account))
    if told is None:
        fail("the receiver does not run, or gives no answer: what its panels do is known to it alone", reason="AWAY", json=json)
    told["since"] = datetime.fromtimestamp(told["since"], UTC)
    if json:
        print_json(told)
    else:
        console().print(_account_page(told))
    if not told["heard"]:
        raise typer.Exit(1)


def _account_page(told: dict[str, Any]) -> "Table":
    rows = table("", "", folded=("",))
    for listener, policy in told["listed"].items():
        keys = "" if not policy else f": {policy['keys']} key{'s' * (policy['keys'] != 1)}, time {policy['time']}"
        rows.add_row("account", printable(f"{told['account']} is {'' if policy else 'not '}listed for {listener}{keys}"))
    for heard in told["heard"]:
        sent = ("R", heard["receiver"]), ("L", heard["line"])
        place = [f"{letter}{value}" for letter, value in sent if value is not None]
        rows.add_row(printable(" ".join([heard["listener"], *place])), printable(_heard(heard)))
        if heard["ahead_s"] is not None:
            rows.add_row("  clock", _clock(heard))
        if heard["dialects"]:
            rows.add_row("  dialects", printable(_counts(heard["dialects"])))
        if heard["refused"]:
            last = clock(datetime.fromisoformat(heard["refused_at"]))
            rows.add_row("  refused", printable(f"{_counts(heard['refused'])}; the last at {last} UTC"))
    if not told["heard"]:
        since = f"no frame that names this account since {clock(told['since'])} UTC: `arcgate watch` shows all that comes"
        rows.add_row("not heard", printable(since))
    return rows


def _heard(heard: dict[str, Any]) -> str:
    if not heard["at"]:
        return "nothing was accepted since the start"
    return f"last heard at {clock(datetime.fromisoformat(heard['at']))} UTC from {heard['peer']}"


def _clock(heard: dict[str, Any]) -> str:
    ahead_s = heard["ahead_s"]
    how = "right" if abs(ahead_s) < 1 else f"{abs(ahead_s):,.0f} s {'ahead' if ahead_s > 0 else 'behind'}"
    return how + (": too far; `clock_off` is raised until it is back" if heard["clock_off"] else "")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))


async def _look(loaded: "Config") -> dict[str, Any]:
    """Ask both halves, the journal and the queue: each may be there without the others."""
    from receiver.delivered import Delivered
    from receiver.journal import JournalError, JournalReader
    from receiver.status import ask

    halves = {half: await ask(loaded.state_dir / f"{half}.sock") for half in HALVES}
    for half in halves.values():
        if half:
            half["since"] = datetime.fromtimestamp(half["since"], UTC)
    waiting = (halves["receive"] or {}).get("undelivered")
    if waiting and waiting["since"]:
        waiting["since"] = datetime.fromtimestamp(waiting["since"], UTC)
    journal: dict[str, Any] = {"id": None, "head": 0, "digest": None, "lag": None, "error": None}
    try:
        reader = JournalReader(loaded.state_dir)
        head = reader.head()
        journal |= {"id": reader.id, "head": head, "digest": (reader.digest(head) or b"").hex() or None}
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
        if (told := Delivered.read(loaded.state_dir)) and told.journal == journal["id"]:
            journal["lag"] = max(0, journal["head"] - told.cursor)
    return {**halves, "journal": journal, "redis": redis, "queue": queue}


def _page(told: dict[str, Any]) -> "Table":
    rows = table("", "", folded=("",))
    for half in HALVES:
        running = told[half]
        rows.add_row(half, f"runs as process {running['pid']} since {clock(running['since'])} UTC" if running else "not running")
        if half == "receive" and running:
            for listener in running["listeners"]:
                rows.add_row(f"  {listener['name']}", printable(_listener(listener)))
            if running["undelivered"]["lag"]:
                rows.add_row("  undelivered", _undelivered(running["undelivered"]))
            if running["disk"]:
                rows.add_row("  disk", _disk(running["disk"]))
            if not running["journal"]["writable"]:
                rows.add_row("  journal", printable(_not_written(running)))
        if half == "dispatch" and running and running["not_copied"]:
            rows.add_row("  files", printable(f"CANNOT BE WRITTEN: {running['not_copied']}"))
    rows.add_row("journal", printable(_journal(told["journal"])))
    rows.add_row("redis", printable(_redis(told)))
    if told["queue"] is not None:
        counts = ", ".join(f"{count:,} {priority}" for priority, count in told["queue"].items())
        rows.add_row("queue", counts or "no alarm is open")
    return rows


def _undelivered(waiting: dict[str, Any]) -> str:
    todo = ": work from `arcgate journal watch --urgent`" if waiting["raised"] else ""
    return f"{waiting['lag']:,} reports, the oldest since {clock(waiting['since'])} UTC{todo}"


def _disk(disk: dict[str, int | None]) -> str:
    files = "" if disk["free_files"] is None else f", room for {disk['free_files']:,} files"
    return f"{disk['free_bytes']:,} bytes free{files}"


def _not_written(receiver: dict[str, Any]) -> str:
    if receiver["journal"]["full"]:
        return f"DISK FULL: nothing is acknowledged until there is room: {receiver['journal']['full']}"
    if receiver["undelivered"]["refusing"]:
        return "REFUSING: nothing is acknowledged until all is delivered, as `refuse_when_undelivered` has it"
    return "CANNOT BE WRITTEN: nothing is acknowledged; its log says why"


def _redis(told: dict[str, Any]) -> str:
    """Say whether it can be reached from here, and why dispatch does not use it all the same."""
    seen = (told["dispatch"] or {}).get("redis", {"away": None, "bringing_up_s": None})
    if told["redis"]["error"]:
        return str(told["redis"]["error"]) + (f" Dispatch says: {seen['away']}" if seen["away"] else "")
    refused = f", but DISPATCH DOES NOT USE IT: {seen['away']}" if seen["away"] else ""
    refill = (
        "" if seen["bringing_up_s"] is None else f", being refilled for {seen['bringing_up_s']:,.0f} s: new reports wait behind"
    )
    return f"{told['redis']['place']}: reachable{refused}{refill}"


def _journal(journal: dict[str, Any]) -> str:
    if journal["error"]:
        return str(journal["error"])
    lag = "" if journal["lag"] is None else f", {journal['lag']:,} wait for dispatch"
    digest = f", head {journal['digest'][:DIGEST_DIGITS]}" if journal["digest"] else ""
    return f"{journal['id']}: {journal['head']:,} entries{lag}{digest}"


def _listener(listener: dict[str, Any]) -> str:
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(listener["counts"].items()))
    until = f", certificate until {listener['certificate_until'][:10]}" if listener["certificate_until"] else ""
    connected = "" if listener["transport"] == "udp" else f"{listener['connected']:,} connected"
    transport = "" if listener["transport"] == "tcp" else f" {listener['transport']}"
    there = f"{' '.join(listener['addresses'])}{transport}"
    return f"{there}: {connected}{until}{connected and counts and ': '}{counts}"
