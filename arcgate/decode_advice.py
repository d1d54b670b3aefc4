"""What else to look at, beside what an item says of itself: for whoever asks `arcgate decode` why."""

from collections.abc import Iterator
from typing import Final, get_args

from arcgate.capture import Piece
from arcgate.decode_asked import Asked
from arcgate.decode_checksum import why_not
from arcgate.output import clock
from protocols import AnyProtocol
from protocols.columns import Frame as Columns
from protocols.dc09 import Frame
from protocols.errors import Reason
from protocols.link import Policy, Received, Rejected

_UNREAD: Final = frozenset({Reason.NOISE, Reason.DAMAGED, Reason.FOREIGN})


def advice(item: Received, frame: Frame | Columns | None, asked: Asked, piece: Piece, known: Policy | None) -> Iterator[str]:
    """Give each remark. frame: the item's fields; known: what is known of its account."""
    if isinstance(item, Rejected):
        yield from _of_refused(item, frame, asked, piece, known)
    elif known is None and asked.configured:
        yield "its account is not in accounts/: it is taken as that of a panel without a key"
    elif known and known.keys and isinstance(frame, Frame) and not frame.encrypted:
        yield "a plain frame: of an account that has a key it would be refused"
    unread = item.error.reason in _UNREAD if isinstance(item, Rejected) else isinstance(frame, Columns) and frame.kind == "raw"
    if unread and (others := ", ".join(_others(item.frame))):
        then = "does it report to the wrong listener?" if asked.configured else "say so with --protocol"
        yield f"it is a whole line of another protocol, {others}: {then}"
    yield from filter(None, [piece.note])


def _others(data: bytes) -> Iterator[str]:
    """Give the word of each protocol that reads these bytes as they stand."""
    for protocol in get_args(AnyProtocol):
        frame = protocol().explain(data)
        if frame is not None and not (isinstance(frame, Columns) and frame.kind == "raw"):
            yield str(protocol.__struct_config__.tag)


def _of_refused(item: Rejected, frame: Frame | Columns | None, asked: Asked, piece: Piece, known: Policy | None) -> Iterator[str]:
    typed = not asked.configured
    match item.error.reason:
        case Reason.CRC:
            yield from why_not(item.frame)
        case Reason.NO_KEY if typed:
            yield "without the key only token, sequence, R, L and account can be read: give decode the panel's with --key"
        case Reason.PLAIN if typed:
            yield "without --key it is read as a plain frame"
        case Reason.OLD_TIME if isinstance(frame, Frame) and frame.timestamp and not (asked.received_at or piece.at):
            yield f"its time is compared with the present, {clock(asked.at(piece))} UTC: if it came at another, say so with --now"
        case Reason.WRONG_KEY if typed and known and len(known.keys) == 1 and "decrypts to noise" in item.error.message:
            yield "during a rotation the panel may still have the older key: give both, each with --key"
        case Reason.ANSWER:
            yield "an answer shows nothing of the panel: decode what the panel sent"
