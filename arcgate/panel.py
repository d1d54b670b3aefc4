"""
`arcgate panel`: a pretend panel, to try a receiver with.

    connect -> frame -> reply, compared byte for byte -> the next frame

It uses one connection and waits for each reply, as panels do; the round trip of each frame is measured.
"""

import re
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
import typer

from arcgate.output import AsJson, fail, print_json
from protocols import codes, contact_id, dc09, sia
from protocols.event import Category, Event, Format, Qualifier
from protocols.link import escape

SHOWN_MAX: Final = 10
"""So many frames are told one by one; of more, only the sum."""
_READ_BYTES: Final = 65536

To = Annotated[str, typer.Option("--to", metavar="HOST:PORT", help="The receiver's listener; IPv6 as [::1]:12000.")]
Account = Annotated[str, typer.Option("--account", metavar="N", help="1 to 16 letters and digits.")]
Count = Annotated[int, typer.Option("--count", min=1, help="How many frames.")]
Rate = Annotated[float, typer.Option("--rate", min=0, help="Frames a second; 0: each as soon as the last was answered.")]
Receiver = Annotated[str | None, typer.Option("--receiver", help="The R of the frame, hexadecimal; else none is sent.")]
Line = Annotated[str, typer.Option("--line", help="The L of the frame, hexadecimal.")]
Sequence = Annotated[int, typer.Option("--sequence", min=0, max=9999, help="Of the first frame; after 9999 comes 1.")]
Timestamp = Annotated[bool, typer.Option("--timestamp/--no-timestamp", help="Whether the frame says when it was sent.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds to wait for the connection, and for each reply.")]


class Trip(msgspec.Struct, frozen=True):
    """A frame and what came back."""

    frame: bytes
    reply: bytes
    """Empty: nothing came."""
    round_trip_ms: float | None
    error: str | None
    """Why it is no ACK; None where it is byte for byte the one that the frame asks for."""


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """Where the frames go, and how."""

    to: tuple[str, int]
    count: int
    rate: float
    timeout: float


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    panel = typer.Typer(help="A pretend panel, to try a receiver with.", no_args_is_help=True)
    panel.command()(send)
    panel.command()(null)
    app.add_typer(panel, name="panel")


def send(  # noqa: PLR0913 - each field of the frame is an option
    *,
    to: To,
    account: Account,
    code: Annotated[str, typer.Option("--code", help="SIA: two letters, as BA. Contact ID: three digits, as 130.")],
    zone: Annotated[str, typer.Option("--zone", help="The zone, or the user where the code has one.")] = "",
    partition: Annotated[str, typer.Option("--partition", help="The partition or area; empty: none is sent.")] = "1",
    format_: Annotated[Literal["sia", "cid"], typer.Option("--format", help="The code space: SIA or Contact ID.")] = "sia",
    qualifier: Annotated[Qualifier | None, typer.Option(help="Contact ID alone, else new: an SIA code says it itself.")] = None,
    text: Annotated[str, typer.Option("--text", help="Text beside the code.")] = "",
    count: Count = 1,
    rate: Rate = 0,
    receiver: Receiver = None,
    line: Line = "0",
    sequence: Sequence = 1,
    timeout: Timeout = 5,
    timestamp: Timestamp = True,
    json: AsJson = False,
) -> None:
    """
    Send an event as a panel would, check that the reply is the ACK it asks for, and print the round trip.

    Example: `arcgate panel send --to 127.0.0.1:12000 --account 1234 --code BA --zone 5`
    """
    _check(text, r"[^][|^\r\n]*", "--text", r"it may not hold [ ] | ^ or a line's end: they would end the text in the frame")
    _check(zone, r"[0-9]*", "--zone", "digits")
    _check(partition, r"[0-9A-Fa-f]*", "--partition", "digits")
    code = code.upper()
    if format_ == "sia":
        _check(code, r"[A-Z]{2}", "--code", "with --format sia it is two letters, as BA")
        if qualifier:
            raise typer.BadParameter("an SIA code says it itself: BA is new, BR its restore", param_hint="--qualifier")
    else:
        _check(code, r"[0-9B-F]{3}", "--code", "with --format cid it is three digits, as 130")
        _check(zone, r"[0-9]{0,3}", "--zone", "with --format cid it has at most three digits")
        _check(partition, r"[0-9B-F]{0,2}", "--partition", "with --format cid it has at most two digits")
    token, content = _content(account, format_, code, qualifier or Qualifier.NEW, partition, zone, text)
    extended = (("I", text),) if text and format_ == "cid" else ()
    frame = dc09.Frame(
        id_token=token,
        sequence="",
        receiver=receiver,
        line=line,
        account=account,
        data=f"#{account}|{content}",
        extended=extended,
    )
    _run(frame, _Line(to=_address(to), count=count, rate=rate, timeout=timeout), sequence, timestamp=timestamp, json=json)


def null(  # noqa: PLR0913 - each field of the frame is an option
    *,
    to: To,
    account: Account,
    count: Count = 1,
    rate: Rate = 0,
    receiver: Receiver = None,
    line: Line = "0",
    sequence: Sequence = 1,
    timeout: Timeout = 5,
    timestamp: Timestamp = True,
    json: AsJson = False,
) -> None:
    """
    Send a link test (NULL), check that the reply is its ACK, and print the round trip.

    Example: `arcgate panel null --to 127.0.0.1:12000 --account 1234`
    """
    frame = dc09.Frame(id_token="NULL", sequence="", receiver=receiver, line=line, account=account)
    _run(frame, _Line(to=_address(to), count=count, rate=rate, timeout=timeout), sequence, timestamp=timestamp, json=json)


def _content(  # noqa: PLR0913, PLR0917 - an event's fields
    account: str, format_: str, code: str, qualifier: Qualifier, partition: str, zone: str, text: str
) -> tuple[str, str]:
    """Return the token of the frame and its content, as the format writes it."""
    known = codes.sia(code) if format_ == "sia" else codes.contact_id(code)
    is_user = known is not None and known.address == "user"
    event = Event(
        account,
        Format.SIA if format_ == "sia" else Format.CONTACT_ID,
        code,
        qualifier,
        known.category if known else Category.UNKNOWN,
        partition=partition or None,
        zone=None if is_user else zone or None,
        user=zone or None if is_user else None,
        text=text or None,
    )
    return ("SIA-DCS", sia.build(event)) if format_ == "sia" else ("ADM-CID", contact_id.build(event))


def _check(value: str, pattern: str, option: str, wanted: str) -> None:
    if not re.fullmatch(pattern, value):
        raise typer.BadParameter(f"{value!r}: {wanted}", param_hint=option)


def _address(to: str) -> tuple[str, int]:
    host, _, port = to.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= 65535:  # noqa: PLR2004 - the last port there is
        raise typer.BadParameter(f"{to!r}: write HOST:PORT, as 127.0.0.1:12000 or [::1]:12000", param_hint="--to")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _run(frame: dc09.Frame, line: _Line, sequence: int, *, timestamp: bool, json: bool) -> None:
    """Send, tell each frame or all together, and exit with 1 where one was not acknowledged."""
    _check(frame.account, r"[0-9A-Za-z]{1,16}", "--account", "1 to 16 letters and digits")
    _check(frame.receiver or "", r"[0-9A-Fa-f]{0,6}", "--receiver", "at most six hexadecimal digits")
    _check(frame.line, r"[0-9A-Fa-f]{0,6}", "--line", "at most six hexadecimal digits")
    trips: list[Trip] = []
    begun = time.perf_counter()
    try:
        for trip in _trips(frame, line, sequence, timestamp=timestamp):
            trips.append(trip)
            _tell(trip, json=json, one_by_one=line.count <= SHOWN_MAX)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except OSError as error:
        if not trips:
            fail(_why_not_connected(line.to, error))
        print(f"the connection broke: {error}", file=sys.stderr)
    summary = _summary(trips, time.perf_counter() - begun)
    if json:
        print_json(summary)
    elif line.count > SHOWN_MAX:
        print(
            "sent {sent}, acked {acked}; ms: p50 {p50_ms}, p99 {p99_ms}, max {max_ms}; {frames_per_s} frames/s".format(**summary)
        )
    if summary["acked"] < line.count:
        raise typer.Exit(1)


def _trips(frame: dc09.Frame, line: _Line, sequence: int, *, timestamp: bool) -> Iterator[Trip]:
    """Send each frame and wait for its reply; after a missing one the rest is not sent: a late reply could be taken for it."""
    with socket.create_connection(line.to, line.timeout) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begun = time.perf_counter()
        pending = b""
        for n in range(line.count):
            if line.rate:
                time.sleep(max(0.0, begun + n / line.rate - time.perf_counter()))
            numbered = msgspec.structs.replace(
                frame, sequence=f"{_number(sequence + n):04}", timestamp=datetime.now(UTC) if timestamp else None
            )
            sent = dc09.build(numbered)
            at = time.perf_counter()
            connection.sendall(sent)
            reply, pending, silence = _await_reply(connection, pending, at + line.timeout)
            took_ms = round((time.perf_counter() - at) * 1000, 3)
            yield Trip(sent, reply, took_ms if reply else None, silence or _judge(numbered, reply))
            if silence:
                return


def _number(sequence: int) -> int:
    """Go round as panels do: after 9999 comes 1."""
    return sequence if sequence == 0 else (sequence - 1) % 9999 + 1


def _await_reply(connection: socket.socket, pending: bytes, until: float) -> tuple[bytes, bytes, str | None]:
    """Return the bytes up to the next CR, what came after it, and why nothing came."""
    while b"\r" not in pending:
        connection.settimeout(max(0.001, until - time.perf_counter()))
        try:
            data = connection.recv(_READ_BYTES)
        except TimeoutError:
            return pending, b"", "no reply: the receiver does not take this frame, or cannot store it; its log says why"
        except ConnectionError as error:
            return pending, b"", f"no reply: {error}"
        if not data:
            return pending, b"", "no reply: the receiver closed the connection"
        pending += data
    end = pending.index(b"\r") + 1
    return pending[:end], pending[end:], None


def _judge(frame: dc09.Frame, reply: bytes) -> str | None:
    """Say why a reply is not the ACK that `frame` asks for; None where it is."""
    receiver = "" if frame.receiver is None else f"R{frame.receiver}"
    expected = dc09.build_reply(b"ACK", f"{frame.sequence}{receiver}L{frame.line}#{frame.account}")
    if reply == expected:
        return None
    answer = dc09.Dc09().explain(reply)
    match answer.id_token if answer else None:
        case "NAK":
            return "NAK: the receiver wants the panel to set its clock"
        case "DUH":
            return "DUH: the receiver does not understand this frame"
        case _:
            return f"not the ACK that the frame asks for, which is {escape(expected)}"


def _tell(trip: Trip, *, json: bool, one_by_one: bool) -> None:
    frame, reply = escape(trip.frame), escape(trip.reply)
    if json:
        told: dict[str, Any] = {"frame": frame, "reply": reply, "ok": trip.error is None, "round_trip_ms": trip.round_trip_ms}
        print_json(told | ({"error": trip.error} if trip.error else {}))
    elif one_by_one and not trip.error:
        print(f"{frame}\n  {reply}  ACK after {trip.round_trip_ms} ms")
    if trip.error:
        print(f"{frame}\n  {reply}  {trip.error}".rstrip(), file=sys.stderr)


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


def _why_not_connected(to: tuple[str, int], error: OSError) -> str:
    host, port = to
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    match error:
        case ConnectionRefusedError():
            return f"{place}: connection refused: nothing listens there. `arcgate status` says what runs, and where it listens"
        case TimeoutError():
            return f"{place}: no connection in time: does a firewall stand between, and is the address right?"
        case socket.gaierror():
            return f"{place}: this host is not known: {error.strerror}"
        case _:
            return f"{place}: no connection: {error.strerror or error}"
