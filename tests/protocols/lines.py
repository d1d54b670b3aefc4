"""What holds for the vectors of every receiver's protocol, and how its tests feed a link."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from protocols import AnyProtocol
from protocols.event import Event
from protocols.link import LinkTest, Message, Received, Rejected, escape, unescape

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
KINDS = {Message: "message", LinkTest: "link_test", Rejected: "rejected"}


def rows(protocol: str) -> list[Any]:
    path = Path(__file__).parents[2] / "fixtures" / protocol / "frames.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def each(rows: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=lambda row: row["name"][:40])


def receive(protocol: AnyProtocol, *chunks: bytes, now: datetime = NOW) -> list[Received]:
    link = protocol.link()
    return [item for chunk in chunks for item in link.receive(chunk, now)] + link.finish()


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[a:b] for a, b in pairwise(places)]


def events(item: Received) -> tuple[Event, ...]:
    return () if isinstance(item, LinkTest) else item.events


def check(protocol: AnyProtocol, row: Any) -> None:
    """A vector is read as its source says, whole and byte by byte; the reply is byte for byte the expected one."""
    data = unescape(row["frame"])
    (item,) = receive(protocol, data)
    assert KINDS[type(item)] == row["received"]
    assert escape(item.reply) == row["reply"]
    frame = protocol.explain(item.frame)
    assert frame
    assert msgspec.structs.asdict(frame).items() >= row["fields"].items()
    told = [json.loads(msgspec.json.encode(event)) for event in events(item)]
    assert len(told) == len(row.get("events", []))
    for event, expected in zip(told, row.get("events", []), strict=True):
        assert event.items() >= expected.items()
    assert receive(protocol, *one_by_one(data)) == [item]


def check_in_company(protocol: AnyProtocol, row: Any) -> None:
    """It is read the same after noise, and twice in one read with NULs between."""
    data = unescape(row["frame"])
    (item,) = receive(protocol, data)
    noise = b"\x00\xff~~\r\x14" if row["fields"].get("kind") == "raw" else b"\x00\xff~~"
    found = receive(protocol, noise + data + b"\x00\x00" + data)
    assert [each for each in found if each.frame == item.frame] == [item, item]
    assert all(isinstance(each, Rejected) and each.reply == b"" for each in found if each.frame != item.frame)


def hostile(frames: list[bytes], signs: list[bytes]) -> st.SearchStrategy[bytes]:
    """Any bytes, whole lines, halves of lines, and the signs that part them, in any order."""
    halves = [frame[: len(frame) // 2] for frame in frames]
    piece = st.one_of(st.binary(max_size=30), st.sampled_from(frames), st.sampled_from(halves), st.sampled_from(signs))
    return st.lists(piece, max_size=10).map(b"".join)


def check_build(row: Any, explain: Callable[[bytes], Any], build: Callable[[Any], bytes]) -> None:
    """What was read builds a line that reads the same."""
    frame = explain(unescape(row["frame"]))
    if frame.kind != "raw":
        assert explain(build(frame)) == frame


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)
