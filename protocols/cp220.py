"""
Link protocol: the automation output of the FBI CP-220.

    H RG AAAA 18 QXYZ GG FCCC T     Contact ID; F is C for a zone, U for a user: the receiver's own word, before the table's
    H RGAAAA... T                   short form: kept, of its account, raised as unknown

Its layouts are those of `protocols.ademco685`; header H (LF) and terminator T (CR) are set in the receiver. Answers are ACK (06)
and NAK (15). What identifies a retransmission is in `protocols.lines`. Source: public manuals, read by one open decoder.
"""

import re
from typing import Annotated

import msgspec

from protocols import ademco685
from protocols.ademco685 import AdemcoLink
from protocols.columns import Frame, parts
from protocols.event import Event
from protocols.lines import bare
from protocols.link import Part, Policies

build = ademco685.build
Sign = Annotated[str, msgspec.Meta(min_length=1, max_length=1, pattern=r"\A[\x00-\x7F]\Z", description="one ASCII sign")]


class Cp220(msgspec.Struct, frozen=True, tag_field="protocol", tag="cp220", forbid_unknown_fields=True):
    """A listener's `protocol = "cp220"`."""

    header: Sign = "\n"
    """What the receiver is set to send before a line."""
    end: Sign = "\r"
    """And behind it."""
    acknowledge: bool = True
    """False: the receiver waits for no answer."""

    def link(self, policies: Policies = lambda *_: None) -> "Cp220Link":
        """Return the receiving side of a new connection."""
        header, end = self.header.encode(), self.end.encode()
        start = re.compile(rb"(?:\A|%b)[0-9A-Z]{2} ?[0-9A-F]{4}" % re.escape(header))
        return Cp220Link(policies, start, (header, end), acknowledge=self.acknowledge)

    def explain(self, frame: bytes, *_: object) -> Frame | None:
        """Return the columns of a line; None where it is none of a CP-220."""
        line = self._line(frame)
        return ademco685.read(line) or keep(line)

    def layout(self, frame: bytes, *_: object) -> tuple[Part, ...]:
        """Return what each byte of a line is; none where it is not read."""
        line = self._line(frame)
        return parts(ademco685.layouts(line), line)

    def line_of(self, event: Event) -> bytes:
        """Return the line of a Contact ID event. Raises ValueError."""
        return build(ademco685.frame_of(event), self.header.encode(), self.end.encode())

    def heartbeat(self, receiver: str, line: str) -> bytes:
        """Return a heartbeat. Raises ValueError."""
        return build(Frame(kind="heartbeat", receiver=receiver, line=line), self.header.encode(), self.end.encode())

    def _line(self, frame: bytes) -> bytes:
        signs = b"\r\n" + self.header.encode() + self.end.encode()
        return bare(frame, b"\x00" + signs, signs).rstrip(b" ")


class Cp220Link(AdemcoLink):
    """One connection of a CP-220."""

    def keep(self, line: bytes) -> Frame | None:
        """See `keep` of the module."""
        return keep(line)


def keep(line: bytes) -> Frame | None:
    """Return a frame for an undamaged line that is not read: a short form is receiver, line, four digits of account, event."""
    short = re.fullmatch(rb"([0-9A-Z])([0-9A-Z])([0-9A-F]{4})[0-9A-Z]{2,8}", line)
    if short is None:
        return ademco685.keep(line)
    receiver, line_name, account = (part.decode() for part in short.groups())
    return Frame(kind="raw", receiver=receiver, line=line_name, account=account, content=line.decode("ascii"))
