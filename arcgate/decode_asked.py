"""
How `arcgate decode` is to read frames: as its options say, or as the centre's own files do.

    --protocol --set --strict --key --time-zone     protocol_of(), one policy for whatever account
    --config --listener                             centre(): each account's own policy, and the rules of its listener
"""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import typer

from arcgate.capture import Piece
from arcgate.decode_content import Content
from arcgate.run import refusing
from protocols import AnyProtocol
from protocols.errors import Reason
from protocols.link import Link, Policies, Policy, Received, Rejected
from receiver import config
from receiver.load import ConfigError, faults

_CONTENTS: Final = {"contact_id": Content("contact_id"), "sia": Content("sia")}
PROTOCOLS: Final = tuple(str(protocol.__struct_config__.tag) for protocol in get_args(AnyProtocol))
"""The words by which a listener names what its peers speak."""
WORDS: Final = (*PROTOCOLS, *_CONTENTS)
"""And those of contents."""
_TRUTHS: Final = {"true": True, "false": False}


class Asked(msgspec.Struct, frozen=True):
    """How frames are to be read."""

    protocol: AnyProtocol | Content
    policies: Policies
    configured: bool = False
    """Whether these are the centre's own; else what was typed goes for every account."""
    capture: bool = False
    """Whether frames of many are read, of whom the keys that were typed are some's."""
    received_at: datetime | None = None
    """When, by whoever asks."""

    def at(self, piece: Piece) -> datetime:
        """Say when a piece was received: as we were told, else as the capture says, else now."""
        return self.received_at or piece.at or datetime.now(UTC)

    def known(self, frame: bytes) -> Policy | None:
        """Return what is known of the account in a frame; None where it is known to nobody."""
        fields = self.protocol.explain(frame)
        return self.policies(fields.receiver or None, fields.line or None, fields.account) if fields else Policy()

    def link(self) -> Link:
        """Return what reads a peer's bytes as the receiver would."""
        link = self.protocol.link(self.policies)
        if self.configured or not self.capture:
            return link
        return _EitherWay(link, self.protocol.link(lambda *of: _keyless(self.policies(*of))))


class _EitherWay:
    """A capture's reader: in it a key belongs to whoever encrypts, and what is plain is no refusal. Frames end alike for both."""

    noise_bytes = 0

    def __init__(self, opening: Link, plain: Link) -> None:
        """Read with both. opening: has the keys; plain: has none."""
        self._opening, self._plain = opening, plain

    def receive(self, data: bytes, now: datetime) -> list[Received]:
        """Take what was read, and say what it completed."""
        return list(map(_fitting, self._opening.receive(data, now), self._plain.receive(data, now)))

    def finish(self) -> list[Received]:
        """Say what is left at the end."""
        return list(map(_fitting, self._opening.finish(), self._plain.finish()))


def _fitting(opened: Received, plain: Received) -> Received:
    return plain if isinstance(opened, Rejected) and opened.error.reason is Reason.PLAIN else opened


def _keyless(policy: Policy | None) -> Policy | None:
    return policy and msgspec.structs.replace(policy, keys=())


def centre(config_file: Path | None, listener: str) -> tuple[AnyProtocol, Policies]:
    """
    Return the protocol of a listener of the centre, and what is known of its accounts.

    A mistake in arcgate.toml or the accounts is told as `arcgate check` does. Raises BadParameter where it is not clear which
    listener is meant.
    """
    from receiver import accounts

    with refusing():
        path = config.find(config_file)
        loaded = config.load(path)
        known, mistakes = accounts.load(loaded.accounts, path.parent)
        if mistakes:
            raise ConfigError(mistakes)
    meant = [each for each in loaded.listeners if listener.lower() in {"", each.name.lower()}]
    if len(meant) != 1:
        names = ", ".join(each.name for each in loaded.listeners)
        raise typer.BadParameter(f"say which of the listeners in {path} is meant: {names}", param_hint="--listener")
    return meant[0].protocol, partial(known.policy, meant[0].name)


def protocol_of(word: str, settings: list[str]) -> AnyProtocol:
    """Return a protocol by its word, set as a listener's keys would. Raises BadParameter where there is none such."""
    if word not in PROTOCOLS:
        raise typer.BadParameter(f"{word!r}: choose {', '.join(WORDS)}", param_hint="--protocol")
    said: dict[str, Any] = {"protocol": word}
    for key, equals, value in (each.partition("=") for each in settings):
        if not equals:
            raise typer.BadParameter(f"{key!r}: write KEY=VALUE, as end=cr", param_hint="--set")
        said[key] = _TRUTHS.get(value, value)
    if wrong := faults(said, AnyProtocol):
        raise typer.BadParameter("; ".join(f"{path.lstrip('.')}: {why}" for path, why in wrong), param_hint="--set")
    found: AnyProtocol = msgspec.convert(said, AnyProtocol)
    return found


def protocol_or_content(word: str, settings: list[str]) -> AnyProtocol | Content:
    """Return a protocol as `protocol_of` does, or a content by its word."""
    return _CONTENTS.get(word) or protocol_of(word, settings)
