"""How a run of bytes is told: its fields, what is wrong and what to do, the reply; for programs, and as a page for people."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from arcgate.capture import Piece
from arcgate.decode_advice import advice
from arcgate.decode_asked import Asked
from arcgate.decode_checksum import sums
from arcgate.decode_content import checksum_of
from arcgate.output import clock, printable, table
from protocols import codes
from protocols.columns import Frame as Columns
from protocols.dc09 import DIALECTS, Dc09, Frame, read_reply
from protocols.errors import Reason
from protocols.event import Event, Format
from protocols.lines import NAK, LineLink
from protocols.link import LinkTest, Message, Policy, Received, Rejected, escape

if TYPE_CHECKING:
    from rich.table import Table


_OF_NO_PANEL: Final = frozenset({Reason.ANSWER, Reason.FOREIGN, Reason.NOISE})


def tell(item: Received, asked: Asked, piece: Piece) -> dict[str, Any]:
    """Return all that there is to say of an item, for JSON. piece: that which completed it."""
    at, known = asked.at(piece), asked.known(item.frame)
    policy = known or Policy()
    frame = asked.protocol.explain(item.frame, policy, at)
    error, mark, dialects = item.error if isinstance(item, Rejected) else None, "", tuple[str, ...]()
    if not isinstance(item, Rejected):
        mark, dialects = item.mark, item.dialects
    ahead_s = (frame.timestamp - at).total_seconds() if isinstance(frame, Frame) and frame.timestamp else None
    events = () if isinstance(item, LinkTest) else item.events
    return {
        "received": "message" if isinstance(item, Message) else "rejected" if error else "link_test",
        "frame": frame,
        "events": [_event(event) for event in events if not error or event.format != Format.ARCGATE],
        "reply": escape(item.reply),
        "error": error,
        "mark": mark,
        "bytes": escape(item.frame),
        "parts": [
            {"name": part.name, "at": part.at, "bytes": escape(part.data), "says": part.says}
            for part in asked.protocol.layout(item.frame, policy)
        ],
        **_measured(item.frame, frame),
        "dialects": {name: DIALECTS[name] for name in dialects},
        "ahead_s": ahead_s,
        "reply_says": _reply_says(item, asked, policy),
        "advice": [*advice(item, frame, asked, piece, known)],
        "peer": piece.peer,
        "at": at,
    }


def _event(event: Event) -> dict[str, Any]:
    names = (
        "account",
        "format",
        "code",
        "qualifier",
        "category",
        "partition",
        "zone",
        "user",
        "occurred_at",
        "text",
        "extended",
        "old",
    )
    return {name: getattr(event, name) for name in names} | {"label": codes.label(event)}


def _measured(raw: bytes, frame: Frame | Columns | None) -> dict[str, Any]:
    """Return checksum and length, as given and as counted; None for what is not there or cannot be counted."""
    if isinstance(frame, Columns):
        given = frame.checksum if frame.kind == "contact_id" and frame.account else ""
        return {"checksum": {"given": given, "computed": checksum_of(frame)} if given else None, "length": None}
    told = sums(raw)
    if told is None:
        return {"checksum": None, "length": None}
    computed = None if told.computed is None else f"{told.computed:04X}"
    return {
        "checksum": {"given": f"{told.given:04X}", "computed": computed},
        "length": {"given": told.length, "counted": len(told.body)},
    }


def _reply_says(item: Received, asked: Asked, policy: Policy) -> str:
    """Say in plain words what the peer makes of the reply."""
    reply = item.reply
    if not isinstance(asked.protocol, Dc09):
        return _line_reply_says(item, waits=isinstance(asked.protocol.link(), LineLink))
    if not reply:
        no_panel = isinstance(item, Rejected) and item.error.reason in _OF_NO_PANEL
        panel = "the panel sends it again, and in the end takes the receiver for dead"
        return f"no answer: {'these bytes ask for none' if no_panel else panel}"
    answers = (read_reply(reply, key) for key in policy.keys or (b"",))
    answer = next(filter(None, answers), None)
    at = f"{clock(answer.timestamp)} UTC" if answer and answer.timestamp else ""
    match answer.id_token if answer else "":
        case "ACK":
            return f"taken: the panel need not send it again{f'; encrypted, with the time {at}' if at else ''}"
        case "NAK":
            return f"not taken: the panel is to set its clock to {at} and send the same frame again"
        case "DUH":
            return "not understood: the panel drops it, or sends it in another way"
        case _:
            return ""


def _line_reply_says(item: Received, *, waits: bool) -> str:
    """Say what a receiver makes of the reply to its line."""
    if not item.reply:
        return "no answer: a receiver sends it again" if waits and isinstance(item, Rejected) else "nobody waits for an answer"
    if item.reply == NAK or isinstance(item, Rejected):
        return "NAK: the receiver is to send the same line again"
    return "ACK: taken; the receiver goes on with what stands behind it"


def page(told: dict[str, Any]) -> "Table":
    """Lay an item out for a person: what is empty is left out."""
    rows = table("", "", "", folded=("",))
    head = "REFUSED" if told["error"] else str(told["received"]).replace("_", " ")
    rows.add_row(head, "", printable(told["bytes"]))
    if told["peer"]:
        rows.add_row("of", "", printable(told["peer"]))
    for part in told["parts"]:
        rows.add_row(f"  {part['name']}", str(part["at"]), printable("  ".join(filter(None, [part["bytes"], part["says"]]))))
    for event in told["events"]:
        rows.add_row("event", "", printable(event["label"]))
        for name, value in event.items():
            if name == "extended":
                for key, text in value:
                    rows.add_row(f"  extended {key}", "", printable(text))
            elif name != "label" and value:
                rows.add_row(f"  {name}", "", printable(value))
    for name, line in _remarks(told):
        rows.add_row(name, "", printable(line))
    rows.add_row("", "", " ")
    return rows


def _remarks(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Give what there is to say of the whole."""
    if told["error"]:
        yield "refused", f"{told['error'].reason}: {told['error'].message}"
    for name, means in told["dialects"].items():
        yield "dialect", f"{name}: {means}"
    if told["mark"]:
        yield "marked", told["mark"]
    for line in told["advice"]:
        yield "note", line
    yield "reply", told["reply"] or "silence"
    yield "", told["reply_says"]
