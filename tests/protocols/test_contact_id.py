"""Contact ID content: the vectors, the inverse, and any text at all."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocols import codes, contact_id
from protocols.event import Category, Event, Format, Qualifier


class Vector(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    source: str
    content: str
    expect: list[dict[str, str]]
    account: str = "0042"
    """What the link knows; empty where the digits are all there is."""


FILE = Path(__file__).parents[2] / "fixtures" / "contact_id" / "vectors.jsonl"
VECTORS = msgspec.json.Decoder(Vector).decode_lines(FILE.read_bytes())
DIGITS = "0123456789BCDEF"


def parse(content: str, account: str = "0042") -> tuple[Event, ...]:
    return contact_id.parse(content, account=account, receiver="F3", line="77")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_vector_is_read_as_its_source_says(vector: Vector) -> None:
    envelope = {"account": "0042", "receiver": "F3", "line": "77"}
    assert [msgspec.to_builtins(event) for event in parse(vector.content, vector.account)] == [
        envelope | event for event in vector.expect
    ]


def test_what_the_link_knows_goes_into_the_event() -> None:
    occurred_at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    (event,) = contact_id.parse(
        "1130 01 005", account="0042", receiver=None, line="0", occurred_at=occurred_at, extended=(("M", "1234567890AB"),)
    )
    assert event == Event(
        account="0042",
        format=Format.CONTACT_ID,
        code="130",
        qualifier=Qualifier.NEW,
        category=Category.BURGLARY,
        line="0",
        partition="01",
        zone="005",
        occurred_at=occurred_at,
        extended=(("M", "1234567890AB"),),
    )


@pytest.mark.parametrize("code", sorted(codes._CONTACT_ID))
def test_each_code_of_the_table_names_a_zone_or_a_user(code: str) -> None:
    (event,) = parse(f"1{code} 01 007")
    known = codes.contact_id(code)
    assert known is not None
    assert event.category is known.category
    assert (event.user, event.zone) == (("007", None) if known.address == "user" else (None, "007"))


def test_what_is_short_or_absent_is_filled_with_zeros() -> None:
    event = Event(
        account="1", format=Format.CONTACT_ID, code="130", qualifier=Qualifier.NEW, category=Category.BURGLARY, zone="5"
    )
    assert contact_id.build(event) == "1130 00 005"


@given(
    st.sampled_from("136"),
    st.text(DIGITS, min_size=3, max_size=3),
    st.text(DIGITS, min_size=2, max_size=2),
    st.text(DIGITS, min_size=3, max_size=3),
)
def test_parse_and_build_are_inverse(qualifier: str, code: str, partition: str, address: str) -> None:
    content = f"{qualifier}{code} {partition} {address}"
    (event,) = parse(content)
    assert contact_id.build(event) == content
    assert parse(content.replace(" ", "")) == parse(f"  {content} ") == (event,)


@given(st.text() | st.text("136 0BFA|", max_size=16))
def test_any_text_is_one_event_or_none(content: str) -> None:
    events = parse(content)
    assert len(events) <= 1
    assert all(codes.label(event) for event in events)


@pytest.mark.parametrize("content", [" " * 100_000, "1" + " " * 100_000, "1130" + " " * 100_000 + "01 005x"])
def test_long_content_costs_no_more_than_its_length(content: str) -> None:
    """A pattern that tries again at each blank would not come back before the timeout."""
    assert parse(content) == ()


REPORTS = st.tuples(st.sampled_from("136"), st.text(DIGITS, min_size=8, max_size=8)).map("".join)
DIALLED = st.tuples(st.text(DIGITS, min_size=4, max_size=4), st.sampled_from(["18", "98"]), REPORTS).map("".join)
LONG = st.tuples(st.text(DIGITS, min_size=10, max_size=10), st.just("58"), REPORTS).map("".join)


@given(DIALLED | LONG)
def test_dialled_digits_sum_up_to_a_multiple_of_fifteen(digits: str) -> None:
    """As DC-05 has it, counted here by hand: 0 is ten."""
    full = digits + contact_id.checksum(digits)
    assert sum(10 if digit == "0" else int(digit, 16) for digit in full) % 15 == 0
    assert contact_id.read(full) == contact_id.Dialled(digits[:-11], digits[-9:], checksum_ok=True)


@given(DIALLED | LONG, st.data())
def test_one_wrong_digit_is_not_believed(digits: str, data: st.DataObject) -> None:
    full = digits + contact_id.checksum(digits)
    place = data.draw(st.integers(0, len(full) - 1))
    other = data.draw(st.sampled_from(DIGITS).filter(lambda digit: digit != full[place]))
    assume({full[place], other} != {"1", "E"} or place != len(digits) - 9)  # as a qualifier they say the same
    wrong = full[:place] + other + full[place + 1 :]
    assert contact_id.parse(wrong, "", None, None) == ()


@given(st.tuples(st.text(DIGITS, min_size=4, max_size=4), st.just("18"), REPORTS).map("".join) | LONG)
def test_dialled_is_the_inverse(digits: str) -> None:
    (event,) = contact_id.parse(digits, "", None, None)
    assert contact_id.build_dialled(event) == digits + contact_id.checksum(digits)


def test_the_checksum_under_a_receivers_letter_is_that_of_the_digit() -> None:
    read = contact_id.read("1234 18 R131 01 015 6")
    assert read == contact_id.Dialled("1234", "R13101015", checksum_ok=True)


@pytest.mark.parametrize(
    ("tones", "digits"),
    [
        ("12*418113001005#", "12B418113001005C"),
        ("1234181131010158", "1234181131010158"),
        ("12*#ABC", "12BCDEF"),
        ("12D4", "12?4"),
        ("123418113101016D", "1234181131010160"),
        ("", ""),
    ],
)
def test_tones_are_digits(tones: str, digits: str) -> None:
    assert contact_id.from_tones(tones) == digits


@pytest.mark.parametrize(("address", "zone", "user"), [("zone", "005", None), ("user", None, "005"), (None, "005", None)])
def test_the_links_word_on_zone_or_user_goes_before_the_tables(
    address: Literal["zone", "user"] | None, zone: str | None, user: str | None
) -> None:
    """Ademco 685 prints C or U before the number."""
    (event,) = contact_id.parse("1130 01 005", "1", None, None, address=address)
    assert (event.zone, event.user) == (zone, user)
