"""Every DC-09 vector over a real socket: byte-exact answers, silence where silence is due, and the connection stays open."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocols.dc09 import Frame, build, build_reply
from protocols.link import unescape
from tests.acceptance.conftest import Centre

FIXTURES = Path(__file__).parents[2] / "fixtures" / "dc09"
FRAMES: list[dict[str, Any]] = [json.loads(line) for line in (FIXTURES / "frames.jsonl").read_text().splitlines()]
USUAL = [row for row in FRAMES if not row.keys() & {"key", "policy", "rules"}]
"""As a gateway reads them that knows no keys, and whose clock is the real one: a plain frame's old time is marked, no more."""
KEYED = [row for row in FRAMES if "key" in row and row["reply"] == "*ACK"]
"""These it cannot open."""
STREAMS: list[dict[str, Any]] = [json.loads(line) for line in (FIXTURES / "streams.jsonl").read_text().splitlines()]


class Wire:
    """One connection for all of them, and a second one that shows when the gateway has read what was sent."""

    def __init__(self) -> None:
        self._tests = 0

    async def open(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        self._other_reader, self._other_writer = await asyncio.open_connection(host, int(port))

    async def send(self, *chunks: bytes) -> bytes:
        """Send the chunks, each read before the next; return what came back before the answer to a link test."""
        for chunk in chunks:
            self._writer.write(chunk)
            await self._answer(self._other_reader, self._other_writer)
        return await self._answer(self._reader, self._writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        self._tests += 1
        sequence = f"{self._tests:04}"
        writer.write(build(Frame(id_token="NULL", sequence=sequence, account="7777")))
        end = build_reply("ACK", f"{sequence}L0#7777")
        return (await asyncio.wait_for(reader.readuntil(end), 5)).removesuffix(end)

    def close(self) -> None:
        self._writer.close()
        self._other_writer.close()


@pytest.fixture
async def wire(centre: Centre) -> AsyncIterator[Wire]:
    centre.start("receive")
    wire = Wire()
    await wire.open(await centre.address())
    yield wire
    wire.close()


async def test_every_frame_is_answered_as_its_source_says_and_the_connection_stays_open(wire: Wire) -> None:
    for row in USUAL:
        reply = await wire.send(unescape(row["frame"]))
        if row["reply"] == "DUH":
            assert b'"DUH"' in reply, row["name"]
        else:
            assert reply == unescape(row["reply"]), row["name"]


async def test_what_needs_a_key_that_is_not_there_is_met_with_silence(wire: Wire) -> None:
    assert len(KEYED) > 30
    for row in KEYED:
        assert await wire.send(unescape(row["frame"])) == b"", row["name"]


async def test_every_stream_is_answered_however_it_was_cut(wire: Wire) -> None:
    """A frame of a stream is acknowledged where its vector says so; the one with a wrong checksum is not."""
    for row in STREAMS:
        frames = [unescape(frame) for frame in row["frames"]]
        expected = b"".join(
            build_reply("ACK", frame[frame.index(b'"', 3) :].split(b'"')[2].partition(b"[")[0].decode(), frame[7:8] == b'"')
            for frame in frames
            if not frame.startswith(b"\n0000")
        )
        assert expected
        chunks = [bytes.fromhex(chunk) for chunk in row["chunks_hex"]]
        assert await wire.send(*chunks) == expected, row["name"]
        assert await wire.send(b"".join(chunks)) == expected, row["name"]
