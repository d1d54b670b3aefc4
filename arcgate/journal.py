"""
`arcgate journal`: what was received, and whether it is still what was written. It reads beside a gateway that runs.

    list | verify
"""

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from arcgate.ask import load
from arcgate.output import AsJson, clock, fail, print_json, printable
from arcgate.run import ConfigFile, refusing
from protocols.link import escape

if TYPE_CHECKING:
    from receiver.journal import Entry, JournalReader

_BATCH: Final = 1000
POLL_S: Final = 0.1


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    journal = typer.Typer(help="What was received, and whether it is still what was written.", no_args_is_help=True)
    journal.command("list")(list_entries)
    journal.command()(verify)
    app.add_typer(journal, name="journal")


def list_entries(
    after: Annotated[int | None, typer.Option("--after", min=0, help="Begin behind this position; else: the last ones.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")] = 100,
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
    with refusing(JournalError), suppress(KeyboardInterrupt):
        reader = JournalReader(loaded.state_dir)
        head = reader.head()
        begin = after if after is not None else max(0, head - limit) if limit else 0
        reached = begin
        for entries in _batches(reader, begin, limit, follow=follow):
            _tell(entries, json=json)
            reached = entries[-1].position
        if reached < head:
            print(f"up to {reached} of {head}: `--after {reached}` goes on, `--limit 0` shows all", file=sys.stderr)


def verify(config_file: ConfigFile = None, *, json: AsJson = False) -> None:
    """
    Check that no entry was altered, from the first to the last; else name the first that was, and exit with 1.

    Example: `arcgate journal verify`
    """
    from receiver.journal import JournalError, JournalReader

    loaded = load(config_file)
    journal, reached = None, 0
    try:
        reader = JournalReader(loaded.state_dir)
        journal = reader.id
        for reached in _shown(reader):  # noqa: B007 - the last one is what counts
            pass
        last = reader.read(reached - 1, 1)
    except JournalError as error:
        if json:
            print_json({"journal": journal, "entries": reached, "ok": False, "error": str(error), "entry": error.position})
        fail(str(error))
    if json:
        print_json({"journal": journal, "entries": reached, "ok": True, "error": None, "entry": None})
    else:
        print(f"{journal}: {reached} entries, head digest {last[0].digest if last else 'none'}: unaltered")


def _batches(reader: "JournalReader", after: int, limit: int, *, follow: bool) -> Iterator[list["Entry"]]:
    """Give entries a batch at a time; with `follow`, for ever: the limit then says only where they begin."""
    given = 0
    while True:
        size = _BATCH if follow or not limit else min(_BATCH, limit - given)
        if size and (entries := reader.read(after, size)):
            after, given = entries[-1].position, given + len(entries)
            yield entries
        elif not follow:
            return
        else:
            time.sleep(POLL_S)


def _shown(reader: "JournalReader") -> Iterator[int]:
    """Give the positions that `verify` reaches, with a bar where a person waits at a terminal."""
    if not sys.stderr.isatty():
        yield from reader.verify()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    columns = ("checking", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=reader.head())
        for reached in reader.verify():
            progress.update(task, completed=reached)
            yield reached


def _tell(entries: list["Entry"], *, json: bool) -> None:
    if json:
        encode = msgspec.json.Encoder().encode
        lines = [f"{encode(_fields(entry)).decode()}\n" for entry in entries]
    else:
        lines = [_lines(entry) for entry in entries]
    sys.stdout.write("".join(lines))
    sys.stdout.flush()  # whoever follows reads it now


def _lines(entry: "Entry") -> str:
    """Write an entry for a person: what it was, and below it the frame."""
    report = entry.report
    events = " ".join(event.code or str(event.format) for event in report.events)
    why = f", refused: {report.error.reason}" if report.error else ""
    told = printable(f"{report.listener} {report.peer}  account {report.events[0].account}: {events}{why}")
    return f"{entry.position:>9}  {clock(report.received_at)} UTC  {told}\n{'':11}{_frame(entry)}\n"


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
        "identity": report.identity,
    }


def _frame(entry: "Entry") -> str:
    return escape(entry.report.frame.encode("latin-1"))
