"""
`arcgate panel`: a pretend panel, to try a receiver with.

    send, null    one panel: each frame and its reply, told one by one
    load          many panels at a rate, and a sum at the end
    receiver      an alarm receiver: arcgate/panel_receiver.py
"""

import asyncio
import itertools
import sys
import time
from typing import Annotated, Any, Final, Literal

import typer

from arcgate.output import AsJson, fail, for_people, print_json
from arcgate.panel_line import LineError, open_line, tls_context
from arcgate.panel_options import PanelOptions, check, event_of, shared
from arcgate.panel_receiver import receiver
from arcgate.panel_talk import Panel, Trip
from protocols import contact_id, sia
from protocols.dc09 import Frame
from protocols.event import Qualifier
from protocols.link import escape

SHOWN_MAX: Final = 10
"""So many frames are told one by one; of more, only the sum."""

Format_ = Annotated[Literal["sia", "cid"], typer.Option("--format", help="The code space: SIA or Contact ID.")]
Zone = Annotated[str, typer.Option("--zone", help="The zone, or the user where the code has one.")]
Partition = Annotated[str, typer.Option("--partition", help="The partition or area; empty: none is sent.")]
Count = Annotated[int, typer.Option("--count", min=0, help="How many frames; 0: until Ctrl-C.")]
Rate = Annotated[float, typer.Option("--rate", min=0, help="Frames a second; 0: each as soon as the last was answered.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    panel = typer.Typer(help="A pretend panel, to try a receiver with.", no_args_is_help=True)
    for verb in (send, null, load, receiver):
        panel.command()(verb)
    app.add_typer(panel, name="panel")


@shared(PanelOptions)
def send(  # noqa: PLR0913 - each field of the event is an option
    *,
    options: PanelOptions,
    code: Annotated[str, typer.Option("--code", help="SIA: two letters, as BA. Contact ID: three digits, as 130.")],
    zone: Zone = "",
    partition: Partition = "1",
    format_: Format_ = "sia",
    qualifier: Annotated[Qualifier | None, typer.Option(help="Contact ID alone, else new: an SIA code says it itself.")] = None,
    text: Annotated[str, typer.Option("--text", help="Text beside the code.")] = "",
    count: Count = 1,
    rate: Rate = 0,
    json: AsJson = False,
) -> None:
    """
    Send an event as a panel would, check that the reply is the ACK it asks for, and print the round trip.

    A NAK sets the panel's clock, and the same frame goes out again, as panels do it.

    Example: `arcgate panel send --to 127.0.0.1:12000 --account 1234 --code BA --zone 5`
    """
    frame = _event_frame(options, format_, code, qualifier, partition, zone, text)
    _run(frame, options, count, rate, json=json)


@shared(PanelOptions)
def null(
    *,
    options: PanelOptions,
    count: Count = 1,
    rate: Rate = 0,
    interval: Annotated[float, typer.Option("--interval", min=0, help="Seconds from one to the next, instead of --rate.")] = 0,
    json: AsJson = False,
) -> None:
    """
    Send a link test (NULL), check that the reply is its ACK, and print the round trip; with --interval, poll.

    Example: `arcgate panel null --to 127.0.0.1:12000 --account 1234`
    """
    if interval and rate:
        raise typer.BadParameter("it says the same as --rate: choose one", param_hint="--interval")
    _run(_null_frame(options), options, count, 1 / interval if interval else rate, json=json)


@shared(PanelOptions)
def load(  # noqa: PLR0913 - each field of the event is an option
    *,
    options: PanelOptions,
    panels: Annotated[int, typer.Option("--panels", min=1, max=100_000, help="How many, each on its own connection.")] = 100,
    rate: Annotated[float, typer.Option("--rate", min=0, help="Frames a second, of all together; 0: as fast as they go.")] = 0,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How long.")] = 10,
    interval: Annotated[float, typer.Option("--interval", min=0, help="Each panel's link tests (NULL): seconds between.")] = 0,
    code: Annotated[str, typer.Option("--code", help="Events of this code, which are alarms! Else link tests alone.")] = "",
    zone: Zone = "",
    partition: Partition = "1",
    format_: Format_ = "sia",
    json: AsJson = False,
) -> None:
    """
    Be many panels at a rate, for a time, and print a sum: how many were acknowledged, how fast, and what else came.

    --account is that of the first; 1000 and 50 panels are 1000 to 1049. A connection that breaks is opened again. Exit code 1
    where a frame was not acknowledged.

    Example: `arcgate panel load --to 127.0.0.1:12000 --account 1000 --panels 200 --rate 2000 --seconds 5`
    """
    from arcgate import panel_load

    check(options.account, r"[0-9]{1,16}", "--account", "digits: the panels count up from it")
    frame = _event_frame(options, format_, code, None, partition, zone, "") if code else None
    panel_load.run(panel_load.Plan(frame, _null_frame(options), panels, rate, seconds, interval), options, json=json)


def _null_frame(options: PanelOptions) -> Frame:
    return Frame(id_token="NULL", sequence="", receiver=options.receiver, line=options.line, account=options.account)


def _event_frame(  # noqa: PLR0913, PLR0917 - an event's fields
    options: PanelOptions, format_: Format_, code: str, qualifier: Qualifier | None, partition: str, zone: str, text: str
) -> Frame:
    """Return the frame of an event, as the format writes it. Raises BadParameter for what no panel can send."""
    event = event_of(options.account, format_, code, qualifier, partition, zone, text)
    return Frame(
        id_token="SIA-DCS" if format_ == "sia" else "ADM-CID",
        sequence="",
        receiver=options.receiver,
        line=options.line,
        account=options.account,
        data=f"#{options.account}|{sia.build(event) if format_ == 'sia' else contact_id.build(event)}",
        extended=(("I", text),) if text and format_ == "cid" else (),
    )


def _run(frame: Frame, options: PanelOptions, count: int, rate: float, *, json: bool) -> None:
    """Send, tell each frame or all together, and exit with 1 where one was not acknowledged."""
    key = options.check()
    trips: list[Trip] = []
    one_by_one = count <= SHOWN_MAX
    begun = time.perf_counter()
    try:
        asyncio.run(_send_all(frame, options, Panel(options, key), count, rate, trips, json=json, one_by_one=one_by_one))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except LineError as error:
        fail(str(error))
    summary = _summary(trips, time.perf_counter() - begun)
    if json:
        print_json(summary)
    elif not one_by_one or not count:
        print(
            "sent {sent}, acked {acked}; ms: p50 {p50_ms}, p99 {p99_ms}, max {max_ms}; {frames_per_s} frames/s".format(
                **for_people(summary)
            )
        )
    if summary["acked"] < (count or summary["sent"]):
        raise typer.Exit(1)


async def _send_all(  # noqa: PLR0913, PLR0917 - what to send, how, and how to tell it
    frame: Frame, options: PanelOptions, panel: Panel, count: int, rate: float, trips: list[Trip], *, json: bool, one_by_one: bool
) -> None:
    """Send each frame and wait for its reply; after a missing one the rest is not sent: a late reply could be taken for it."""
    line = await open_line(options, tls_context(options))
    begun = time.perf_counter()
    try:
        for n in itertools.count() if not count else range(count):
            if rate:
                await asyncio.sleep(begun + n / rate - time.perf_counter())
            trips.append(trip := await panel.report(frame, line))
            _tell(trip, json=json, one_by_one=one_by_one)
            if not trip.reply:
                return
    finally:
        await line.close()


def _tell(trip: Trip, *, json: bool, one_by_one: bool) -> None:
    frame, reply = escape(trip.frame), escape(trip.reply)
    if json:
        told: dict[str, Any] = {"frame": frame, "reply": reply, "ok": trip.error is None, "round_trip_ms": trip.round_trip_ms}
        told |= {} if trip.clock_set_s is None else {"clock_set_s": trip.clock_set_s}
        print_json(told | ({"error": trip.error} if trip.error else {}))
    if trip.clock_set_s is not None and one_by_one:
        print(f"NAK: the panel set its clock by {trip.clock_set_s:+.0f} s and sent the same sequence again", file=sys.stderr)
    if trip.error:
        print(f"{frame}\n  {reply}  {trip.error}".rstrip(), file=sys.stderr)
    elif one_by_one and not json:
        print(f"{frame}\n  {reply}  ACK after {trip.round_trip_ms} ms", flush=True)


def _summary(trips: list[Trip], took_s: float) -> dict[str, Any]:
    times = sorted(trip.round_trip_ms for trip in trips if trip.round_trip_ms is not None)
    return {
        "sent": len(trips),
        "acked": sum(trip.error is None for trip in trips),
        "p50_ms": times[len(times) // 2] if times else None,
        "p99_ms": times[len(times) * 99 // 100] if times else None,
        "max_ms": times[-1] if times else None,
        "frames_per_s": round(len(trips) / took_s, 1),
    }
