"""
The panels: which accounts report here.

    accounts/*.toml     [[account]] tables, by hand
    accounts/*.jsonl    one account a line, in bulk

Read by the receiver alone: secrets have one reader, and a mistake in a site's file never stops an ACK.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from protocols.link import Policy
from receiver.load import Mistake, files, jsonl, toml

Number = Annotated[
    str, msgspec.Meta(pattern=r"\A[0-9A-Za-z]{1,16}\Z", description='text of 1 to 16 letters and digits, in quotes: "0042"')
]

PANEL_DIGITS: Final = 4
"""What a panel's own account has at least: there "0042" is not "42", and no zero is filling."""
_USUAL: Final = Policy()

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
    """One panel's account, as the receiver knows it."""


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
        found = self._find(listener, receiver, line, number)
        if found is not None or len(number) <= PANEL_DIGITS or number[0] != "0":
            return found
        shorter = (number[n:] for n in range(1, len(number) - len(number.lstrip("0")) + 1))
        unpadded = {position for each in shorter if (position := self._find(listener, receiver, line, each)) is not None}
        return unpadded.pop() if len(unpadded) == 1 else None

    def _find(self, listener: str, receiver: str | None, line: str | None, number: str) -> int | None:
        if placed := self._placed.get(number):
            sent = _place(listener, receiver, line)
            for wanted, position in placed:
                if all(want in {None, got} for want, got in zip(wanted, sent, strict=True)):
                    return position
        return self._anywhere.get(number)


def _place(listener: str | None, receiver: str | None, line: str | None) -> _Place:
    return (listener, receiver and receiver.upper(), line and line.upper())


def _specific(entry: tuple[_Place, int]) -> tuple[int, list[bool]]:
    named = [part is not None for part in entry[0]]
    return sum(named), named


class Accounts:
    """All accounts of the centre, by what their frames say."""

    def __init__(self) -> None:
        self._accounts: list[Account] = []
        self._policies: list[Policy] = []
        """Of each account, in the same order."""
        self._index = AccountIndex()

    def __len__(self) -> int:
        return len(self._accounts)

    def add(self, account: Account) -> int | None:
        """Add an account; where it is there already, leave that and return its position, counted from 0."""
        before = self._index.add(account, len(self._accounts))
        if before is None:
            self._accounts.append(account)
            self._policies.append(_USUAL)
        return before

    def find(self, listener: str, receiver: str | None, line: str | None, account: str) -> Account | None:
        """Give the account that a frame belongs to: its fields as sent, the most specific entry first."""
        position = self._index.find(listener, receiver, line, account)
        return None if position is None else self._accounts[position]

    def policy(self, listener: str, receiver: str | None, line: str | None, account: str) -> Policy | None:
        """Give what a codec must know of the account that a frame belongs to; None where there is no such account."""
        position = self._index.find(listener, receiver, line, account)
        return None if position is None else self._policies[position]


def load(folder: Path) -> tuple[Accounts, list[Mistake]]:
    """Read every file of the folder (missing: empty), and tell every mistake. Never raises on what the files hold."""
    accounts, mistakes = Accounts(), list[Mistake]()
    homes: list[str] = []
    for path in files(folder, mistakes):
        home = str(path)
        for where, account in _read(path, mistakes):
            before = accounts.add(account)
            if before is None:
                homes.append(home)
            else:
                message = f"{account} is in {homes[before]} too: keep one, or name the listener, receiver or line of each"
                mistakes.append(Mistake(*where, message))
    return accounts, mistakes


def _read(path: Path, mistakes: list[Mistake]) -> Iterable[tuple[tuple[str, str], Account]]:
    """Each account of a file, with its file and path as a `Mistake` names them."""
    if path.suffix == ".jsonl":
        return (((place, "number"), account) for place, account in jsonl(path, Account, mistakes))
    content = toml(path, _Accounts, mistakes)
    return (((str(path), f"account[{n}].number"), account) for n, account in enumerate(content.account if content else ()))
