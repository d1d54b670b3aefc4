"""
Link protocol: SIA DC-09, the IP event report, as panels really speak it.

    data -> Dc09Link.receive() -> frame -> Reader.read() -> Message | LinkTest | Rejected

    link.py       bytes to frames, however they were cut        frame.py      the grammar, and the dialects by name
    read.py       what a frame means, and its answer            build.py      what is sent: answers, and frames of a panel
    cipher.py     AES and the pad                               explain.py    a frame's fields, for people
    clock.py      the panel's time                              extended.py   coordinates, addresses, a key that is not kept
    foreign.py    what is no DC-09
"""

from datetime import datetime

from protocols.dc09.build import build, build_nak, build_reply
from protocols.dc09.explain import explain, read_reply
from protocols.dc09.frame import DIALECTS, FRAME_BYTES_MAX, Dialect, Frame
from protocols.dc09.layout import layout
from protocols.dc09.link import Dc09Link
from protocols.dc09.read import Rules
from protocols.link import Part, Policies, Policy

__all__ = (
    "DIALECTS",
    "FRAME_BYTES_MAX",
    "Dc09",
    "Dc09Link",
    "Dialect",
    "Frame",
    "Rules",
    "build",
    "build_nak",
    "build_reply",
    "read_reply",
)


class Dc09(Rules, frozen=True, kw_only=True, tag_field="protocol", tag="dc09", forbid_unknown_fields=True):
    """A listener's `protocol = "dc09"`, and its rules."""

    def link(self, policies: Policies = lambda *_: None) -> Dc09Link:
        """Return the receiving side of a new connection; policies: what the centre has said of its accounts."""
        return Dc09Link(policies, self)

    def explain(self, frame: bytes, policy: Policy | None = None, now: datetime | None = None) -> Frame | None:
        """
        Return the fields of a raw frame, refused or not, opened where the policy has its key; None where it is no frame.

        now: the time of receipt; it tells which is meant where the panel's clock went back and an hour came twice.
        """
        return explain(frame, policy, now)

    def layout(self, frame: bytes, policy: Policy | None = None) -> tuple[Part, ...]:
        """Return what each byte of a raw frame is, in words; none where it is no frame."""
        return layout(frame, policy)
