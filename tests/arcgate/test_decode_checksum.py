"""What makes a refused checksum fit is found, so that nobody need guess."""

import pytest
from fastcrc import crc16

from arcgate.decode_checksum import sums, why_not
from protocols import dc09
from tests.conftest import sia

FRAME = dc09.build(sia("1234", "Nri1/BA5^Küche   ^"))
BODY = FRAME[9:-1]


def framed(crc: int, body: bytes = BODY, length: int = len(BODY)) -> bytes:
    return b"\n%04X%04X%b\r" % (crc, length, body)


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (framed(crc16.arc(BODY + b"\r")), "an ELDES panel"),
        (framed(crc16.arc(b"%04X" % len(BODY) + BODY)), "over length and body"),
        (framed(crc16.modbus(BODY)), "CRC-16/MODBUS"),
        (framed(crc16.xmodem(BODY)), "CRC-16/XMODEM"),
        (framed(crc16.arc(BODY.decode().encode("cp1252")), length=len(BODY) - 1), "the text in cp1252"),
        (framed(crc16.arc(BODY), BODY.replace(b"   ", b" ")), "2 more blanks before byte 42"),
        (framed(crc16.arc(BODY), BODY[:-9]), f"the length says {len(BODY)} bytes, {len(BODY) - 9} are there"),
        (framed(crc16.arc(BODY), BODY.replace(b"BA", b"FA")), "characters, or the checksum"),
        (framed(1, BODY + b"[K******]"), "the key in [K...] is hidden"),
    ],
)
def test_each_cause_is_named(frame: bytes, told: str) -> None:
    (only,) = why_not(frame)
    assert told in only


def test_what_is_no_frame_has_no_sums_and_a_binary_checksum_has() -> None:
    assert sums(b"GET / HTTP/1.1") is None
    assert list(why_not(b"")) == []
    told = sums(dc09.build(sia("1", "Nri1/BA5"), dialect="binary_crc"))
    assert told
    assert told.given == told.computed
    assert told.length == len(told.body)
