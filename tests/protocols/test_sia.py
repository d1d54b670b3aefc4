"""SIA content: the vectors, the inverse, the plain way against the general one, and any text at all."""

from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import codes, sia
from protocols.event import Category, Event, Format, Qualifier


class Vector(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    source: str
    now: datetime
    content: str
    expect: list[dict[str, Any]]


FILE = Path(__file__).parents[2] / "fixtures" / "sia" / "vectors.jsonl"
VECTORS = msgspec.json.Decoder(Vector).decode_lines(FILE.read_bytes())
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

letters = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
code_pairs = st.sampled_from(sorted(codes._SIA)) | st.tuples(letters, letters).map("".join)
numbers = st.text("0123456789", min_size=1, max_size=6)
fragments = st.lists(
    st.sampled_from(
        [
            "N",
            "O",
            "A",
            "X",
            "|",
            "/",
            "^",
            " ",
            "*",
            "'",
            "ri1",
            "Ri01",
            "pi2",
            "id7",
            "da11-22-26",
            "ti10:00",
            "ti9",
            "da02-30-26",
            "lv3",
            "va",
            "qq7",
            "ba5",
        ]
    )
    | st.sampled_from(["BA001", "FA2", "OP3", "CG1", "QZ", "BAFF", "12BA", "text", "*'SITE'NM", "*25", "\t", "é"])
    | st.text(max_size=3),
    max_size=120,
).map("".join)


def parse(content: str, now: datetime = NOW) -> tuple[Event, ...]:
    return sia.parse(content, now, account="0042", receiver="F3", line="77")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_vector_is_read_as_its_source_says(vector: Vector) -> None:
    envelope = {"account": "0042", "receiver": "F3", "line": "77"}
    events = msgspec.json.decode(msgspec.json.encode(parse(vector.content, vector.now)))
    assert events == [envelope | event for event in vector.expect]


@pytest.mark.parametrize("content", ["Nri1/BA001", "Nda11-22-26/ti09:00/ri1/BA001^kitchen^"])
def test_what_the_link_knows_goes_into_the_event(content: str) -> None:
    """The time of the link's own field wins over that of the content."""
    at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    extended = (("M", "1234567890AB"), ("V", "a"), ("V", "b"))
    (event,) = sia.parse(content, NOW, account="0042", receiver=None, line="0", occurred_at=at, extended=extended)
    assert (event.account, event.receiver, event.line) == ("0042", None, "0")
    assert (event.occurred_at, event.extended) == (at, extended)


@given(st.none() | numbers, code_pairs, st.just("") | numbers, st.sampled_from(["", "/"]))
def test_the_plain_way_reads_what_the_general_way_reads(area: str | None, code: str, address: str, slash: str) -> None:
    """A slash at the end means nothing, and is not plain."""
    content = f"N{f'ri{area}{slash}' if area else ''}{code}{address}"
    assert sia._PLAIN.fullmatch(content)
    assert not sia._PLAIN.fullmatch(content + "/")
    assert parse(content) == parse(content + "/")


@given(
    code_pairs,
    st.none() | numbers,
    st.none() | numbers,
    st.none() | numbers,
    st.none() | st.text(st.characters(exclude_characters="^"), min_size=1).filter(lambda text: text == text.rstrip()),
)
def test_parse_and_build_are_inverse(
    code: str, partition: str | None, address: str | None, user: str | None, text: str | None
) -> None:
    known = codes.sia(code)
    is_user = known is not None and known.address == "user"
    if partition is None and known is not None and known.address == "area":
        partition, address = address, None
    event = Event(
        account="0042",
        format=Format.SIA,
        code=code,
        qualifier=known.qualifier if known else Qualifier.NEW,
        category=known.category if known else Category.UNKNOWN,
        receiver="F3",
        line="77",
        partition=partition,
        zone=None if is_user else address,
        user=address if is_user else user,
        text=text,
    )
    assert parse(sia.build(event)) == (event,)


def test_a_pretend_panel_sends_what_panels_send() -> None:
    (event,) = parse("Nri1/BA005")
    assert sia.build(event) == "Nri1/BA005"


@given(st.text() | fragments)
def test_any_text_is_a_bounded_number_of_events(content: str) -> None:
    """And never an exception; and there is a code in it, or nothing at all."""
    events = parse(content)
    assert len(events) <= sia.EVENTS_MAX
    assert all(event.format in {Format.SIA, Format.RAW} for event in events)
    assert not events or any(event.format is Format.SIA for event in events)
    assert all(codes.label(event) for event in events)
    msgspec.json.encode(events)


@given(fragments)
def test_an_event_is_read_whatever_stands_in_the_blocks_after_it(rest: str) -> None:
    """Noise may add events and text; it must never hide the one that is there."""
    first = parse(f"Nri1/FA001|{rest}")[0]
    assert (first.category, first.partition, first.zone) == (Category.FIRE, "1", "001")


def test_more_events_than_the_bound_end_in_a_raw_one_that_has_them_all() -> None:
    content = "N" + "/".join(["BA1"] * sia.EVENTS_MAX) + "/FA2"
    *events, last = parse(content)
    assert len(events) == sia.EVENTS_MAX - 1
    assert (last.format, last.category, last.text) == (Format.RAW, Category.UNKNOWN, content)
    assert len(parse("N" + "/".join(["BA1"] * sia.EVENTS_MAX))) == sia.EVENTS_MAX


@pytest.mark.parametrize("now", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_a_time_at_the_end_of_all_calendars_is_unknown(now: datetime) -> None:
    assert parse("Nti10:00/BA1", now)[0].occurred_at is None
    assert parse("Oti10:00/BA1", now)[0].occurred_at is None


def test_what_is_old_has_happened_before_now() -> None:
    now = datetime(2026, 11, 22, 19, 44, tzinfo=UTC)
    (late, soon) = (parse(f"{block}ti23:00/BA12", now)[0].occurred_at for block in "ON")
    assert late == datetime(2026, 11, 21, 23, tzinfo=UTC)
    assert soon == datetime(2026, 11, 22, 23, tzinfo=UTC), "a panel's clock may be ahead"


@pytest.mark.parametrize(
    ("name", "now", "content", "at"),
    [
        ("America/Nuuk", datetime(2027, 3, 28, 1, 10, tzinfo=UTC), "Oti23:30/BA1", datetime(2027, 3, 27, 1, 30, tzinfo=UTC)),
        ("Pacific/Apia", datetime(2011, 12, 30, 12, tzinfo=UTC), "Oti08:00/BA1", datetime(2011, 12, 29, 18, tzinfo=UTC)),
    ],
)
def test_a_late_event_s_time_that_the_clock_skipped_yesterday_is_of_the_day_before(
    name: str, now: datetime, content: str, at: datetime
) -> None:
    (event,) = sia.parse(content, now, "1234", None, None, time_zone=ZoneInfo(name))
    assert event.occurred_at == at


def test_a_time_is_read_by_the_clock_of_the_panel() -> None:
    paris = ZoneInfo("Europe/Paris")
    now = datetime(2026, 11, 22, 19, 20, tzinfo=UTC)
    for content in ("Nti20:15/BA4", "Nda11-22-26/ti20:15/BA4", "Oti20:15/BA4"):
        (event,) = sia.parse(content, now, "5551", None, None, time_zone=paris)
        assert event.occurred_at == datetime(2026, 11, 22, 19, 15, tzinfo=UTC)
    (event,) = sia.parse("Nti00:10/BA4", datetime(2026, 11, 22, 23, 5, tzinfo=UTC), "5551", None, None, time_zone=paris)
    assert event.occurred_at == datetime(2026, 11, 22, 23, 10, tzinfo=UTC), "their day has begun"


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)), st.times())  # noqa: DTZ001 - hypothesis wants them naive
def test_a_time_without_a_date_is_never_more_than_half_a_day_away(now: datetime, clock: time) -> None:
    occurred_at = parse(f"Nti{clock:%H:%M:%S}/BA1", now)[0].occurred_at
    assert occurred_at is not None
    assert abs(occurred_at - now).total_seconds() <= 43_200
    assert f"{occurred_at:%H:%M:%S}" == f"{clock:%H:%M:%S}"


@pytest.mark.parametrize(
    "fragment",
    [
        "^",
        "^|",
        "/",
        " ",
        "|",
        "*'",
        "BA ",
        "ri",
        "A^",
        "N^",
        "a",
        "ti1",
        "*",
        "'",
        "N/A",
        "0",
        "é/",
        "BA1/",
        "da1^",
        "lv1/",
        "qq",
        "qq7",
        "ba5/",
        "lvA",
        "riA",
    ],
)
def test_long_content_costs_no_more_than_its_length(fragment: str) -> None:
    """A pattern that goes back over what it has read would not come back before the timeout."""
    for content in (fragment * 50_000, f"N{fragment * 50_000}", f"NBA1{fragment * 50_000}x"):
        assert len(parse(content)) <= sia.EVENTS_MAX
