"""
What holds for every protocol that a listener may speak, by its vectors in fixtures/ alone: a new one needs no test of its own.

DC-09's vectors have another form, and its tests are in dc09/.
"""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import AnyProtocol
from protocols.dc09 import Dc09
from protocols.lines import LineLink
from protocols.link import unescape
from tests.protocols.lines import check, check_in_company, receive, rows

PROTOCOLS = [member() for member in get_args(AnyProtocol) if member is not Dc09]
ROWS = [(protocol, row) for protocol in PROTOCOLS for row in rows(str(protocol.__struct_config__.tag))]
each_vector = pytest.mark.parametrize(
    ("protocol", "row"), ROWS, ids=lambda of: of["name"][:40] if isinstance(of, dict) else type(of).__name__
)


@each_vector
def test_a_vector_is_read_as_its_source_says_whole_and_byte_by_byte(protocol: AnyProtocol, row: dict[str, Any]) -> None:
    check(protocol, row)


@each_vector
def test_a_vector_is_read_the_same_after_noise_and_twice_in_one_read(protocol: AnyProtocol, row: dict[str, Any]) -> None:
    if isinstance(protocol.link(), LineLink):
        check_in_company(protocol, row)


@each_vector
def test_the_parts_of_a_frame_are_all_of_it_in_order(protocol: AnyProtocol, row: dict[str, Any]) -> None:
    (item,) = receive(protocol, unescape(row["frame"]))
    parts = protocol.layout(item.frame)
    for part in parts:
        assert item.frame[part.at : part.at + len(part.data)] == part.data
    joined = b"".join(part.data for part in parts)
    assert joined.rstrip(b" ") in {b"", item.frame.removeprefix(b"event=").rstrip(b" ")}
    assert joined or row["fields"].get("kind") == "raw", "what is read is explained"


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: type(protocol).__name__)
@given(st.data())
def test_any_bytes_are_explained_or_not_and_never_raise(protocol: AnyProtocol, data: st.DataObject) -> None:
    """Parts of lines, and a line with some bytes changed, are what comes nearest to one."""
    lines = [unescape(row["frame"]) for of, row in ROWS if of is protocol]
    line = bytearray(data.draw(st.sampled_from(lines) | st.binary(max_size=60)))
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 255)), max_size=3)):
        line[at:] = bytes([byte]) + line[at + 1 :]
    for cut in (len(line), data.draw(st.integers(0, 60))):
        frame = protocol.explain(bytes(line[:cut]))
        parts = protocol.layout(bytes(line[:cut]))
        assert frame or not parts
