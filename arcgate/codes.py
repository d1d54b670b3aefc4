"""`arcgate codes`: what a code means, in both tables and both languages."""

import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from arcgate.output import AsJson, console, fail, print_json, table
from protocols import codes as tables
from protocols.event import Format


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(codes)


def codes(
    code: Annotated[
        str, typer.Argument(help="Three Contact ID digits, two SIA letters, the first of them, or a word of a label; else all.")
    ] = "",
    *,
    json: AsJson = False,
) -> None:
    """
    Say what a code means, as Contact ID and as SIA: category, what its number names, its labels in English and French.

    Exit code 1 where no code and no label has it. Case and accents do not matter.

    Example: `arcgate codes 130`, `arcgate codes BA`, `arcgate codes secteur`
    """
    found = list(_find(code))
    if not found:
        fail(f"no code and no label of the tables has {code!r}", reason="unknown_code", json=json)
    if json:
        for told in found:
            print_json(told)
    elif len(found) == 1:
        _print_one(found[0])
    else:
        _print_all(found)


def _find(wanted: str) -> Iterator[dict[str, Any]]:
    """Yield the codes of that name, a qualifier before it or not; else those that begin so, if it is digits; else by labels."""
    word = _plain(wanted.strip())
    rows = [(form, code, known) for form, known_codes in tables.TABLES.items() for code, known in known_codes.codes.items()]
    qualified = word[1:] if word[:1] in set("erp136") and word[1:].isdecimal() else ""
    exact = [row for row in rows if row[1].lower() in {word, qualified}]
    begun = [row for row in rows if word.isdecimal() and row[1].startswith(word)]
    for row in exact or begun or [row for row in rows if word in _words(row[2])]:
        yield _tell(*row)


def _words(known: tables.Code) -> str:
    labels = [known.label, *([known.restored] if known.restored else [])]
    said = [label.say(language) for label in labels for language in tables.LANGUAGES]
    said += [tables.category_label(known.category, language) for language in tables.LANGUAGES]
    return _plain("\n".join([*said, known.category]))


def _plain(text: str) -> str:
    """Write a text small and without accents: `éjection` is found by `ejection`."""
    return "".join(letter for letter in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(letter))


def _tell(form: Format, code: str, known: tables.Code) -> dict[str, Any]:
    """Return all that is known of one code, for JSON."""
    of = tables.TABLES[form]
    return {
        "format": form,
        "code": code,
        "category": known.category,
        "category_label": {language: tables.category_label(known.category, language) for language in tables.LANGUAGES},
        "address": known.address,
        "qualifier": known.qualifier if form is Format.SIA else None,
        "label": known.label,
        "restored": known.restored,
        "restored_category": (known.restore or known.category) if known.restored else None,
        "restores": known.restores,
        "restored_by": [other for other, row in of.codes.items() if code in row.restores],
        "confidence": known.confidence,
        "sources": [of.sources[letter] for letter in known.sources],
        "note": known.note,
    }


_SHOWN = {Format.CONTACT_ID: "Contact ID", Format.SIA: "SIA"}


def _print_one(told: dict[str, Any]) -> None:
    page = table("", "", folded=("",))
    page.add_row(_SHOWN[told["format"]], told["code"])
    for language in tables.LANGUAGES:
        page.add_row(f"  {language}", told["label"].say(language))
        if told["restored"]:
            page.add_row(f"  {language}, restored", told["restored"].say(language))
    after = "" if told["restored_category"] in {None, told["category"]} else f"; restored: {told['restored_category']}"
    rows = {
        "category": told["category"] + after,
        "number": told["address"],
        "qualifier": told["qualifier"],
        "restores": ", ".join(told["restores"]),
        "restored by": ", ".join(told["restored_by"]),
        "confidence": told["confidence"],
        "sources": "; ".join(told["sources"]),
        "note": told["note"],
    }
    for name, value in rows.items():
        if value:
            page.add_row(f"  {name}", value)
    console().print(page)


def _print_all(found: list[dict[str, Any]]) -> None:
    page = table("format", "code", "category", "number", "English", "French", folded=("English", "French"))
    for told in found:
        said = [f"{told['label'].say(language)}{_restored(told, language)}" for language in tables.LANGUAGES]
        page.add_row(_SHOWN[told["format"]], told["code"], told["category"], told["address"], *said)
    console().print(page)


def _restored(told: dict[str, Any], language: str) -> str:
    return f" / {told['restored'].say(language)}" if told["restored"] else ""
