"""
What each event code means: category, English label, and whether its number is a zone or a user. Data, not Python.

    contact_id.toml, sia.toml -> Code

Each table maps its own code space to `Category`; nothing converts one code space into the other.
"""

import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from protocols.event import Category, Event, Format, Qualifier


class Code(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a table."""

    category: Category
    """Contact ID: for qualifiers 1 and 6."""
    label: str
    """English, for the operator."""
    address: Literal["zone", "user", "area", "door", "device", "none"]
    """What the number that comes with the code names; `none` = the sources define nothing."""
    qualifier: Qualifier = Qualifier.NEW
    """SIA: what the code says by itself. Contact ID sends its own."""
    restore: Category | None = None
    """Contact ID: the category for qualifier 3, where it is another (401 is an opening, restored it is a closing)."""
    restore_label: str | None = None
    """Contact ID: English for qualifier 3, where "label: restored" would not say it."""
    confidence: Literal["high", "medium", "low"] = "high"
    """How well the sources support the line."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    codes: dict[str, Code]


def _load(name: str) -> dict[str, Code]:
    """Read one of the two files beside this one. Raises where a line is wrong: a table with a hole must not start."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _Table, strict=True).codes


_CONTACT_ID = _load("contact_id.toml")
_SIA = _load("sia.toml")


def contact_id(code: str) -> Code | None:
    """Say what three Contact ID digits mean; None where the table does not know them."""
    return _CONTACT_ID.get(code)


def sia(code: str) -> Code | None:
    """Say what two SIA letters mean; None where the table does not know them."""
    return _SIA.get(code)


def label(event: Event) -> str:
    """Say in English, for the operator, what `event` means. Never empty."""
    match event.format:
        case Format.CONTACT_ID:
            return _contact_id_label(event)
        case Format.SIA:
            known = _SIA.get(event.code)
            return known.label if known else f"Unknown SIA code {event.code}"
        case Format.RAW:
            return "Unreadable content"
        case Format.ARCGATE:
            return event.text or "Message of the gateway"


def _contact_id_label(event: Event) -> str:
    known = _CONTACT_ID.get(event.code)
    text = known.label if known else f"Unknown Contact ID code {event.code}"
    match event.qualifier:
        case Qualifier.NEW:
            return text
        case Qualifier.RESTORE:
            return known.restore_label if known and known.restore_label else f"{text}: restored"
        case Qualifier.STATUS:
            return f"{text}: still present"
