"""`arcgate decode`: what each run of bytes is, for an integrator who has a frame and a question."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

import msgspec
import typer

from arcgate.output import AsJson, console, print_json, printable, table
from protocols import AnyProtocol, codes
from protocols.link import LinkTest, Message, Received, escape, unescape

_PROTOCOLS: dict[str, type[AnyProtocol]] = {
    str(protocol.__struct_config__.tag): protocol for protocol in get_args(AnyProtocol) or (AnyProtocol,)
}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(decode)


def decode(
    frame: Annotated[
        str, typer.Argument(help=r"A frame, with \n \r \xNN for what cannot be typed; else raw bytes on stdin.")
    ] = "",
    protocol: Annotated[str, typer.Option(help=f"What the peer speaks: {', '.join(_PROTOCOLS)}.")] = "dc09",
    now: Annotated[datetime | None, typer.Option(help="The time of receipt, ISO 8601, UTC; else the present.")] = None,
    *,
    json: AsJson = False,
) -> None:
    r"""
    Say what each run of bytes is: its fields, its events, the reply it would get, why it is refused. JSON unless on a terminal.

    Example: `arcgate decode '\n90D8002A"SIA-DCS"0001L0#0123[#0123|Nri1BA3|Ahello]\r'`
    """
    if protocol not in _PROTOCOLS:
        raise typer.BadParameter(f"{protocol!r}: choose {', '.join(_PROTOCOLS)}", param_hint="--protocol")
    try:
        data = unescape(frame) if frame else sys.stdin.buffer.read()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="FRAME") from error
    at = (now or datetime.now(UTC)).replace(tzinfo=UTC) if now is None or now.tzinfo is None else now.astimezone(UTC)
    spoken = _PROTOCOLS[protocol]()
    link = spoken.link()
    received = link.receive(data, at) + link.finish()
    for item in received:
        told = _tell(item, spoken)
        if json or not sys.stdout.isatty():
            print_json(told)
        else:
            _print_page(told)


def _tell(item: Received, protocol: AnyProtocol) -> dict[str, Any]:
    kind = "message" if isinstance(item, Message) else "link_test" if isinstance(item, LinkTest) else "rejected"
    events = item.events if isinstance(item, Message) else ()
    return {
        "received": kind,
        "frame": protocol.explain(item.frame),
        "events": [
            {
                "account": event.account,
                "format": event.format,
                "code": event.code,
                "qualifier": event.qualifier,
                "category": event.category,
                "partition": event.partition,
                "zone": event.zone,
                "user": event.user,
                "occurred_at": event.occurred_at,
                "text": event.text,
                "label": codes.label(event),
            }
            for event in events
        ],
        "reply": escape(item.reply),
        "error": None if isinstance(item, Message | LinkTest) else item.error,
        "mark": item.mark if isinstance(item, Message) else "",
        "bytes": escape(item.frame),
    }


def _print_page(told: dict[str, Any]) -> None:
    """Lay one run of bytes out for a person: what is empty is left out."""
    rows: list[tuple[str, Any]] = [(told["received"], told["bytes"])]
    rows += [(f"  {key}", value) for key, value in msgspec.structs.asdict(told["frame"]).items()] if told["frame"] else []
    for event in told["events"]:
        rows += [("event", event.pop("label")), *((f"  {key}", value) for key, value in event.items())]
    rows += [("refused", f"{told['error'].reason}: {told['error'].message}")] if told["error"] else []
    rows += [("marked", told["mark"]), ("reply", told["reply"] or "silence"), ("", " ")]
    page = table("", "", folded=("",))
    for key, value in rows:
        if value not in (None, "", (), False):
            page.add_row(key, printable(value))
    console().print(page)
