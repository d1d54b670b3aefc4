"""
The panels: which accounts report here, with their keys and rules.

    accounts/*.toml     [[account]] tables, by hand
    accounts/*.jsonl    one account a line, in bulk

    file -> Account, as written -> Rules.policy() -> Policy, for the codec; Accounts.policy() finds it

Read by the receiver alone: secrets have one reader, and a mistake in a site's file never stops an ACK.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from protocols.link import Policy
from receiver.load import Mistake, files, jsonl, toml
from receiver.rules import Rules
from receiver.secret import SECRET_FORM

Number = Annotated[
    str, Meta(pattern=r"\A[0-9A-Za-z]{1,16}\Z", description='text of 1 to 16 letters and digits, in quotes: "0042"')
]

# The form of a key is looked at by `Rules`: where a text with a pattern may be a list as well, msgspec 0.22 corrupts memory.
_Key = Annotated[str, Meta(description=SECRET_FORM)]
_Keys = Annotated[tuple[_Key, ...], Meta(description="a list of two of them, the new one first")]
_Code = Annotated[
    str, Meta(pattern=r"\A[0-9A-Za-z]{1,8}\Z", description='the code of an event, in quotes: "RP" of SIA, "602" of Contact ID')
]
_Time = Annotated[Literal["enforce", "ignore", "enforce_plain"], Meta(description='"enforce", "ignore" or "enforce_plain"')]

PANEL_DIGITS: Final = 4
"""What a panel's own account has at least: there "0042" is not "42", and no zero is filling."""

_Place = tuple[str | None, str | None, str | None]


class AccountAt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An account, and where it reports if the same number exists in several places. A place that is None: anywhere."""

    number: Number
    """Text: "0042" is not "42". Compared without case."""
    listener: str | None = None
    """The name of a `[[listener]]`."""
    receiver: str | None = None
    """As sent: "1" for DC-09's R1. Compared without case."""
    line: str | None = None
    """As sent: "0" for DC-09's L0. Compared without case."""

    def __str__(self) -> str:
        places = zip(("listener", "receiver", "line"), (self.listener, self.receiver, self.line), strict=True)
        return ", ".join([f"account {self.number}", *(f"{name} {place}" for name, place in places if place is not None)])


class Account(AccountAt, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One panel's account, as it is written. Its keys show neither in `repr` nor in a traceback of rich's."""

    key: _Key | _Keys | None = None
    """What the panel encrypts with: AES-128, 192 or 256. With one, plain frames are refused; two during a rotation."""
    time: _Time = "enforce"
    """Whether a frame with a wrong time is refused: an encrypted one, none, or a plain one too."""
    time_zone: Annotated[str, Meta(description='the name of a time zone: "Europe/Paris"')] | None = None
    """Of the IANA database, for a panel that sends local time; None: UTC, as the standard wants."""
    heartbeat: tuple[_Code, ...] = ()
    """Events that are link tests: Ajax sends "RP" each minute, some others "602"."""

    def __repr__(self) -> str:
        return f"Account({self})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("number", self.number)]


class _Accounts(msgspec.Struct, forbid_unknown_fields=True):
    """A TOML file of accounts."""

    account: tuple[Account, ...] = ()


class AccountIndex:
    """Finds what belongs to an account by what its frame says of itself; holds positions in a list of the caller's."""

    def __init__(self) -> None:
        self._anywhere: dict[str, int] = {}
        self._placed: dict[str, list[tuple[_Place, int]]] = {}

    def add(self, at: AccountAt, position: int) -> int | None:
        """Add a position; where the same account at the same place has another, keep and return that."""
        number, place = at.number.upper(), _place(at.listener, at.receiver, at.line)
        if place == (None, None, None):
            before = self._anywhere.setdefault(number, position)
            return None if before == position else before
        placed = self._placed.setdefault(number, [])
        for known, before in placed:
            if known == place:
                return None if before == position else before
        placed.append((place, position))
        placed.sort(key=_specific, reverse=True)
        return None

    def find(self, listener: str, receiver: str | None, line: str | None, account: str) -> int | None:
        """
        Give the position of the most specific entry that fits what was sent, or None.

        The more places an entry names, the more specific; at the same count listener goes before receiver before line. Receivers
        fill the account's column with zeros: one of more than `PANEL_DIGITS` signs that is not known as sent is looked up
        without them, if it is then one account's alone.
        """
        number = account.upper()
        # On the way of each frame: an account with one entry, or none, costs one look
        found = self._find(listener, receiver, line, number) if number in self._placed else self._anywhere.get(number)
        if found is not None or number[:1] != "0" or len(number) <= PANEL_DIGITS:
            return found
        found_at = (self._find(listener, receiver, line, each) for each in unpadded(number))
        positions = {position for position in found_at if position is not None}
        return positions.pop() if len(positions) == 1 else None

    def _find(self, listener: str, receiver: str | None, line: str | None, number: str) -> int | None:
        if placed := self._placed.get(number):
            sent = _place(listener, receiver, line)
            for wanted, position in placed:
                if all(want in {None, got} for want, got in zip(wanted, sent, strict=True)):
                    return position
        return self._anywhere.get(number)


def unpadded(number: str) -> list[str]:
    """Return what a number may be to which a receiver has put zeros: it without one of them, without two ..., without all."""
    return [number[n:] for n in range(1, len(number) - len(number.lstrip("0")) + 1)]


def _place(listener: str | None, receiver: str | None, line: str | None) -> _Place:
    return (listener, receiver and receiver.upper(), line and line.upper())


def _specific(entry: tuple[_Place, int]) -> tuple[int, list[bool]]:
    named = [part is not None for part in entry[0]]
    return sum(named), named


class Accounts:
    """All accounts of the centre, by what their frames say."""

    def __init__(self) -> None:
        self._policies: list[Policy] = []
        self._index = AccountIndex()
        self._placed_keys: dict[str, list[bytes]] = {}
        """By number, of the accounts that name a place."""

    def __len__(self) -> int:
        return len(self._policies)

    def add(self, at: AccountAt, policy: Policy) -> int | None:
        """Add an account; where it is there already, leave that and return its position, counted from 0."""
        before = self._index.add(at, len(self._policies))
        if before is None:
            self._policies.append(policy)
            if policy.keys and (at.listener, at.receiver, at.line) != (None, None, None):
                self._placed_keys.setdefault(at.number.upper(), []).extend(policy.keys)
        return before

    def policy(self, listener: str, receiver: str | None, line: str | None, account: str) -> Policy | None:
        """
        Give what a codec must know of the account that a frame belongs to: its fields as sent, the most specific entry first.

        None where the centre knows no such account. But where the number has a key at another place, or two accounts may be meant
        of which one has, what was sent must have that key: a sender writes receiver, line and zeros as he likes, and a site is
        often found without them.
        """
        position = self._index.find(listener, receiver, line, account)
        if position is not None:
            return self._policies[position]
        guarded = self._placed_keys or account[:1] == "0"  # else nobody else can be meant: strangers' frames come often
        return self._guard(listener, receiver, line, account.upper()) if guarded else None

    def _guard(self, listener: str, receiver: str | None, line: str | None, number: str) -> Policy | None:
        """Give the keys of whoever may be meant by a number that was not found; None where there is none."""
        keys = list(self._placed_keys.get(number, ()))
        for shorter in unpadded(number):
            meant = self._index.find(listener, receiver, line, shorter)
            keys += self._placed_keys.get(shorter, ()) if meant is None else self._policies[meant].keys
        return Policy(keys=tuple(dict.fromkeys(keys))) if keys else None


def load(folder: Path, home: Path | None = None) -> tuple[Accounts, list[Mistake]]:
    """
    Read every file of the folder (missing: empty), and tell every mistake. Never raises on what the files hold.

    home: the folder of arcgate.toml, where `credential:` files may stand; else that in which the accounts' folder is.
    """
    accounts, mistakes = Accounts(), list[Mistake]()
    homes: list[str] = []
    rules = Rules(home or folder.parent)
    for path in files(folder, mistakes):
        file = str(path)
        for place, at, account in _read(path, mistakes):
            wrong = list[tuple[str, str]]()
            policy = rules.policy((account.key, account.time, account.time_zone, account.heartbeat), wrong)
            mistakes += [Mistake(place, f"{at}{key}", message) for key, message in wrong]
            before = accounts.add(account, policy)
            if before is None:
                homes.append(file)
            else:
                message = f"{account} is in {homes[before]} too: keep one, or name the listener, receiver or line of each"
                mistakes.append(Mistake(place, f"{at}number", message))
    return accounts, mistakes


def _read(path: Path, mistakes: list[Mistake]) -> Iterable[tuple[str, str, Account]]:
    """Each account of a file, with its file, and its path there, as a `Mistake` names them."""
    if path.suffix == ".jsonl":
        return ((place, "", account) for place, account in jsonl(path, Account, mistakes))
    content = toml(path, _Accounts, mistakes)
    return ((str(path), f"account[{n}].", account) for n, account in enumerate(content.account if content else ()))
