"""The tables are whole, and the same alarm lands in the same category whichever format brings it."""

import pytest

from protocols import codes
from protocols.event import LIFE_SAFETY, Category, Event, Format, Qualifier

TABLES = [("contact_id", codes._CONTACT_ID), ("sia", codes._SIA)]


def report(form: Format, code: str, qualifier: Qualifier = Qualifier.NEW, text: str | None = None) -> Event:
    return Event(account="1", format=form, code=code, qualifier=qualifier, category=Category.UNKNOWN, text=text)


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_every_code_has_a_category_and_a_label_a_person_can_read(name: str, table: dict[str, codes.Code]) -> None:
    assert len(table) == 326
    for code, known in table.items():
        assert known.category is not Category.GENERATED, (name, code)
        for label in filter(None, (known.label, known.restore_label)):
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
            assert known.restore is known.restore_label is None
        else:
            assert len(code) == 3
            assert code.isdecimal()
            assert known.qualifier is Qualifier.NEW, "Contact ID sends its own"


@pytest.mark.parametrize(
    ("contact_id", "sia", "category"),
    [
        ("100", "MA", Category.MEDICAL),
        ("101", "QA", Category.MEDICAL),
        ("110", "FA", Category.FIRE),
        ("113", "SA", Category.FIRE),
        ("114", "KA", Category.FIRE),
        ("120", "PA", Category.PANIC),
        ("122", "HA", Category.HOLD_UP),
        ("130", "BA", Category.BURGLARY),
        ("137", "TA", Category.TAMPER),
        ("139", "BV", Category.CONFIRMED),
        ("140", "UA", Category.BURGLARY),
        ("145", "ES", Category.TAMPER),
        ("151", "GA", Category.GAS),
        ("154", "WA", Category.WATER),
        ("159", "ZA", Category.TEMPERATURE),
        ("200", "FS", Category.TECHNICAL),
        ("301", "AT", Category.POWER),
        ("302", "YT", Category.POWER),
        ("306", "YG", Category.SERVICE),
        ("312", "YI", Category.POWER),
        ("321", "YA", Category.FAULT),
        ("344", "XQ", Category.TAMPER),
        ("350", "YC", Category.PATH),
        ("351", "LT", Category.PATH),
        ("373", "FT", Category.FAULT),
        ("374", "EA", Category.EXIT_ERROR),
        ("376", "HT", Category.FAULT),
        ("377", "BD", Category.FAULT),
        ("384", "XT", Category.POWER),
        ("401", "OP", Category.OPENING),
        ("406", "BC", Category.CANCEL),
        ("406", "OC", Category.CANCEL),
        ("412", "RS", Category.REMOTE),
        ("421", "DD", Category.ACCESS),
        ("423", "DF", Category.BURGLARY),
        ("454", "CI", Category.STATUS),
        ("457", "EE", Category.EXIT_ERROR),
        ("459", "CR", Category.CLOSING),
        ("461", "JA", Category.TAMPER),
        ("571", "FB", Category.BYPASS),
        ("573", "BB", Category.BYPASS),
        ("601", "RX", Category.TEST),
        ("602", "RP", Category.TEST),
        ("606", "LF", Category.VIDEO),
        ("616", "YX", Category.SERVICE),
        ("627", "LB", Category.SERVICE),
        ("641", "NA", Category.LONE_WORKER),
    ],
)
def test_the_same_report_lands_in_the_same_category_by_both_formats(contact_id: str, sia: str, category: Category) -> None:
    by_digits, by_letters = codes.contact_id(contact_id), codes.sia(sia)
    assert by_digits is not None
    assert by_letters is not None
    assert by_digits.category is by_letters.category is category


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
        if any(word in known.label.lower() for word in ("trouble", "bypass", " test", "supervisory", "silenced", "reset")):
            assert known.category not in LIFE_SAFETY, (name, code)


def test_only_what_opened_or_closed_is_an_opening_or_a_closing() -> None:
    """A site that failed to close must never be taken for closed."""
    for table in (codes._CONTACT_ID, codes._SIA):
        for code, known in table.items():
            if any(word in known.label.lower() for word in ("failed", "late to", "due", "postponed", "extended")):
                assert known.category not in {Category.OPENING, Category.CLOSING}, code


def test_a_contact_id_closing_is_the_restore_of_an_opening() -> None:
    for code, known in codes._CONTACT_ID.items():
        if known.category is Category.OPENING:
            assert code.startswith("4")
            assert known.restore is Category.CLOSING
            assert known.restore_label
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


def test_an_unknown_code_is_none() -> None:
    assert codes.contact_id("998") is codes.sia("QZ") is None
