"""The grammar: headers of both kinds, times, and a key that is hidden in its place."""

from datetime import UTC, datetime

import pytest
from fastcrc.crc16 import arc
from hypothesis import given
from hypothesis import strategies as st

from protocols.dc09.frame import BODY, HEADER, HEADER_BEGUN, HEADER_BYTES_MAX, STRICT_HEADER, hide_key, moment, stamp, text, wrap


def test_the_checksum_is_that_of_the_standard() -> None:
    assert arc(b"123456789") == 0xBB3D


@given(st.binary(max_size=40), st.booleans())
def test_a_header_is_found_where_it_begins_and_never_across_it(body: bytes, binary: bool) -> None:  # noqa: FBT001 - given
    data = wrap(b'"' + body, binary=binary)
    header = HEADER.match(data)
    assert header
    assert header.end() == (8 if binary else 10)
    assert binary or STRICT_HEADER.match(data)


@given(st.binary(max_size=20), st.binary(max_size=4), st.booleans())
def test_what_may_become_a_header_is_kept(noise: bytes, crc: bytes, binary: bool) -> None:  # noqa: FBT001 - given
    """Else a cut in the middle of one would lose the frame."""
    data = noise.replace(b"\n", b"") + wrap(b'"' + crc, binary=binary)
    quote = (data.index(b'"', len(noise.replace(b"\n", b"")) + 3)) if not binary else len(noise.replace(b"\n", b"")) + 7
    start = len(noise.replace(b"\n", b""))
    for cut in range(start + 1, quote + 1):
        begun = HEADER_BEGUN.search(data[:cut], max(0, cut - HEADER_BYTES_MAX))
        assert begun
        assert begun.start() <= start


@given(st.datetimes(datetime(1000, 1, 1), datetime(9998, 1, 1)))  # noqa: DTZ001 - given a zone at once
def test_a_time_is_read_as_it_was_written(at: datetime) -> None:
    at = at.replace(microsecond=0, tzinfo=UTC)
    assert moment(stamp(at)[1:]) == at


@pytest.mark.parametrize(
    "wrong", ["", "1:00:00,11-22-2026", "10:00:00,11-22-2026 ", "10:00:00,2026-11-22", "１0:00:00,11-22-2026"]
)
def test_a_time_has_one_form(wrong: str) -> None:
    assert moment(wrong) is None


@pytest.mark.parametrize(
    ("data", "hidden"),
    [
        (b"[#1|NBA1][Kab]", b"[#1|NBA1][K**]"),
        (b"[][K][Kx][Iok]_", b"[][K][K*][Iok]_"),
        (b"[K0123456789ABCDEF]", b"[K****************]"),
        (b"[KEY]", b"[KEY]"),
        (b"]K[x", b"]K[x"),
    ],
)
def test_a_key_is_hidden_in_its_place(data: bytes, hidden: bytes) -> None:
    assert hide_key(data) == hidden


def test_text_is_utf8_or_else_cp1252() -> None:
    assert text("Entrée".encode()) == ("Entrée", ())
    assert text("Entrée".encode("cp1252")) == ("Entrée", ("cp1252",))
    assert text(b"\x81") == ("\ufffd", ("cp1252",))


@given(st.text(max_size=80))
def test_any_text_is_a_body_or_is_not(string: str) -> None:
    BODY.match(f'"SIA-DCS"0001L0#{string}')
    BODY.match(f'"SIA-DCS"{string}')
