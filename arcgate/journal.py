"""
`arcgate journal`: what was received, and whether it is still what was written. It reads beside a gateway that runs.

    list | watch | verify | backup | forget
"""

import sys
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from arcgate import ledger
from arcgate.ask import ask, load
from arcgate.output import AsJson, clock, fail, print_json, printable
from arcgate.run import ConfigFile, refusing
from protocols.event import Event, Format, Qualifier
from protocols.link import escape

if TYPE_CHECKING:
    from receiver.journal import Entry


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    journal = typer.Typer(help="What was received, and whether it is still what was written.", no_args_is_help=True)
    journal.command("list")(list_entries)
    journal.command()(verify)
    journal.command()(watch)
    journal.command()(backup)
    journal.command()(forget)
    app.add_typer(journal, name="journal")


def list_entries(
    after: ledger.After = None,
    limit: ledger.Limit = 100,
    config_file: ConfigFile = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Then wait for more, until Ctrl-C.")] = False,
    json: AsJson = False,
) -> None:
    """
    List the journal's entries, oldest first: the last ones, or those behind a position.

    Example: `arcgate journal list --after 4000 --limit 20`
    """
    from receiver.journal import JournalError, JournalReader

    loaded = load(config_file)
    write = _line if json else _lines
    with refusing(JournalError), suppress(KeyboardInterrupt), closing(JournalReader(loaded.state_dir)) as reader:

        def read(after: int, limit: int) -> list[tuple[int, str]]:
            return [(entry.position, write(entry)) for entry in reader.read(after, limit)]

        ledger.tell(reader.head(), read, after, limit, follow=follow)


def verify(heads: ledger.Heads = None, config_file: ConfigFile = None, *, json: AsJson = False) -> None:
    """
    Check that no entry was altered, dropped or cut off, from first to last; else name the first that was, and exit with 1.

    It is compared with what Redis knows of it, where that answers, and with each --head that you noted elsewhere.

    Example: `arcgate journal verify`
    """
    from receiver.journal import JournalReader

    loaded = load(config_file)
    ledger.verify("journal", partial(JournalReader, loaded.state_dir, loaded.digest_secret), loaded, heads or (), json=json)


def watch(
    after: Annotated[int | None, typer.Option("--after", min=0, help="Begin behind this position; else: what comes.")] = None,
    config_file: ConfigFile = None,
    *,
    urgent: Annotated[bool, typer.Option("--urgent", help="Life-safety and intrusion alone, from 10 minutes ago on.")] = False,
    json: AsJson = False,
) -> None:
    """
    Print each report as it comes, with its site and what to do, until Ctrl-C. It needs no Redis: for an outage.

    Example: `arcgate journal watch --urgent`
    """
    with suppress(KeyboardInterrupt):
        from arcgate import urgent as journal_watch

        journal_watch.watch(load(config_file), after, urgent=urgent, json=json)


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where `journal` and `register` are copied to.")],
    config_file: ConfigFile = None,
    *,
    json: AsJson = False,
) -> None:
    """
    Copy journal and register while the gateway runs, and verify the copies; again: what is new since then.

    Example: `arcgate journal backup /mnt/backup/arcgate`
    """
    from dispatch.register import RegisterReader
    from receiver.delivered import Delivered
    from receiver.journal import JournalError, JournalReader

    loaded = load(config_file)
    key, state_dir = loaded.digest_secret, loaded.state_dir
    try:
        delivered = Delivered.read(state_dir)  # before the others: it is then never ahead of them
        # First the register: no act in the copy is then of an entry that the copy has not
        if any((state_dir / "register").glob("*.db")):
            ledger.backup("register", partial(RegisterReader, key=key), state_dir, folder, json=json)
        ledger.backup("journal", partial(JournalReader, key=key), state_dir, folder, json=json)
        if delivered:
            delivered.write(folder)
    except (JournalError, OSError) as error:
        fail(str(error), reason="BACKUP", json=json)


def forget(
    journal: Annotated[str, typer.Argument(metavar="JOURNAL", help="Its id, as `dispatch_stopped` names it.")],
    config_file: ConfigFile = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """
    Let Redis forget a journal that is gone for good, so that dispatch may begin with another one; then restart dispatch.

    Example: `arcgate journal forget main-1f2e3d4c`
    """
    from receiver.journal import JournalError, JournalReader

    loaded = load(config_file)
    with suppress(JournalError), closing(JournalReader(loaded.state_dir)) as reader:
        if reader.id == journal:
            why = "what it takes next would have the ids of reports that Redis has seen, and be left out"
            message = f"{journal} is in {reader.folder}: {why}"
            fail(f"{message}. Stop the gateway, move that folder away, start: a new one is begun", reason="INUSE", json=json)
    cursors = ask(config_file, lambda queue: queue.cursors(), json=json)
    if journal not in cursors:
        fail(f"Redis knows no {journal}; it knows {', '.join(sorted(cursors)) or 'none'}", reason="NOJOURNAL", json=json)
    print(f"{journal}: {cursors[journal]} entries are dispatched; any behind them will not be.", file=sys.stderr)
    if not yes:
        typer.confirm("Forget it?", abort=True, err=True)
    ask(config_file, lambda queue: queue.forget(journal), json=json)
    if json:
        print_json({"journal": journal, "cursor": cursors[journal]})
    else:
        print(f"{journal} is forgotten: restart dispatch")


def _line(entry: "Entry") -> str:
    """Write an entry as JSON."""
    return f"{msgspec.json.encode(_fields(entry)).decode()}\n"


def _lines(entry: "Entry") -> str:
    """Write an entry for a person: what it was, and below it the frame; what the gateway says of itself has its text there."""
    report = entry.report
    events = " ".join(_code(event) for event in report.events)
    why = f", refused: {report.error.reason}" if report.error else f", {report.mark}" if report.mark else ""
    told = printable(f"{report.listener} {report.peer}  account {report.events[0].account}: {events}{why}")
    said = _frame(entry) or printable(" ".join(event.text or "" for event in report.events))
    return f"{entry.position:>9}  {clock(report.received_at)} UTC  {told}\n{'':11}{said}\n"


def _code(event: Event) -> str:
    """Write what an event is in a word or two; the frame tells of a panel's own whether it is over."""
    over = event.format is Format.ARCGATE and event.qualifier is Qualifier.RESTORE
    return f"{event.code or event.format}{' restored' if over else ''}"


def _fields(entry: "Entry") -> dict[str, Any]:
    report = entry.report
    return {
        "position": entry.position,
        "received_at": report.received_at,
        "listener": report.listener,
        "peer": report.peer,
        "frame": _frame(entry),
        "events": report.events,
        "digest": entry.digest,
        "error": report.error,
        "mark": report.mark,
        "identity": report.identity,
    }


def _frame(entry: "Entry") -> str:
    return escape(entry.report.frame.encode("latin-1"))
