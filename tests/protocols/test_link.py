"""Frames as text: what is shown can be read, logged and taken back."""

import pytest

from protocols.link import escape, unescape


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b'\n6EA30023"NULL"\r', r"\n6EA30023\"NULL\"\r".replace('\\"', '"')),
        (b"a\\nb\\", r"a\\nb\\"),
        (b"\\", r"\\"),
        (b"\\x41", r"\\x41"),
        (b"\x00\x1b\x7f\x85\xff", r"\x00\x1B\x7F\x85\xFF"),
        (b"\n\\\x00", r"\n\\\x00"),
        ("é".encode(), r"\xC3\xA9"),
    ],
)
def test_bytes_and_their_text(data: bytes, text: str) -> None:
    assert escape(data) == text
    assert unescape(text) == data


@pytest.mark.parametrize(
    ("text", "data"), [("é", b"\xc3\xa9"), (r"\xff", b"\xff"), ("a\nb", b"a\nb"), (r"\\n", b"\\n"), (r"\\\n", b"\\\n")]
)
def test_what_a_person_may_write_as_well(text: str, data: bytes) -> None:
    assert unescape(text) == data


@pytest.mark.parametrize("text", ["\\t", "\\N", "\\x", "\\x1", "\\xg0", "\\x 1", "\\x  1", "\\x+1", "\\é", "\\x1\\n"])
def test_a_backslash_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"backslash|hexadecimal"):
        unescape(text)
