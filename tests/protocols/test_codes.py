"""The tables are whole, and the same alarm lands in the same category whichever format brings it."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from protocols import codes, contact_id, sia
from protocols.event import LIFE_SAFETY, Category, Event, Format, Qualifier

TABLES = [("contact_id", codes._CONTACT_ID), ("sia", codes._SIA)]
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same report in both formats."""

    contact_id: str
    sia: str
    qualifier: Qualifier
    category: Category


FILE = Path(__file__).parents[2] / "fixtures" / "codes" / "pairs.jsonl"
PAIRS = msgspec.json.Decoder(Pair).decode_lines(FILE.read_bytes())


def report(form: Format, code: str, qualifier: Qualifier = Qualifier.NEW, text: str | None = None) -> Event:
    return Event(account="1", format=form, code=code, qualifier=qualifier, category=Category.UNKNOWN, text=text)


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_every_code_has_a_category_and_a_label_a_person_can_read(name: str, table: dict[str, codes.Code]) -> None:
    assert len(table) == {"contact_id": 326, "sia": 331}[name]
    for code, known in table.items():
        assert known.category is not Category.GENERATED, (name, code)
        for label in (text for said in filter(None, (known.label, known.restored)) for text in (said.en, said.fr)):
            assert label[0].isupper() or label[0].isdecimal(), (name, code)
            assert label == label.strip(), (name, code)
            assert not any(noise in label for noise in ("(", "O/C", "#", "  ", "/ ")), (name, code)


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_codes_stand_in_order_and_have_the_shape_of_their_format(name: str, table: dict[str, codes.Code]) -> None:
    assert list(table) == sorted(table)
    for code, known in table.items():
        if name == "sia":
            assert len(code) == 2
            assert code.isupper()
            assert (known.restore, known.restored) == (None, None)
        else:
            assert len(code) == 3
            assert code.isdecimal()
            assert known.qualifier is Qualifier.NEW, "Contact ID sends its own"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.contact_id[:4]}-{pair.sia[6:8]}")
def test_the_same_report_lands_in_the_same_category_by_both_formats(pair: Pair) -> None:
    """And in each it keeps its own code: no code becomes one of the other space."""
    (by_digits,) = contact_id.parse(pair.contact_id, "1", None, None)
    (by_letters,) = sia.parse(pair.sia, NOON, "1", None, None)
    assert by_digits.category is by_letters.category is pair.category
    assert (by_digits.code, by_letters.code) == (pair.contact_id[1:4], pair.sia[6:8])
    assert by_digits.qualifier is pair.qualifier
    assert by_letters.qualifier is (Qualifier.NEW if pair.category is Category.CLOSING else pair.qualifier)


def test_duress_has_a_category_of_its_own() -> None:
    """SIA has no code for it: panels send HA, a hold-up."""
    duress = codes.contact_id("121")
    assert duress is not None
    assert (duress.category, duress.address) == (Category.DURESS, "user")


@pytest.mark.parametrize("alarm", "BFGHKMPQSUWZ")
def test_an_alarm_and_its_restores_keep_one_category_and_its_faults_are_none(alarm: str) -> None:
    table = codes._SIA
    category = table[f"{alarm}A"].category
    assert table[f"{alarm}A"].qualifier is Qualifier.NEW
    for restore in "HR":
        assert (table[alarm + restore].category, table[alarm + restore].qualifier) == (category, Qualifier.RESTORE)
    assert (table[f"{alarm}T"].category, table[f"{alarm}T"].qualifier) == (Category.FAULT, Qualifier.NEW)
    assert (table[f"{alarm}J"].category, table[f"{alarm}J"].qualifier) == (Category.FAULT, Qualifier.RESTORE)
    assert (table[f"{alarm}B"].category, table[f"{alarm}B"].qualifier) == (Category.BYPASS, Qualifier.NEW)
    assert (table[f"{alarm}U"].category, table[f"{alarm}U"].qualifier) == (Category.BYPASS, Qualifier.RESTORE)


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_troubles_bypasses_and_tests_are_not_life_safety(name: str, table: dict[str, codes.Code]) -> None:
    for code, known in table.items():
        if any(word in known.label.en.lower() for word in ("trouble", "bypass", " test", "supervisory", "silenced", "reset")):
            assert known.category not in LIFE_SAFETY, (name, code)


def test_only_what_opened_or_closed_is_an_opening_or_a_closing() -> None:
    """A site that failed to close must never be taken for closed."""
    for table in (codes._CONTACT_ID, codes._SIA):
        for code, known in table.items():
            if any(word in known.label.en.lower() for word in ("failed", "late to", "due", "postponed", "extended")):
                assert known.category not in {Category.OPENING, Category.CLOSING}, code


def test_a_contact_id_closing_is_the_restore_of_an_opening() -> None:
    for code, known in codes._CONTACT_ID.items():
        if known.category is Category.OPENING:
            assert code.startswith("4")
            assert known.restore is Category.CLOSING
            assert known.restored
        else:
            assert known.restore is None


@pytest.mark.parametrize(
    ("event", "label"),
    [
        (report(Format.CONTACT_ID, "130"), "Burglary"),
        (report(Format.CONTACT_ID, "130", Qualifier.RESTORE), "Burglary: restored"),
        (report(Format.CONTACT_ID, "130", Qualifier.STATUS), "Burglary: still present"),
        (report(Format.CONTACT_ID, "401"), "Opening"),
        (report(Format.CONTACT_ID, "401", Qualifier.RESTORE), "Closing"),
        (report(Format.CONTACT_ID, "119"), "Unknown Contact ID code 119, fire alarm"),
        (report(Format.CONTACT_ID, "998"), "Unknown Contact ID code 998"),
        (report(Format.CONTACT_ID, "998", Qualifier.RESTORE), "Unknown Contact ID code 998: restored"),
        (report(Format.SIA, "BA"), "Burglary alarm"),
        (report(Format.SIA, "QZ"), "Unknown SIA code QZ"),
        (report(Format.RAW, "", text="Xfoo"), "Unreadable content"),
        (report(Format.ARCGATE, "", text="Reports are being refused"), "Reports are being refused"),
        (report(Format.ARCGATE, ""), "Message of the gateway"),
    ],
)
def test_an_event_has_a_label(event: Event, label: str) -> None:
    assert codes.label(event) == label


@pytest.mark.parametrize(
    ("event", "label"),
    [
        (report(Format.CONTACT_ID, "130"), "Alarme intrusion"),
        (report(Format.CONTACT_ID, "130", Qualifier.RESTORE), "Fin d'alarme intrusion"),
        (report(Format.CONTACT_ID, "130", Qualifier.STATUS), "Alarme intrusion : toujours présent"),
        (report(Format.CONTACT_ID, "301"), "Défaut secteur"),
        (report(Format.CONTACT_ID, "301", Qualifier.RESTORE), "Retour secteur"),
        (report(Format.CONTACT_ID, "401"), "Mise hors service par utilisateur"),
        (report(Format.CONTACT_ID, "401", Qualifier.RESTORE), "Mise en service par utilisateur"),
        (report(Format.CONTACT_ID, "349"), "Code Contact ID inconnu 349, défaut"),
        (report(Format.CONTACT_ID, "998", Qualifier.RESTORE), "Code Contact ID inconnu 998 : fin"),
        (report(Format.SIA, "TA"), "Alarme autoprotection"),
        (report(Format.SIA, "AR"), "Retour secteur"),
        (report(Format.SIA, "QZ"), "Code SIA inconnu QZ"),
        (msgspec.structs.replace(report(Format.SIA, "BA"), old=True), "Alarme intrusion, transmission différée"),
        (report(Format.RAW, "", text="Xfoo"), "Contenu illisible"),
        (report(Format.ARCGATE, ""), "Message de la passerelle"),
    ],
)
def test_an_event_has_a_label_in_french(event: Event, label: str) -> None:
    assert codes.label(event, "fr") == label


def test_a_language_that_nobody_here_speaks_gets_english() -> None:
    assert codes.label(report(Format.SIA, "BA"), "de") == codes.label(report(Format.SIA, "BA"))


FRENCH = {
    Category.TAMPER: ("autoprotection", "sabotage", "perte", "brouillage", "code erroné", "boucle"),
    Category.OPENING: ("mise hors service",),
    Category.CLOSING: ("mise en service", "mis en service", "remise en service"),
    Category.BYPASS: ("inhibition", "éjection", "mis en service de force"),
    Category.HOLD_UP: ("hold-up", "agression silencieuse"),
    Category.PANIC: ("agression",),
    Category.DURESS: ("contrainte",),
    Category.LONE_WORKER: ("isolé", "activité"),
    Category.POWER: ("secteur", "batterie", "pile", "alimentation", "arrêt du système", "mise sous tension"),
}
"""The words of the profession, one of which each label of the category must have."""


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_french_labels_speak_the_words_of_the_profession(name: str, table: dict[str, codes.Code]) -> None:
    for code, known in table.items():
        words = FRENCH.get(known.category, ("",))
        assert any(word in known.label.fr.lower() for word in words), (name, code, known.label.fr)


RESTORE_WORDS = re.compile(r"\b(Fin|Retour|retour|refermée|de nouveau|effectuée|entretenu)\b")


def test_a_restore_says_so_in_french() -> None:
    for code, known in codes._SIA.items():
        if known.qualifier is Qualifier.RESTORE:
            assert RESTORE_WORDS.search(known.label.fr), (code, known.label.fr)
    for code, known in codes._CONTACT_ID.items():
        assert known.restored, code
        assert known.restored.fr != known.label.fr, code
        assert known.restored.en != known.label.en, code


def test_a_restore_names_what_it_restores() -> None:
    """Each a code of the table that is no restore itself, of the same category unless it ends whatever was wrong with a zone."""
    for code, known in codes._SIA.items():
        for ended in known.restores:
            assert codes._SIA[ended].qualifier is Qualifier.NEW, (code, ended)
        if known.qualifier is Qualifier.RESTORE and code != "XC":  # XC: one maker's own, who does not say of what
            assert known.restores, code
            assert known.category in {codes._SIA[ended].category for ended in known.restores}, code


@pytest.mark.parametrize(
    ("event", "ended"),
    [
        (report(Format.SIA, "BH", Qualifier.RESTORE), {"BA", "BM", "BV", "EA"}),
        (report(Format.SIA, "BR", Qualifier.RESTORE), {"BA", "BM", "BV", "EA", "BT", "BS"}),
        (report(Format.SIA, "BJ", Qualifier.RESTORE), {"BT"}),
        (report(Format.SIA, "YK", Qualifier.RESTORE), {"YC", "YS"}),
        (report(Format.SIA, "TE"), {"TS"}),
        (report(Format.SIA, "BA"), set()),
        (report(Format.SIA, "QZ"), set()),
        (report(Format.CONTACT_ID, "130", Qualifier.RESTORE), {"130"}),
        (report(Format.CONTACT_ID, "130"), set()),
        (report(Format.CONTACT_ID, "628"), {"627"}),
        (report(Format.RAW, ""), set()),
    ],
)
def test_an_event_ends_others_of_its_own_code_space(event: Event, ended: set[str]) -> None:
    assert set(codes.restores(event)) == ended


def test_a_family_never_arms_bypasses_or_mutes() -> None:
    allowed = {Category.TECHNICAL, Category.BURGLARY, Category.FAULT, Category.PATH, Category.UNKNOWN} | LIFE_SAFETY
    for digits, family in codes._FAMILIES.items():
        assert family.category in allowed, digits
        assert family.restore is None, digits
    assert codes.contact_id_family("B19") is codes.contact_id_family("998") is None
    assert codes.contact_id_family("12B") is codes.contact_id_family("128"), "a key of the telephone is a digit too"


def test_every_source_of_a_row_has_a_name() -> None:
    for table in codes.TABLES.values():
        for code, known in table.codes.items():
            assert known.sources, code
            assert set(known.sources) <= set(table.sources), code


def test_each_category_and_address_has_a_name_in_both_languages() -> None:
    for language in codes.LANGUAGES:
        names = [codes.category_label(category, language) for category in Category]
        assert len(set(names)) == len(names)
        assert all(codes.address_label(address, language) for address in get_args(codes.Address))


def test_an_unknown_code_is_none() -> None:
    assert codes.contact_id("998") is codes.sia("QZ") is None
