"""
Why a checksum does not fit: what is tried where a frame was refused for it, so that an integrator need not guess.

A frame that went through a terminal, a mail or a web page has lost blanks or changed its characters; a panel may take another
range or another sum. Where one of these makes it fit, that is what happened.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from fastcrc import crc16

_SUMS: Final = ("xmodem", "ibm_3740", "modbus", "kermit", "ibm_sdlc", "genibus")
_QUOTE_MAX: Final = 9


class Sums(msgspec.Struct, frozen=True):
    """What a DC-09 frame says of itself, and what is to be counted of it."""

    head: bytes
    """From the LF to the quote."""
    body: bytes
    given: int
    """The checksum in the frame."""
    computed: int | None
    """Of the body; None where a key in it is hidden, so that the bytes are not those that were sent."""
    length: int
    """As the frame says."""


def sums(frame: bytes) -> Sums | None:
    """Take a frame's head apart; None where it has none."""
    begin = frame.find(b'"', 0, _QUOTE_MAX + 1)
    head, body = frame[: max(0, begin)], frame[begin:].rstrip(b"\r\n\0")
    crc, length = head.removeprefix(b"\n")[:-4], head[-4:]
    try:
        given = int(crc, 16) if len(crc) > 2 else int.from_bytes(crc)  # noqa: PLR2004 - raw bytes
        return Sums(head, body, given, None if b"[K*" in body else crc16.arc(body), int(length, 16))
    except ValueError:
        return None


def why_not(frame: bytes) -> Iterator[str]:
    """Give each explanation under which the checksum of a DC-09 frame fits, in plain words; else what is to be seen of it."""
    told = sums(frame)
    if told is None:
        return
    if told.computed is None:
        yield "the key in [K...] is hidden, so the checksum cannot be counted again: decode the raw bytes"
        return
    body, given, missing = told.body, told.given, told.length - len(told.body)
    found = [*_ranges(told), *_texts(body, given), *_blanks(body, given, missing)]
    yield from found
    if not found and missing:
        yield f"the length says {told.length} bytes, {len(body)} are there: was a part lost, or put in, when it was copied?"
    elif not found:
        yield "the length fits: characters, or the checksum itself, were altered on the line or in copying"


def _ranges(told: Sums) -> Iterator[str]:
    """Try other bytes, and other sums."""
    body, given = told.body, told.given
    if crc16.arc(body + b"\r") == given:
        yield "it fits with the CR: an ELDES panel, whose length counts the CR too; here it does not"
    if crc16.arc(told.head[-4:] + body) == given:
        yield "it fits over length and body: the panel begins too early, the standard begins at the quote"
    for name in _SUMS:
        if getattr(crc16, name)(body) == given:
            yield f"it is CRC-16/{name.upper().replace('_', '-')}; DC-09 wants CRC-16/ARC"


def _texts(body: bytes, given: int) -> Iterator[str]:
    """Try the text in another encoding: the panel's bytes were changed when they were copied."""
    for here, there in (("utf-8", "cp1252"), ("utf-8", "latin-1"), ("cp1252", "utf-8")):
        try:
            other = body.decode(here).encode(there)
        except UnicodeError:
            continue
        if other != body and crc16.arc(other) == given:
            yield f"it fits with the text in {there}: the characters were changed when the frame was copied; decode the raw bytes"
            return


def _blanks(body: bytes, given: int, missing: int) -> Iterator[str]:
    """Try blanks where a text ends or has some already: INIM fills its texts up, and web pages show one where there were four."""
    if not 0 < missing <= len(body):
        return
    for at, byte in enumerate(body):
        if byte in b" ^]|" and crc16.arc(body[:at] + b" " * missing + body[at:]) == given:
            yield f"it fits with {missing} more blanks before byte {at} of the body: they were lost when the frame was copied"
            return
