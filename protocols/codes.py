"""
What each event code means: category, labels in English and French, whether its number is a zone or a user. Data, not Python.

    contact_id.toml, sia.toml -> Table -> Code -> label
    words.toml                -> the names of categories and addresses

Each table maps its own code space to `Category`; nothing converts one code space into the other.
"""

import tomllib
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

import msgspec

from protocols.event import Category, Event, Format, Qualifier

Language = Literal["en", "fr"]
Address = Literal["zone", "user", "area", "door", "device", "none"]

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

T = TypeVar("T")


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same thing said in each language."""

    en: str
    fr: str

    def say(self, language: str = "en") -> str:
        """Say it in a language; in English where it is none of ours."""
        return self.fr if language == "fr" else self.en


class Code(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a table."""

    category: Category
    """Contact ID: for qualifiers 1 and 6."""
    label: Label
    """For the operator."""
    address: Address
    """What the number that comes with the code names; `none` = the sources define nothing."""
    qualifier: Qualifier = Qualifier.NEW
    """SIA: what the code says by itself. Contact ID sends its own."""
    restore: Category | None = None
    """Contact ID: the category for qualifier 3, where it is another (401 is an opening, restored it is a closing)."""
    restored: Label | None = None
    """Contact ID: for the operator, with qualifier 3."""
    restores: tuple[str, ...] = ()
    """The codes of this table that this one ends: BH ends BA; BR ends whatever was wrong with the zone."""
    confidence: Literal["high", "medium", "low"] = "high"
    """How well the sources support the line."""
    sources: str = ""
    """Who has the code: letters of `Table.sources`."""
    note: str = ""
    """Where sources disagree, or what else the number may name."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One code space."""

    sources: dict[str, str]
    """Letter to name."""
    codes: dict[str, Code]
    families: dict[str, Code] = {}
    """By first digits: what is known of a code that no line knows."""


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    category: dict[Category, Label]
    address: dict[Address, Label]
    qualifier: dict[Qualifier, Label]


def _load(name: str, of: type[T]) -> T:
    """Read a file beside this one. Raises where a line is wrong: a table with a hole must not start."""
    text: dict[str, Any] = tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return msgspec.convert(text, of, strict=True)


_WORDS: Final = _load("words.toml", _Words)
TABLES: Final = {Format.CONTACT_ID: _load("contact_id.toml", Table), Format.SIA: _load("sia.toml", Table)}
_CONTACT_ID: Final = TABLES[Format.CONTACT_ID].codes
_FAMILIES: Final = TABLES[Format.CONTACT_ID].families
_SIA: Final = TABLES[Format.SIA].codes


def contact_id(code: str) -> Code | None:
    """Say what three Contact ID digits mean; None where the table does not know them."""
    return _CONTACT_ID.get(code)


def contact_id_family(code: str) -> Code | None:
    """Say what is known of three digits that no line of the table knows, by the first ones; None where it is nothing."""
    return _FAMILIES.get(code[:2]) or _FAMILIES.get(code[:1])


def sia(code: str) -> Code | None:
    """Say what two SIA letters mean; None where the table does not know them."""
    return _SIA.get(code)


def restores(event: Event) -> tuple[str, ...]:
    """Return the codes, of the event's own space, that it ends: BR ends BA, BT ...; Contact ID 3130 ends 130. Empty: none."""
    if event.format is Format.CONTACT_ID and event.qualifier is Qualifier.RESTORE:
        return (event.code,)
    known = TABLES[event.format].codes.get(event.code) if event.format in TABLES else None
    return known.restores if known else ()


def category_label(category: Category, language: str = "en") -> str:
    """Name a category for a person."""
    return _WORDS.category[category].say(language)


def address_label(address: Address, language: str = "en") -> str:
    """Name for a person what a code's number names."""
    return _WORDS.address[address].say(language)


def label(event: Event, language: str = "en") -> str:
    """Say for the operator what `event` means, in English where the language is none of ours. Never empty."""
    text = _label(event, language)
    return f"{text}, {_DELAYED.say(language)}" if event.old else text


def _label(event: Event, language: str) -> str:
    match event.format:
        case Format.CONTACT_ID:
            return _contact_id_label(event, language)
        case Format.SIA:
            known = _SIA.get(event.code)
            return known.label.say(language) if known else f"{_UNKNOWN_SIA.say(language)} {event.code}"
        case Format.RAW:
            return _UNREADABLE.say(language)
        case Format.ARCGATE:
            return event.text or _OURS.say(language)


def _contact_id_label(event: Event, language: str) -> str:
    known = _CONTACT_ID.get(event.code)
    if known and known.restored and event.qualifier is Qualifier.RESTORE:
        return known.restored.say(language)
    text = known.label.say(language) if known else f"{_UNKNOWN_CONTACT_ID.say(language)} {event.code}"
    if known is None and (family := contact_id_family(event.code)):
        text += f", {family.label.say(language)}"
    if event.qualifier is Qualifier.NEW:
        return text
    happened = _RESTORED if event.qualifier is Qualifier.RESTORE else _WORDS.qualifier[Qualifier.STATUS]
    return f"{text}{_COLON.say(language)}{happened.say(language)}"


_COLON: Final = Label(": ", " : ")
_RESTORED: Final = Label("restored", "fin")
_DELAYED: Final = Label("sent late", "transmission différée")
_UNKNOWN_CONTACT_ID: Final = Label("Unknown Contact ID code", "Code Contact ID inconnu")
_UNKNOWN_SIA: Final = Label("Unknown SIA code", "Code SIA inconnu")
_UNREADABLE: Final = Label("Unreadable content", "Contenu illisible")
_OURS: Final = Label("Message of the gateway", "Message de la passerelle")
