"""
`arcgate register`: what people did, and whether it is still what was written. It reads beside a gateway that runs.

    list | verify

Notes are shown: they are personal, and this is the place for them.
"""

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from arcgate import ledger
from arcgate.ask import load
from arcgate.output import AsJson, clock, printable, utc
from arcgate.run import ConfigFile, refusing
from dispatch.alarm import Priority

if TYPE_CHECKING:
    from dispatch.register import Act


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verbs = typer.Typer(help="What people did, and whether it is still what was written.", no_args_is_help=True)
    verbs.command("list")(list_acts)
    verbs.command()(verify)
    app.add_typer(verbs, name="register")


def list_acts(
    after: ledger.After = None, limit: ledger.Limit = 100, config_file: ConfigFile = None, *, json: AsJson = False
) -> None:
    """
    List what people did, oldest first: the last acts, or those behind a position.

    Example: `arcgate register list --after 4000 --limit 20`
    """
    from dispatch.register import RegisterReader
    from receiver.ledger import LedgerError

    loaded = load(config_file)
    write = _line if json else _lines
    with refusing(LedgerError), closing(RegisterReader(loaded.state_dir)) as reader:

        def read(after: int, limit: int) -> list[tuple[int, str]]:
            return [(position, write(position, act)) for position, act in reader.acts(after, limit)]

        ledger.tell(reader.head(), read, after, limit)


def verify(heads: ledger.Heads = None, config_file: ConfigFile = None, *, json: AsJson = False) -> None:
    """
    Check that no act was altered, dropped or cut off, from first to last; else name the first that was, and exit with 1.

    It is compared with what Redis knows of it, where that answers, and with each --head that you noted elsewhere.

    Example: `arcgate register verify`
    """
    from dispatch.register import RegisterReader

    loaded = load(config_file)
    reads = partial(RegisterReader, loaded.state_dir, loaded.digest_secret)
    ledger.verify("register", reads, loaded, heads or (), name="register:", json=json)


def _line(position: int, act: "Act") -> str:
    """Write an act as JSON."""
    told: dict[str, Any] = {"position": position, "at": utc(act.at_ms), **msgspec.structs.asdict(act)}
    return f"{msgspec.json.encode(told).decode()}\n"


def _lines(position: int, act: "Act") -> str:
    """Write an act for a person: what was done, and below it how it ended."""
    priority = Priority(act.priority).name.lower() if act.priority in set(Priority) else str(act.priority)
    events = f"{act.events} {'event' if act.events == 1 else 'events'}"
    told = "  ".join((act.act, f"by {act.operator}", priority, act.site, act.alarm, events))
    ended = "  ".join(filter(None, (act.outcome, act.note)))
    below = f"{'':11}{printable(ended)}\n" if ended else ""
    return f"{position:>9}  {clock(utc(act.at_ms))} UTC  {printable(told)}\n{below}"
