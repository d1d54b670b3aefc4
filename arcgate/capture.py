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
from protocols.dc09.frame import HEADER
from protocols.link import escape, unescape

_HEX: Final = re.compile(r"(?:0x)?(?:[0-9A-Fa-f]{2}[ :,]*){12,}")
_HEADER: Final = re.compile(
    r"""
    (?: (?: \\n | \\x0[Aa] ) (?: [0-9A-Fa-f]{4} | (?: \\x[0-9A-Fa-f]{2} | \\. | . ){2} )    # an escaped LF; a binary checksum
      | (?: \A | (?<=[^0-9A-Za-z]) ) [0-9A-Fa-f]{4}                                         # no LF
    ) 0[0-9A-Fa-f]{3}\\?"
    """,
    re.VERBOSE,
)
_RAW: Final = re.compile(rb'\n(?:[0-9A-Fa-f]{4}|..)0[0-9A-Fa-f]{3}"', re.DOTALL)
_LITERAL: Final = re.compile(r"""\A\s*[bB](?P<quote>['"])(?P<inner>.*)(?P=quote)\s*\Z""", re.DOTALL)
_DOUBLED: Final = re.compile(r'\\\\(?:n|x0[Aa])[0-9A-Fa-f]{4}0[0-9A-Fa-f]{3}\\*"')
_ESCAPE: Final = re.compile(r"""\\(["'/t\\]|u00[0-9A-Fa-f]{2})""")
"""An escape of JSON's or Python's that is none of ours; and ours of a backslash, so that what follows it is none."""
_NAMED: Final = re.compile(r"(?:(?<!\s)\s+)?<((?:0x)?0D|CR)>\s*|<((?:0x)?0A|LF)>\s*", re.IGNORECASE)
"""Blanks before it are tried where they begin alone: from each of them, a long row would be looked through again."""
_AROUND: Final = b"\n\0\"'`.,;)> "
"""What may have been copied with a frame, and ends none."""
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
        first = _RAW.search(data) if data.endswith((b"\r", b"\0")) else None
        raw = first is not None and data.find(b"\r", first.end()) >= 0
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
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return None


def _moment(written: str) -> datetime:
    """Read ISO 8601; without a zone it is UTC."""
    at = datetime.fromisoformat(written)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def frame_of(text: str) -> tuple[bytes, str]:
    """
    Return the bytes that somebody typed or pasted, escaped or hexadecimal, and what was taken for granted.

    What is copied from a log has often lost the LF and the CR, or has a time of the log before it; from a program it is a literal
    of Python's or JSON's; on a terminal <LF> and <CR> stand for what cannot be seen. Raises ValueError where a backslash is
    followed by what no escape is.
    """
    notes: list[str] = []
    data = bytes.fromhex(re.sub(r"0x|[ :,]", "", text)) if _HEX.fullmatch(text) else unescape(_unwrapped(text, notes))
    return _completed(data, notes), "; ".join(notes)


def _unwrapped(text: str, notes: list[str]) -> str:
    """Return a frame as `unescape` takes it, without what stands before it; what was done is added to `notes`."""

    def changed(new: str, note: str) -> str:
        if new != text:
            notes.append(note)
        return new

    text = changed(_LITERAL.sub(r"\g<inner>", text), "it was taken out of a literal of Python's")
    if _DOUBLED.search(text):
        text = changed(text.replace("\\\\", "\\"), "its backslashes, each of which stood twice, were taken once")
    text = changed(_ESCAPE.sub(_ours, text), "escapes of JSON's or Python's were read in it")
    text = changed(
        _NAMED.sub(lambda name: "\\r" if name[1] else "\\n", text), "<LF> and <CR> were taken for the signs that they name"
    )
    if (found := _HEADER.search(text)) and found.start():
        text = changed(text[found.start() :], f"{found.start()} characters before the frame were left out")
    return text


def _ours(theirs: re.Match[str]) -> str:
    """Return an escape of JSON's or Python's as one of ours."""
    sign = theirs[1]
    return f"\\x{sign[3:]}" if sign[0] == "u" else {"t": "\\x09", "\\": "\\\\"}.get(sign, sign)


def _completed(data: bytes, notes: list[str]) -> bytes:
    """Return a frame of DC-09 with its LF and CR, without what was copied behind it; other bytes as they are."""
    header = HEADER.match(data)
    if header is None:
        return data
    end = data.rfind(b"\r", header.end()) + 1
    missing = not end
    if missing:
        end = header.end() - 1 + int(header[2], 16)
    behind = data[end:]
    if behind.strip(_AROUND) == b"" and behind.strip(b"\n\0"):
        data = data[:end]
        notes.append(f"{escape(behind)} behind the frame was left out")
    if data[:1] != b"\n":
        data = b"\n" + data
        notes.append("it was given without the LF at its beginning")
    if missing:
        data = data.rstrip(b"\n") + b"\r"
        notes.append("it was given without the CR at its end")
    return data
