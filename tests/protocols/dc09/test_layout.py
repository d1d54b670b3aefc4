"""Each byte of a frame is in exactly one part, whatever the dialect; what was encrypted follows."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dc09 import Dc09, Dialect, Frame, build
from protocols.dc09.frame import hide_key
from protocols.link import Policy, unescape

ROOT = Path(__file__).parents[3]
FRAMES = [unescape(json.loads(line)["frame"]) for line in (ROOT / "fixtures/dc09/frames.jsonl").read_text().splitlines()]
KEY = bytes(range(16))
FRAME = Frame(
    id_token="SIA-DCS",
    sequence="0007",
    receiver="1",
    line="2",
    account="1234",
    data="#1234|Nri1/BA5|Aküche",
    extended=(("X", "006E07.777"), ("Q", "")),
    timestamp=datetime(2026, 11, 22, 13, tzinfo=UTC),
)


@pytest.mark.parametrize("frame", [*FRAMES, *(build(FRAME, dialect=dialect) for dialect in get_args(Dialect))])
def test_the_parts_are_the_frame(frame: bytes) -> None:
    parts = [part for part in Dc09().layout(frame) if not part.name.startswith("opened")]
    assert b"".join(part.data for part in parts) == (hide_key(frame) if parts else b"")
    assert [part.at for part in parts] == [sum(len(each.data) for each in parts[:n]) for n in range(len(parts))]


def test_each_field_has_its_name_and_what_it_says() -> None:
    told = {part.name: (part.data, part.says) for part in Dc09().layout(build(FRAME))}
    assert told["token"] == (b'"SIA-DCS"', "events in SIA format (DC-03)")
    assert told["receiver"][0] + told["line"][0] + told["account"][0] == b"R1L2#1234"
    assert told["extended X"] == (b"[X006E07.777]", "longitude")
    assert told["extended Q"] == (b"[Q]", "a vendor's own")
    assert told["time"] == (b"_13:00:00,11-22-2026", "when it was sent, UTC")
    assert told["checksum"][1].endswith("it fits")


def test_a_wrong_sum_and_a_wrong_length_are_said_with_the_right_one() -> None:
    plain = build(FRAME)
    wrong = {part.name: part.says for part in Dc09().layout(b"\n00000001" + plain[9:])}
    assert f"but the bytes give {plain[1:5].decode()}" in wrong["checksum"]
    assert wrong["length"].endswith(f"1 bytes, but {len(plain) - 10} are there")


def test_what_is_opened_counts_from_its_first_byte() -> None:
    sealed = build(FRAME, key=KEY, pad=b"pad")
    assert not [part for part in Dc09().layout(sealed, Policy(keys=(bytes(16),))) if part.name.startswith("opened")]
    opened = [part for part in Dc09().layout(sealed, Policy(keys=(bytes(16), KEY))) if part.name.startswith("opened")]
    assert b"".join(part.data for part in opened).startswith(b"|#1234|Nri1/BA5|A")
    pad = int(opened[0].says.split()[0])
    at = [part.at for part in opened]
    assert at == [0, pad, *(pad + len("|#1234|Nri1/BA5|Aküche".encode()) + n for n in (1, 14, 17))]
    assert opened[-1].data == b"_13:00:00,11-22-2026"


def test_a_key_in_a_frame_is_hidden() -> None:
    frame = build(Frame(id_token="NULL", sequence="0000", account="1", extended=(("K", "5EC2E7"),)))
    assert b"5EC2E7" not in b"".join(part.data for part in Dc09().layout(frame))


@given(st.binary(max_size=80))
def test_no_bytes_are_too_strange(noise: bytes) -> None:
    for frame in (noise, b'\n00000010"' + noise, b'\n00000010"*NULL"0000L0#1[' + noise + b"\r"):
        Dc09().layout(frame, Policy(keys=(KEY,)))
