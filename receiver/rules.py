"""
What is written of an account, made into what a codec must know of it.

    key, time, time_zone, heartbeat -> Rules.policy() -> Policy, and every mistake: its key, and what to do

A mistake names the key, never the secret. Equal policies are one object: most accounts of a centre have the same rules.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

from protocols import codes
from protocols.event import Category
from protocols.link import Policy
from receiver.secret import SECRET_FORM, SecretError, is_secret, reveal

KEY_BYTES: Final = (16, 24, 32)
"""AES-128, AES-192, AES-256."""
HEARTBEATS: Final = frozenset({Category.TEST, Category.STATUS, Category.SERVICE, Category.REMOTE})
"""What a heartbeat may be, beside a code that is in no table: never what somebody waits for."""

KEYS: Final = (1, 2)
"""So many keys may be in a list."""
_HEX_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")

Written = tuple[str | tuple[str, ...] | None, Literal["enforce", "ignore", "enforce_plain"], str | None, tuple[str, ...]]
"""`key`, `time`, `time_zone` and `heartbeat` of an account."""


class Rules:
    """Makes policies, for as long as a load takes; home: the folder where `credential:` files may stand."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._policies: dict[Policy, Policy] = {}
        self._heartbeats: dict[tuple[str, ...], frozenset[str]] = {(): frozenset()}

    def policy(self, written: Written, wrong: list[tuple[str, str]]) -> Policy:
        """Make the policy of what is written; each mistake is added to `wrong`: the key's name, and the message."""
        key, time, time_zone, codes_written = written
        heartbeat = self._heartbeats.get(codes_written)
        if heartbeat is None:
            found = [*_wrong_heartbeats(codes_written)]
            wrong += found
            heartbeat = frozenset(map(str.upper, codes_written))
            if not found:
                self._heartbeats[codes_written] = heartbeat
        zone = None if time_zone is None else _zone(time_zone, wrong)
        policy = Policy(keys=tuple(self._keys(key, wrong)), time=time, time_zone=zone, heartbeat=heartbeat)
        return self._policies.setdefault(policy, policy)

    def _keys(self, written: str | tuple[str, ...] | None, wrong: list[tuple[str, str]]) -> Iterator[bytes]:
        if isinstance(written, tuple) and len(written) not in KEYS:
            wrong.append(("key", "must be one, or a list of two: the new one first, the old one until the panel has the new one"))
            return
        for n, secret in enumerate(written if isinstance(written, tuple) else () if written is None else (written,)):
            try:
                yield _aes_key(secret, self._home)
            except SecretError as error:
                wrong.append((f"key[{n}]" if isinstance(written, tuple) else "key", str(error)))


def _zone(name: str, wrong: list[tuple[str, str]]) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        wrong.append(("time_zone", 'unknown: give a name of the IANA database, such as "Europe/Paris"'))
        return None


def _aes_key(secret: str, home: Path) -> bytes:
    """Return the key that is written. Raises SecretError where it cannot be had, or is none of AES."""
    if not is_secret(secret):
        raise SecretError(f"must be {SECRET_FORM}")
    key = reveal(secret, home)
    if len(key) in KEY_BYTES:
        return key
    hint = "count its characters"
    if secret.startswith("hex:") and 2 * len(key) in KEY_BYTES:
        hint = 'if the panel has these characters as they are, write "ascii:" before them'
    elif not secret.startswith("hex:") and len(key) // 2 in KEY_BYTES and _HEX_DIGITS.issuperset(key):
        hint = 'these are hexadecimal digits: write "hex:" before them'
    raise SecretError(f"has {len(key)} bytes, and AES takes 16, 24 or 32: {hint}")


def _wrong_heartbeats(written: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for n, code in enumerate(written):
        known = codes.sia(code.upper()) or codes.contact_id(code.upper())
        if known and known.category not in HEARTBEATS:
            yield (
                f"heartbeat[{n}]",
                f"{code} is {known.category}: as a link test it would reach nobody; only tests and states can be",
            )
