"""
What a link protocol is to the rest: bytes in, values out; time is an argument, and nothing is sent from here.

    data -> Link.receive(data, now) -> [Message | LinkTest | Rejected, ...]
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol, runtime_checkable
from zoneinfo import ZoneInfo

import msgspec

from protocols.errors import FrameError
from protocols.event import Event


class Policy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the centre has said of an account: all that a codec must know beside the bytes and the time."""

    keys: tuple[bytes, ...] = ()
    """AES keys of 16, 24 or 32 bytes, the newest first. Where there is one, a plain frame is refused."""
    time: Literal["enforce", "ignore", "enforce_plain"] = "enforce"
    """Whether a frame with a wrong time is refused: an encrypted one, none, or a plain one too."""
    time_zone: ZoneInfo | None = None
    """Of panels that send local time; None: UTC, as the standard wants."""
    heartbeat: frozenset[str] = frozenset()
    """Event codes that are link tests: "RP", "602"."""

    # No key is ever shown, whatever shows this
    def __repr__(self) -> str:
        return f"Policy({len(self.keys)} keys, {self.time}, {self.time_zone}, {sorted(self.heartbeat)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("keys", len(self.keys))]


def utc(shown: datetime, zone: ZoneInfo | None, now: datetime | None) -> datetime:
    """
    Return the moment at which a clock shows a date and time.

    shown: its zone is not looked at. zone: the clock's; None: UTC. now: where the clock goes back, an hour comes twice, and the
    one nearer to now is meant. Raises OverflowError at the end of all calendars.
    """
    if zone is None:
        return shown.replace(tzinfo=UTC)
    first, second = (shown.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return second if now is not None and abs(second - now) < abs(first - now) else first


Policies = Callable[[str | None, str | None, str], Policy | None]
"""Gives the policy of (receiver, line, account) as a frame names them; None where the centre knows no such account."""


LINE: Final = "line-"
"""
How the identity of a receiver's line begins: it has no sequence number, so it can be a retransmission of the frame alone that was
heard last of its account. Behind an @ stands when it came, where it is surely none of what came before.
"""


class Message(msgspec.Struct, frozen=True, gc=False):
    """A report: it must be durable before `reply` may be sent."""

    frame: bytes
    """Raw, for the journal."""
    events: tuple[Event, ...]
    """At least one."""
    reply: bytes
    identity: str
    """The same for a frame and its retransmission, different for all else: what the link's rule compares, hashed."""
    mark: str = ""
    """What was wrong with it, though not so wrong that it was refused: a clock that is off."""
    dialects: tuple[str, ...] = ()
    """Where it departs from the standard, by name."""
    ahead_s: float | None = None
    """How far the panel's clock is ahead of ours, in seconds; None where it did not say its time."""


class LinkTest(msgspec.Struct, frozen=True, gc=False):
    """A poll or heartbeat: it says that the path lives, and carries no report."""

    frame: bytes
    account: str
    reply: bytes
    receiver: str | None = None
    line: str | None = None
    mark: str = ""
    dialects: tuple[str, ...] = ()
    ahead_s: float | None = None


class Rejected(msgspec.Struct, frozen=True):
    """Bytes that were refused. `reply` is empty where the answer is silence."""

    frame: bytes
    error: FrameError
    reply: bytes = b""
    events: tuple[Event, ...] = ()
    """One `generated` event where a report may have been lost by the refusal: it is journalled and raised. Else none."""
    identity: str = ""


Received = Message | LinkTest | Rejected


class Part(msgspec.Struct, frozen=True):
    """Some bytes of a frame, explained."""

    name: str
    at: int
    """Where they begin, counted from 0; of what was encrypted, from the first plain byte."""
    data: bytes
    says: str
    """In plain words; empty where the bytes say it all."""


@runtime_checkable
class Prints(Protocol):
    """A protocol whose layouts build lines too: for a pretend receiver."""

    def link(self) -> "Link":
        """Return the receiving side of a new connection."""
        ...

    def line_of(self, event: Event) -> bytes:
        """Return the line that a receiver prints for an event, with what ends it. Raises ValueError where it has none for it."""
        ...

    def heartbeat(self, receiver: str, line: str) -> bytes:
        """Return the heartbeat of a receiver. Raises ValueError where the names do not fit their columns."""
        ...


class Link(Protocol):
    """One peer's side of a conversation: holds the bytes that are not a whole frame yet, and nothing else."""

    def receive(self, data: bytes, now: datetime) -> list[Received]:
        """
        Take what was read, and say what it completed.

        data: as read, cut anywhere. now: the time of receipt, UTC. Never raises; keeps at most one frame's bytes.
        """
        ...

    def finish(self) -> list[Received]:
        """Say what is left at the end of the connection: bytes that became no frame."""
        ...

    @property
    def noise_bytes(self) -> int:
        """How many bytes have come since the last whole frame with a right checksum."""
        ...


def escape(data: bytes) -> str:
    r"""
    Frame bytes as text that a person can read, a log can hold and a command line can take back.

    Printable ASCII stands for itself, but a backslash is doubled; LF is `\n`, CR is `\r`, all else is `\xNN`.
    """
    text = data.decode("latin-1").replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    if text.isascii() and text.isprintable():  # nearly always, and four times faster
        return text
    return "".join([_ESCAPES[byte] for byte in data])


_ESCAPES = [
    character if (character := chr(code)).isascii() and character.isprintable() else f"\\x{code:02X}" for code in range(256)
]
_ESCAPES[0x0A], _ESCAPES[0x0D], _ESCAPES[0x5C] = "\\n", "\\r", "\\\\"


def unescape(text: str) -> bytes:
    r"""
    Return the bytes that `escape` wrote; characters above ASCII are taken as their UTF-8 bytes.

    Raises ValueError where a backslash is not followed by `n`, `r`, `\` or `xNN`.
    """
    head, *rest = text.split("\\")
    data = bytearray(head.encode())
    pieces = iter(rest)
    for piece in pieces:
        if piece[:1] == "n":
            data += b"\n" + piece[1:].encode()
        elif piece[:1] == "r":
            data += b"\r" + piece[1:].encode()
        elif piece[:1] == "x" and len(piece) >= 3 and not piece[1:3].isspace():  # noqa: PLR2004 - x and two digits
            data += bytes.fromhex(piece[1:3]) + piece[3:].encode()
        elif not piece:
            data += b"\\" + next(pieces, "").encode()
        else:
            raise ValueError(f"a backslash is followed by {piece[:3]!r}: write \\n, \\r, \\\\ or \\xNN")
    return bytes(data)
