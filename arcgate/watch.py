"""
`arcgate watch`: what panels send and what they are answered, as it happens, for whoever commissions one.

    state/receive.watch.sock, a JSON object a line, {"lost": n} where this reader was too slow -> a few lines of text each
"""

import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from arcgate.ask import load
from arcgate.output import AsJson, clock, print_json, printable
from arcgate.run import ConfigFile
from protocols import codes
from protocols.errors import FrameError
from protocols.event import CENTRE, Event

if TYPE_CHECKING:
    from asyncio import StreamReader

AGAIN_S: Final = 0.5
"""How often a receiver that is away is looked for."""
LINE_BYTES_MAX: Final = 1 << 20


class Seen(msgspec.Struct, frozen=True):
    """A frame as the receiver read it; or, where `lost` is set, how many it could not tell us of."""

    at: datetime | None = None
    listener: str = ""
    peer: str = ""
    received: str = ""
    """`message`, `link_test` or `rejected`."""
    account: str | None = None
    frame: str = ""
    events: tuple[Event, ...] = ()
    reply: str = ""
    """Empty: silence."""
    error: FrameError | None = None
    mark: str = ""
    dialects: tuple[str, ...] = ()
    lost: int = 0


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(watch)


def watch(
    account: Annotated[str, typer.Option("--account", metavar="N", help="This account alone.")] = "",
    listener: Annotated[str, typer.Option("--listener", metavar="NAME", help="This listener alone.")] = "",
    config_file: ConfigFile = None,
    *,
    json: AsJson = False,
) -> None:
    """
    Show each frame as it comes: its events, its reply, why it is refused. Until Ctrl-C; a restarted receiver is found again.

    Example: `arcgate watch --account 1234`
    """
    import asyncio

    path = load(config_file).state_dir / "receive.watch.sock"
    with suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(_follow(path, account, listener, json=json))


async def _follow(path: Path, account: str, listener: str, *, json: bool) -> None:
    async for line in _lines(path):
        seen = _read(line)
        if seen is None:
            print(f"the receiver said what this arcgate does not understand: {line[:100]!r}", file=sys.stderr)
        elif seen.lost or (_is_of(seen, account) and listener in {"", seen.listener}):
            if json:
                print_json(_labelled(line, seen))
            else:
                print("\n".join(map(printable, page(seen))), end="\n\n", flush=True)


def _is_of(seen: Seen, wanted: str) -> bool:
    """
    Compare as the receiver looks accounts up: without regard to case; nothing wanted is all.

    What is so damaged that no account can be read in it is shown where the wanted one stands in it anywhere.
    """
    wanted, account = wanted.casefold(), (seen.account or "").casefold()
    return wanted in {"", account} or (account in {"", CENTRE} and wanted in seen.frame.casefold())


async def _lines(path: Path) -> AsyncIterator[bytes]:
    """Give each line that the receiver writes, for ever; where it is away, say so once and wait for it."""
    import asyncio

    from receiver.status import connect

    away = False
    while True:
        try:
            reader, writer = await connect(path, LINE_BYTES_MAX)
        except OSError as error:
            if not away:
                why = error.strerror or str(error)
                print(f"{path}: {why}: does `arcgate run` or `arcgate receive` run with this state_dir? Waiting", file=sys.stderr)
            away = True
            await asyncio.sleep(AGAIN_S)
            continue
        print("watching; Ctrl-C ends it", file=sys.stderr)
        away = False
        async for line in _read_lines(reader):
            yield line
        writer.close()
        print("the receiver has stopped", file=sys.stderr)


async def _read_lines(reader: "StreamReader") -> AsyncIterator[bytes]:
    """Give each whole line until the end; one that is too long ends it too."""
    with suppress(OSError, ValueError):
        while (line := await reader.readline()).endswith(b"\n"):
            yield line


def _read(line: bytes) -> Seen | None:
    try:
        return msgspec.json.decode(line, type=Seen)
    except msgspec.MsgspecError:
        return None


def _labelled(line: bytes, seen: Seen) -> dict[str, Any]:
    """Return the line as it came, and what each event means."""
    told: dict[str, Any] = msgspec.json.decode(line)
    for told_event, event in zip(told.get("events") or (), seen.events, strict=True):
        told_event["label"] = codes.label(event)
    return told


def page(seen: Seen) -> list[str]:
    """Lay a frame out for a person: what is empty is left out."""
    if seen.lost:
        return [f"{seen.lost} frames are not shown: they came faster than this reader could take them"]
    what = {"message": "report", "link_test": "link test", "rejected": "REFUSED"}.get(seen.received, seen.received)
    lines = [f"{clock(seen.at)} UTC  {seen.listener} {seen.peer}  account {seen.account or '-'}  {what}", f"  {seen.frame}"]
    for event in seen.events:
        if seen.error and event.code == f"refused_{seen.error.reason}":
            continue  # `why` says it
        places = [("partition", event.partition), ("zone", event.zone), ("user", event.user), ("text", event.text)]
        where = "".join(f"  {name} {value}" for name, value in places if value)
        code = f" ({event.code})" if event.code else ""
        qualifier = f" {event.qualifier}" if event.qualifier != "new" else ""
        lines.append(f"  {codes.label(event)}{code}{qualifier}{where}")
    lines += [f"  why      {seen.error.reason}: {seen.error.message}"] if seen.error else []
    lines += [f"  marked   {seen.mark}"] if seen.mark else []
    lines += [f"  dialect  {', '.join(seen.dialects)}"] if seen.dialects else []
    return [*lines, f"  reply    {seen.reply or 'silence'}"]
