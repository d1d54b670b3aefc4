"""Contact ID content: the vectors, the inverse, and any text at all."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import codes, contact_id
from protocols.event import Category, Event, Format, Qualifier


class Vector(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    source: str
    content: str
    expect: list[dict[str, str]]


FILE = Path(__file__).parents[2] / "fixtures" / "contact_id" / "vectors.jsonl"
VECTORS = msgspec.json.Decoder(Vector).decode_lines(FILE.read_bytes())
DIGITS = "0123456789BCDEF"


def parse(content: str) -> tuple[Event, ...]:
    return contact_id.parse(content, account="0042", receiver="F3", line="77")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_vector_is_read_as_its_source_says(vector: Vector) -> None:
    envelope = {"account": "0042", "receiver": "F3", "line": "77"}
    assert [msgspec.to_builtins(event) for event in parse(vector.content)] == [envelope | event for event in vector.expect]


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
