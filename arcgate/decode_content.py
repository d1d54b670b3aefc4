"""
The bare content of an event, as `arcgate decode` takes it: what a link carries, without the link.

    1234 18 1 131 01 015 8      contact_id: as dialled, or from the qualifier on; blanks as one likes
    #1234|Nri1/BA5^kitchen^     sia: the account and its bar may be missing

One a line. Nobody listens for these: nothing is answered.
"""

import re
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from protocols import contact_id, sia
from protocols.columns import Frame
from protocols.errors import FrameError, Reason
from protocols.event import Category, Event, Format, Qualifier
from protocols.link import Message, Part, Policies, Received, Rejected

LINE_BYTES_MAX: Final = 64 * 1024
_ACCOUNT: Final = re.compile(r"#?([0-9A-Za-z]{1,16})\|(.*)", re.DOTALL)
_REPORT: Final = re.compile(r"(?P<qualifier>[136ERP])(?P<code>.{3})(?P<partition>.{2})(?P<address>.{3})")


class Content(msgspec.Struct, frozen=True):
    """An event format in a protocol's place."""

    format: Literal["contact_id", "sia"]

    def link(self, policies: Policies = lambda *_: None) -> "ContentLink":  # noqa: ARG002 - as for every protocol
        """Return a reader of lines."""
        return ContentLink(self)

    def explain(self, frame: bytes, *_: object) -> Frame:
        """Return the account, and what else stands in columns."""
        account, content = _part(frame)
        together = content.replace(" ", "")
        dialled = contact_id.read(together) if self.format == "contact_id" else None
        report = _REPORT.fullmatch(dialled.report if dialled else together) if self.format == "contact_id" else None
        if report is None:
            return Frame(kind=self.format, account=account, content=content)
        head, tail = (together.partition(dialled.report)[::2]) if dialled else ("", "")
        own, message_type = (head[:-2], head[-2:]) if dialled else ("", "")
        return Frame(kind=self.format, account=account or own, message_type=message_type, checksum=tail, **report.groupdict())

    def layout(self, *_: object) -> tuple[Part, ...]:
        """Return nothing: what a content's bytes are, its columns and events say."""
        return ()

    def read(self, line: bytes, now: datetime) -> Received:
        """Say what a line reports. now: completes a time without a date."""
        account, content = _part(line)
        if self.format == "sia":
            events, why = sia.parse(content, now, account, None, None), "no code of SIA can be read in it"
        else:
            events, why = contact_id.parse(content, account, None, None), "these are no digits of Contact ID"
            dialled = contact_id.read(content)
            if dialled and dialled.checksum_ok is False:
                frame = self.explain(line)
                why = f"the checksum is {frame.checksum}, the digits give {checksum_of(frame)}: one of them is wrong, or too many"
        if events:
            return Message(line, events, b"", "")
        kept = Event(account, Format.RAW, "", Qualifier.NEW, Category.UNKNOWN, text=content)
        return Rejected(line, FrameError(Reason.MALFORMED, f"{why}; a link keeps it, and raises it as unknown"), b"", (kept,))


def checksum_of(frame: Frame) -> str:
    """Return the checksum that a Contact ID call should have; a receiver prints a letter where a panel dials a digit."""
    digit = {"E": "1", "R": "3", "P": "6"}.get(frame.qualifier, frame.qualifier)
    return contact_id.checksum(f"{frame.account}{frame.message_type}{digit}{frame.code}{frame.partition}{frame.address}")


def _part(line: bytes) -> tuple[str, str]:
    """Return account and content."""
    text = line.decode("utf-8", "replace").strip()
    named = _ACCOUNT.fullmatch(text)
    return (named[1], named[2]) if named else ("", text)


class ContentLink:
    """A line at a time."""

    noise_bytes = 0

    def __init__(self, content: Content) -> None:
        self._content, self._pending = content, b""
        self._now = datetime.min.replace(tzinfo=UTC)

    def receive(self, data: bytes, now: datetime) -> list[Received]:
        """Take what was read, and say what it completed."""
        self._now = now
        *lines, self._pending = re.split(rb"[\r\n\x14\0]", self._pending + data)
        if len(self._pending) > LINE_BYTES_MAX:
            lines, self._pending = [*lines, self._pending], b""
        return [self._content.read(line, now) for line in lines if line.strip()]

    def finish(self) -> list[Received]:
        """Say what the last line is, which may have no end."""
        return self.receive(b"\n", self._now)
