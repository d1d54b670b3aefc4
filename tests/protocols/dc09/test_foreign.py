"""What is no DC-09 is named; what might be a panel's is not taken for a scanner."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dc09 import foreign
from protocols.errors import Reason
from protocols.link import Rejected, unescape
from tests.protocols.dc09.vectors import FRAMES, receive

NAMED = {
    "HTTP": "HTTP",
    "TLS": 'transport = "tls"',
    "Galaxy": "Galaxy",
    "Galaxy, encrypted": "Galaxy",
    "Aritech OH heartbeat": "Aritech",
    "Aritech OH without LF": "Aritech",
    "MSSQL": "MSSQL",
    "SMB": "SMB",
    "SSH": "SSH",
    "RDP": "RDP",
    "VNC": "VNC",
    "SIP": "SIP",
    "Redis": "Redis",
    "Sur-Gard heartbeat": "Sur-Gard",
    "Sur-Gard Contact ID": "Sur-Gard",
    "Sur-Gard SIA": "Sur-Gard",
    "XML": "XML",
    "JSON": "JSON",
}
rows = [row for row in FRAMES if row["name"].startswith("not DC-09: ")]


@pytest.mark.parametrize("row", rows, ids=lambda row: row["name"])
def test_it_is_called_by_its_name_and_gets_no_answer(row: Any) -> None:
    (item,) = receive(unescape(row["frame"]))
    assert isinstance(item, Rejected)
    assert (item.error.reason, item.reply, item.events) == (Reason.FOREIGN, b"", ())
    assert NAMED[row["name"].partition(": ")[2]] in item.error.message


def test_every_name_is_tried() -> None:
    assert {row["name"].partition(": ")[2] for row in rows} == set(NAMED)


@pytest.mark.parametrize(
    "noise",
    [b"", b"hello", b"5011", b"\x00", b"#1234", b"A", b"ABCD0026", b"N", b"QUIT", b"\n0A7A0038", b"\xff", b'"NULL"0000L0#1[]'],
)
def test_what_is_like_nothing_known_has_no_name(noise: bytes) -> None:
    assert foreign.name(noise) is None


def test_no_frame_of_dc09_is_foreign() -> None:
    taken = [unescape(row["frame"]) for row in FRAMES if row.get("reason") != "foreign"]
    assert [data for data in taken if foreign.name(data)] == []


@given(st.binary(max_size=256))
def test_any_bytes_may_be_asked_about(noise: bytes) -> None:
    assert foreign.name(noise) is None or foreign.name(noise)
