"""`arcgate codes`: both tables, both languages, by code and by word."""

import msgspec
import pytest
from typer.testing import CliRunner, Result

from arcgate.__main__ import app


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["codes", *words])


def found(*words: str) -> list[str]:
    """What the JSON names, as `contact_id 130`."""
    result = run(*words, "--json")
    assert result.exit_code == 0
    return [f"{told['format']} {told['code']}" for told in map(msgspec.json.decode, result.stdout.splitlines())]


def test_all_that_is_known_of_a_code() -> None:
    (told,) = (msgspec.json.decode(line) for line in run("401", "--json").stdout.splitlines())
    assert told == {
        "format": "contact_id",
        "code": "401",
        "category": "opening",
        "category_label": {"en": "opening", "fr": "mise hors service"},
        "address": "user",
        "qualifier": None,
        "label": {"en": "Opening", "fr": "Mise hors service par utilisateur"},
        "restored": {"en": "Closing", "fr": "Mise en service par utilisateur"},
        "restored_category": "closing",
        "restores": [],
        "restored_by": [],
        "confidence": "high",
        "sources": [
            "hubitat_envisalink",
            "homebridge-envisalink-ademco",
            "spandsp",
            "AlarmDecoder",
            "xtcontactid",
            "tinygo-contactid",
            "asterisk_contactid",
            "Trikdis G16 manual, annex",
            "NX-8E manual, table 13",
        ],
        "note": "",
    }


def test_what_ends_a_code_and_what_it_ends() -> None:
    (alarm,) = (msgspec.json.decode(line) for line in run("BA", "--json").stdout.splitlines())
    (restore,) = (msgspec.json.decode(line) for line in run("BH", "--json").stdout.splitlines())
    assert alarm["restored_by"] == ["BH", "BR"]
    assert restore["restores"] == ["BA", "BM", "BV", "EA"]
    assert (alarm["qualifier"], restore["qualifier"]) == ("new", "restore")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("130", ["contact_id 130"]),
        ("ba", ["sia BA"]),
        (" BA ", ["sia BA"]),
        ("R401", ["contact_id 401"]),
        ("1130", ["contact_id 130"]),
        ("62", [f"contact_id 62{digit}" for digit in range(1, 10)]),
        ("défaut secteur", ["contact_id 301", "contact_id 342", "contact_id 926", "sia AT"]),
        ("DEFAUT SECTEUR", ["contact_id 301", "contact_id 342", "contact_id 926", "sia AT"]),
        ("lone_worker", ["contact_id 641", "sia NA", "sia NS"]),
    ],
)
def test_a_code_is_found_by_itself_by_its_first_digits_or_by_a_word(word: str, expected: list[str]) -> None:
    assert found(word) == expected


def test_without_a_code_both_tables_are_whole() -> None:
    everything = found()
    assert len(everything) == len(set(everything)) == 657


def test_a_person_reads_both_languages() -> None:
    page = run("130").stdout
    assert "Burglary" in page
    assert "Fin d'alarme intrusion" in page
    every = run().stdout.splitlines()
    assert len(every) == 658
    assert any("Mains power lost / Mains power back" in line and "Défaut secteur / Retour secteur" in line for line in every)


def test_nothing_found_is_said() -> None:
    result = run("nothing at all")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "nothing at all" in result.stderr
