"""
The fixed columns of a receiver's line, each layout declared once, for reading and for building.

    layout("contact_id", Const(b"5"), "receiver" / hexa(2), ...)  <->  Frame

What a layout does not cover (which one it is, how wide its columns are) is for the protocol to say.
"""

import re
import string
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import msgspec
from construct import Bytes, ConstructError, ExprAdapter, ExprValidator, Struct

from protocols.link import Part

PRINTABLE: Final = string.digits + string.ascii_letters + string.punctuation + " "
HEXA: Final = string.digits + "ABCDEFabcdef"
ALPHANUMERIC: Final = string.digits + string.ascii_letters
_SAYS: Final = {
    "qualifier": dict.fromkeys("E1", "new, or an opening")
    | dict.fromkeys("R3", "restore, or a closing")
    | dict.fromkeys("P6", "status"),
    "flag": {"C": "the number is a zone", "U": "the number is a user"},
    "message_type": {"18": "Contact ID", "98": "Contact ID", "58": "Contact ID, with an account of ten digits"},
}
"""What the signs of a column mean, whatever the line."""


class Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The columns of a line, as text; empty where its layout has none of that name."""

    kind: str
    """Which layout: "contact_id", "heartbeat", ..., or "raw": a line that is kept and not read."""
    receiver: str = ""
    line: str = ""
    account: str = ""
    """As sent, without the blanks that fill its column; zeros are kept."""
    message_type: str = ""
    """Contact ID: 18, 98 or 58; Bosch SIA mode: its type."""
    checksum: str = ""
    sequence: str = ""
    qualifier: str = ""
    """Contact ID: E, R, P or 1, 3, 6."""
    code: str = ""
    partition: str = ""
    flag: str = ""
    """Ademco: C for a zone (contact), U for a user."""
    address: str = ""
    """Zone or user."""
    content: str = ""
    """What no column is named for."""


class ColumnError(ValueError):
    """A value does not fit its column."""

    def __init__(self, kind: str, column: str, value: str, width: int) -> None:
        """kind: of line. column: its name."""
        super().__init__(f"{kind}: its {column} has {width} sign{'s' * (width > 1)}, and {value!r} does not fit")
        self.column = column


class Layout(msgspec.Struct, frozen=True):
    """One kind of line."""

    kind: str
    columns: Any
    size: int
    """In bytes: a line of another length is refused without a look at its columns."""

    def read(self, line: bytes) -> Frame | None:
        """Return the columns of a whole line, without what ends it; None where it has another layout. Never raises."""
        if len(line) != self.size:
            return None
        try:
            values = self.columns.parse(line)
        except ConstructError:
            return None
        return Frame(kind=self.kind, **{name: value for name, value in values.items() if isinstance(value, str)})

    def parts(self, line: bytes, at: int = 0) -> tuple[Part, ...]:
        """Return what each byte of a line of this layout is. at: where the line begins."""
        found = []
        for each in self.columns.subcons:
            data, line = line[: each.sizeof()], line[each.sizeof() :]
            name = each.name or "fixed"
            found.append(Part(name, at, data, _SAYS.get(name, {}).get(data.decode("latin-1"), "")))
            at += len(data)
        return tuple(found)

    def build(self, frame: Frame) -> bytes:
        """Return the line. Raises ColumnError where a column is too long, or holds what it may not."""
        return b"".join([self._build(each, getattr(frame, each.name) if each.name else None) for each in self.columns.subcons])

    def _build(self, each: Any, value: str | None) -> bytes:  # noqa: ANN401 - construct has no types
        try:
            return bytes(each.build(value))
        except (ConstructError, UnicodeEncodeError) as error:
            raise ColumnError(self.kind, each.name, value or "", each.sizeof()) from error


def first(layouts: Iterable[Layout], line: bytes) -> Frame | None:
    """Return the columns of a line by the first layout that fits; None where none does."""
    return next((frame for each in layouts if (frame := each.read(line))), None)


def parts(layouts: Iterable[Layout], line: bytes) -> tuple[Part, ...]:
    """Return what each byte of a line is by the first layout that fits; none where none does."""
    return next((each.parts(line) for each in layouts if each.read(line)), ())


def layout(kind: str, *columns: Any) -> Layout:  # noqa: ANN401 - construct has no types
    """Declare a layout by its columns, from left to right."""
    found = Struct(*columns)
    return Layout(kind, found, found.sizeof())


@cache
def column(width: int, allowed: str = PRINTABLE) -> Any:  # noqa: ANN401 - construct has no types
    """Return a column of so many characters, each one of `allowed`."""
    legal = frozenset(allowed)
    return ExprValidator(_text(width), lambda value, _: legal.issuperset(value))


@cache
def matching(width: int, pattern: re.Pattern[str]) -> Any:  # noqa: ANN401 - construct has no types
    """Return a column of so many bytes, as latin-1, that a pattern matches."""
    return ExprValidator(_text(width), lambda value, _: pattern.fullmatch(value) is not None)


def _text(width: int) -> Any:  # noqa: ANN401 - construct has no types
    return ExprAdapter(Bytes(width), lambda raw, _: raw.decode("latin-1"), lambda value, _: value.encode("latin-1"))


@cache
def filled(width: int, allowed: str = HEXA) -> Any:  # noqa: ANN401 - construct has no types
    """Return a column whose value stands at its right end, blanks before it."""
    legal = frozenset(allowed)
    text = ExprAdapter(
        Bytes(width), lambda raw, _: raw.decode("latin-1").lstrip(" "), lambda value, _: f"{value:>{width}}".encode("latin-1")
    )
    return ExprValidator(text, lambda value, _: legal.issuperset(value) and value.strip() != "")


@cache
def word(*allowed: str) -> Any:  # noqa: ANN401 - construct has no types
    """Return a column that holds one of these words, all of one length."""
    return ExprValidator(column(len(allowed[0])), lambda value, _: value in allowed)


def hexa(width: int) -> Any:  # noqa: ANN401 - construct has no types
    """Return a column of hexadecimal digits."""
    return column(width, HEXA)


def digits(width: int) -> Any:  # noqa: ANN401 - construct has no types
    """Return a column of decimal digits."""
    return column(width, string.digits)
