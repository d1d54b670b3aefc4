"""
`arcgate decode`: what each run of bytes is, for an integrator who has a frame and a question.

    FRAME, stdin or --file -> capture.pieces() -> a Link a peer -> decode_view.tell() -> JSON, or a page
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import msgspec
import typer

from arcgate import capture, decode_view
from arcgate.decode_asked import WORDS, Asked, centre, protocol_or_content
from arcgate.decode_content import Content
from arcgate.key import KEY_HELP, read_key
from arcgate.output import AsJson, console, print_json
from protocols import AnyProtocol
from protocols.dc09 import Dc09
from protocols.errors import Reason
from protocols.lines import LineLink
from protocols.link import Link, Policy, Received, Rejected, escape

FILE_BYTES_MAX: Final = 1 << 30

Frame = Annotated[str, typer.Argument(help=r"A frame, with \n \r \xNN for what cannot be typed, or in hexadecimal; else stdin.")]
File = Annotated[
    Path | None, typer.Option("--file", help="A capture: raw bytes; text with a frame a line; our log or journal as JSON; pcap.")
]
Keys = Annotated[list[str] | None, typer.Option("--key", metavar="KEY", help=f"The panel's, again for an older one: {KEY_HELP}.")]
Zone = Annotated[str, typer.Option("--time-zone", metavar="NAME", help="Of a panel that sends local time, as Europe/Paris.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="What the listener says of its protocol, as end=cr; again for more."),
]
Centre = Annotated[
    Path | None, typer.Option("--config", "-c", help="The centre's arcgate.toml: its own keys and rules, account by account.")
]
Now = Annotated[datetime | None, typer.Option(help="When it was received, ISO 8601, UTC; else as the capture says, else now.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(decode)


def decode(  # noqa: PLR0913 - each rule of an account is an option
    frame: Frame = "",
    *,
    file: File = None,
    config_file: Centre = None,
    listener: Annotated[str, typer.Option("--listener", metavar="NAME", help="Of --config; needed where it has several.")] = "",
    protocol: Annotated[str, typer.Option(help=f"What the peer speaks: {', '.join(WORDS)}; else dc09.", show_default=False)] = "",
    settings: Settings = None,
    key: Keys = None,
    time_zone: Zone = "",
    account: Annotated[str, typer.Option("--account", metavar="N", help="Of many frames, this account's alone.")] = "",
    now: Now = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse every departure from the standard, by its name.")] = False,
    json: AsJson = False,
) -> None:
    r"""
    Say what each byte of a frame is, its events, the reply it would get, and why it is refused. JSON unless on a terminal.

    Exit code 1 where a frame would be refused.

    Example: `arcgate decode '\n90D8002A"SIA-DCS"0001L0#0123[#0123|Nri1BA3|Ahello]\r'`
    """
    if frame and file:
        raise typer.BadParameter("give a frame or a file, not both", param_hint="--file")
    received_at = None if now is None else now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)
    said = [*(settings or ()), *(["strict=true"] if strict else [])]
    spoken: AnyProtocol | Content
    if configured := bool(config_file or listener):
        if said or protocol or key or time_zone:
            raise typer.BadParameter("it has the keys and rules: leave the options for them out", param_hint="--config")
        spoken, policies = centre(config_file, listener)
    else:
        policy = Policy(keys=tuple(map(read_key, key or ())), time_zone=_zone(time_zone))
        spoken, policies = protocol_or_content(protocol or "dc09", said), lambda *_: policy
    asked = Asked(spoken, policies, configured=configured, capture=file is not None, received_at=received_at)
    seen = refused = 0
    for piece, item in _received(_pieces(frame, file, asked), asked):
        if account and not _is_of(item, asked, account):
            continue
        seen += 1
        # In a capture the other side's answers are no frames that a receiver refused
        refused += isinstance(item, Rejected) and not (file and item.error.reason == Reason.ANSWER)
        told = decode_view.tell(item, asked, piece)
        if json or not sys.stdout.isatty():
            print_json(told)
        else:
            console().print(decode_view.page(told))
    if not json and (file or not seen):
        none = f"none is of account {account}" if account else "nothing in it begins as a frame: is it of another --protocol?"
        print(f"{seen} frames, {refused} refused{'' if seen else f': {none}'}", file=sys.stderr)
    if refused:
        raise typer.Exit(1)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (LookupError, ValueError, OSError) as error:
        raise typer.BadParameter(f"{name!r}: write a name as Europe/Paris", param_hint="--time-zone") from error


def _pieces(frame: str, file: Path | None, asked: Asked) -> Iterator[capture.Piece]:
    """Give what was handed in, however. Raises BadParameter where it cannot be read."""
    if file:
        try:
            if file.stat().st_size > FILE_BYTES_MAX:
                raise typer.BadParameter(f"{file}: larger than 1 GiB: cut it up", param_hint="--file")
            for piece in capture.pieces(file.read_bytes(), framed=isinstance(asked.protocol, Dc09)):
                yield _ended(piece, asked) if piece.peer.startswith("line ") else piece
        except OSError as error:
            raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--file") from error
        except ValueError as error:
            raise typer.BadParameter(f"{file}: {error}", param_hint="--file") from error
    elif frame:
        try:
            data, note = capture.frame_of(frame)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="FRAME") from error
        yield _ended(capture.Piece("", data, whole=True, note=note), asked)
    else:
        yield capture.Piece("", sys.stdin.buffer.read(FILE_BYTES_MAX), whole=True)


def _ended(piece: capture.Piece, asked: Asked) -> capture.Piece:
    """Give a receiver's line the sign that ends it, which is seldom copied with it."""
    link = asked.protocol.link()
    if not isinstance(link, LineLink) or not link.ends or piece.data[-1:] in link.ends:
        return piece
    end = link.ends[:1]
    return msgspec.structs.replace(piece, data=piece.data + end, note=f"it was given without the {escape(end)} at its end")


def _received(pieces: Iterator[capture.Piece], asked: Asked) -> Iterator[tuple[capture.Piece, Received]]:
    """Have each peer's pieces read by a link of its own, and give what they completed, with the last piece of it."""
    links: dict[str, tuple[Link, capture.Piece]] = {}
    for piece in pieces:
        link = links[piece.peer][0] if piece.peer in links else asked.link()
        for item in link.receive(piece.data, asked.at(piece)) + (link.finish() if piece.whole else []):
            yield piece, item
        if not piece.whole:
            links[piece.peer] = link, piece
    for link, piece in links.values():
        for item in link.finish():
            yield piece, item


def _is_of(item: Received, asked: Asked, account: str) -> bool:
    fields = asked.protocol.explain(item.frame)
    return fields is not None and fields.account.casefold() == account.casefold()
