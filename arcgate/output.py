"""How a verb tells what it found: one JSON object a line for programs, text laid out for people, on stderr what went wrong."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import msgspec
import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]

UNWRAPPED_COLUMNS: Final = 250
"""The width of a page that is no terminal: a line that `grep` finds is whole."""


def print_json(told: object) -> None:
    """Print one object on one line, at once: whoever reads a pipe need not wait for the next."""
    print(msgspec.json.encode(told, enc_hook=str).decode(), flush=True)


def fail(message: str, *, reason: str = "", json: bool = False) -> NoReturn:
    """Say on stderr why it did not work, and exit with 1. reason: the machine's word for it, which JSON has too."""
    print(message, file=sys.stderr)
    if json:
        print_json({"error": {"reason": reason, "message": message}})
    raise typer.Exit(1)


def for_people(told: dict[str, Any]) -> dict[str, Any]:
    """Return it with `-` for what is not there."""
    return {name: "-" if value is None else value for name, value in told.items()}


def utc(at_ms: float | None) -> datetime | None:
    """Return the moment that lies so many ms after 1970; in JSON it is ISO 8601 with a Z."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def clock(at: datetime | None) -> str:
    """Write a moment for a person: UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else ""


def console() -> "Console":
    """Return a page for stdout that takes every text as it is: brackets in a frame are no markup."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else UNWRAPPED_COLUMNS)


def table(*columns: str, folded: tuple[str, ...] = ()) -> "Table":
    """Return an empty table: `folded` columns give way where the page is narrow, the others are whole. No names: no header."""
    from rich.table import Table

    empty = Table(box=None, padding=(0, 2, 0, 0), show_header=any(columns), header_style="bold", pad_edge=False)
    for column in columns:
        empty.add_column(column, no_wrap=column not in folded, overflow="fold")
    return empty


def printable(value: object) -> str:
    """Return a value as text that moves no cursor and changes no colour, whatever a panel sent; None is empty."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
