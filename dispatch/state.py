"""
What a site's past says about its next event. A value: read from Redis, given to `decide`, written back.

So far: each account's last frames, by which a retransmission is known; and what of it is being refused.
"""

from datetime import datetime
from typing import Final

import msgspec

from protocols.link import LINE

REPEAT_S: Final = 300
"""A frame is repeated at most this long after it was last received."""
LINE_REPEAT_S: Final = 60
"""And a receiver's line, if no other frame of its account was since: the same line after a restore is a second alarm."""
FRAMES_KEPT: Final = 4
"""Of each account: the last different frames, so that a frame which is repeated often does not push the others out."""
ACCOUNTS_KEPT: Final = 16
"""Of each site: those heard last. A site seldom has more that repeat at the same time, and a state stays under 6 kB."""
REFUSED_KEPT: Final = 64
"""Accounts of each site of which something is being refused: many, for it is all of them where our own clock is wrong."""


class Heard(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One frame of an account."""

    identity: str
    """Equal for a frame and its retransmissions."""
    at: int
    """When it was last received, ms since 1970."""
    original: str
    """Where it was first: the event's id without its last part, `<journal>-<position>`."""


class Refused(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One kind of refusal of an account, over and over. Places are `<journal>-<position>`."""

    first: str
    last: str


class SiteState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The live state of one site; as JSON, keys are short, for it is written with each batch."""

    heard: dict[str, tuple[Heard, ...]] = msgspec.field(name="h", default_factory=dict)
    """By account in upper case, the one heard last at the end; of each, its frames, the last one at the end."""

    refused: dict[str, dict[str, Refused]] = msgspec.field(name="r", default_factory=dict)
    """By account in upper case, the one refused last at the end: what was refused since its last accepted frame, by code."""

    def hear(self, account: str, identity: str, place: str, now: datetime) -> tuple["SiteState", str | None]:
        """
        Take in a frame of an account: the state after it, and the place of the original if it is a retransmission.

        place: `<journal>-<position>`. now: when it was received. An empty identity is never a retransmission, and is not kept.
        """
        if not identity:
            return self, None
        key, at = account.upper(), int(now.timestamp() * 1000)
        before = self.heard.get(key, ())
        if identity.startswith(LINE):
            same, within_s = [frame for frame in before[-1:] if f"{frame.identity}@".startswith(f"{identity}@")], LINE_REPEAT_S
        else:
            same, within_s = [frame for frame in before if frame.identity == identity], REPEAT_S
        original = next((frame.original for frame in same if at - frame.at <= within_s * 1000), None)
        frames = [frame for frame in before if frame.identity != identity][1 - FRAMES_KEPT :]
        frames.append(Heard(identity, at, original or place))
        heard = self.heard.copy()
        heard.pop(key, None)
        if len(heard) >= ACCOUNTS_KEPT:
            del heard[next(iter(heard))]
        heard[key] = tuple(frames)
        return SiteState(heard, self.refused), original

    def refuse(self, account: str, code: str, place: str) -> tuple["SiteState", Refused | None]:
        """Take in a refusal of an account: the state after it, and what stood there where the same was refused before."""
        refused = self.refused.copy()
        kinds = refused.pop(account.upper(), {})
        before = kinds.get(code)
        if len(refused) >= REFUSED_KEPT:
            del refused[next(iter(refused))]
        refused[account.upper()] = kinds | {code: Refused(before.first if before else place, place)}
        return SiteState(self.heard, refused), before

    def accept(self, account: str) -> "SiteState":
        """Take in that a frame of the account was accepted: what was refused before is over."""
        if account.upper() not in self.refused:
            return self
        return SiteState(self.heard, {key: kinds for key, kinds in self.refused.items() if key != account.upper()})


_DECODER: Final = msgspec.json.Decoder(SiteState)
encode: Final = msgspec.json.Encoder().encode
"""A state as JSON, for Redis."""


def decode(data: bytes | str | None) -> SiteState:
    """Read a state; none, or one that cannot be read, is an empty one: a site without a past raises more, never less."""
    try:
        return _DECODER.decode(data) if data else SiteState()
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return SiteState()
