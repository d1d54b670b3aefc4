r"""
What somebody kept of a conversation, whatever he kept it with: to pieces as a receiver would have read them.

    raw bytes                                   one peer
    text, a frame a line: escaped, hexadecimal, or a JSON object with `frame` (our log, journal, watch)      a peer a line
    pcap, pcapng                                a peer each way of a TCP connection, or each datagram: arcgate/pcap.py
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from arcgate import pcap
from protocols.link import unescape

_HEX: Final = re.compile(r"(?:0x)?(?:[0-9A-Fa-f]{2}[ :,]*){12,}")
_HEADER: Final = re.compile(
    r"""
    (?: (?: \\n | \\x0[Aa] ) (?: [0-9A-Fa-f]{4} | (?: \\x[0-9A-Fa-f]{2} | \\. | . ){2} )    # an escaped LF; a binary checksum
      | (?: \A | (?<=[^0-9A-Za-z]) ) [0-9A-Fa-f]{4}                                         # no LF
    ) 0[0-9A-Fa-f]{3}"
    """,
    re.VERBOSE,
)
_RAW: Final = re.compile(rb'\n(?:[0-9A-Fa-f]{4}|..)0[0-9A-Fa-f]{3}"[^\r]*\r', re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(?:x[0-9A-Fa-f]{2}|[nr])")
_TEXT: Final = re.compile(rb"[\t\n\r -~\x80-\xFF]*")


class Piece(msgspec.Struct, frozen=True):
    """Bytes that were read together."""

    peer: str
    """Whose: pieces of one peer belong together, in their order. Empty: there is but one."""
    data: bytes
    at: datetime | None = None
    """When, where the capture says it."""
    whole: bool = False
    """Whether nothing of this peer follows."""
    note: str = ""
    """What was taken for granted."""


def pieces(data: bytes, *, framed: bool = True) -> Iterator[Piece]:
    """
    Give what a capture file holds. Raises ValueError where it says what it is and then is not.

    framed: its frames are DC-09's. Those of others are lines: text without a backslash is raw bytes too.
    """
    if framed:
        raw = _RAW.search(data) and data.endswith((b"\r", b"\0"))
    else:
        raw = not data.lstrip().startswith(b"{") and not _ESCAPED.search(data)
    if pcap.is_capture(data):
        for peer, at, payload, whole in pcap.payloads(data):
            yield Piece(peer, payload, at, whole)
    elif raw or not _TEXT.fullmatch(data):
        yield Piece("", data, whole=True)
    else:
        text = data.decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            if piece := _line(line.strip(), f"line {number}", framed=framed):
                yield piece


def _line(line: str, peer: str, *, framed: bool) -> Piece | None:
    """Read a line of text; None where no frame is in it."""
    if line.startswith("{"):
        return _object(line, peer)
    if _HEX.fullmatch(line) or _HEADER.search(line) or (line and not framed):
        try:
            frame, note = frame_of(line)
        except ValueError:
            return None
        return Piece(peer, frame, whole=True, note=note)
    return None


def _object(line: str, peer: str) -> Piece | None:
    """Read a line of ours: the log has a frame's bytes as characters, all else has them escaped."""
    try:
        told: Any = msgspec.json.decode(line)
        frame = told["frame"]
        raw = "\n" in frame or "\r" in frame or "\\" not in frame
        data = frame.encode("latin-1") if raw else unescape(frame)
        at = told.get("received_at") or told.get("at") or told.get("timestamp")
        return Piece(peer, data, at and _moment(at), whole=True)
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError):
        return None


def _moment(written: str) -> datetime:
    """Read ISO 8601; without a zone it is UTC."""
    at = datetime.fromisoformat(written)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def frame_of(text: str) -> tuple[bytes, str]:
    """
    Return the bytes that somebody typed or pasted, escaped or hexadecimal, and what was taken for granted.

    What is copied from a log has often lost the LF and the CR, or has a time of the log before it. Raises ValueError where a
    backslash is followed by what no escape is.
    """
    if _HEX.fullmatch(text):
        return bytes.fromhex(re.sub(r"0x|[ :,]", "", text)), ""
    notes = []
    found = _HEADER.search(text)
    if found and found.start():
        notes.append(f"{found.start()} characters before the frame were left out")
        text = text[found.start() :]
    data = unescape(text)
    if found and not data.startswith(b"\n"):
        data = b"\n" + data
        notes.append("it was given without the LF at its beginning")
    if found and b"\r" not in data:
        data = data.rstrip(b"\n") + b"\r"
        notes.append("it was given without the CR at its end")
    return data, "; ".join(notes)
