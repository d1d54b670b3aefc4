"""The journal (work in progress: only the types are settled)."""

from datetime import datetime

import msgspec

from protocols.errors import FrameError
from protocols.event import Event


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the journal keeps of one frame; its JSON is the entry's body, and what the digest covers."""

    received_at: datetime
    """UTC; it orders everything."""
    listener: str
    peer: str
    frame: str
    """The raw bytes, escaped (`protocols.link.escape`)."""
    events: tuple[Event, ...]
    identity: str = ""
    """Equal for a frame and its retransmissions."""
    error: FrameError | None = None
    """Why it was refused, where it was."""


class Entry(msgspec.Struct, frozen=True):
    """A report and its place in the journal."""

    position: int
    report: Report
    digest: str
