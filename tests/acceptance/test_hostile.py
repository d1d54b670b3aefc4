"""What hostile and broken peers do is nobody else's trouble: a good panel goes on being answered, and memory stays bounded."""

import asyncio
import random
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from protocols.dc09 import Frame, build
from tests.acceptance.conftest import Centre
from tests.acceptance.panels import Panels
from tests.conftest import sia

GROWTH_KB_MAX = 40_000


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def good(centre: Centre) -> AsyncIterator[Panels]:
    """A panel that reports all the time."""
    centre.start()
    panels = Panels(1, 4)
    load = asyncio.create_task(panels.report(await centre.address()))
    yield panels
    panels.stop()
    await asyncio.wait_for(load, 5)
    await centre.settled()
    await centre.check(panels)


async def connect(centre: Centre) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = (await centre.address()).rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def goes_on(good: Panels) -> None:
    """Wait until the good panel was answered ten times more."""
    answered = len(good.acked)
    async with asyncio.timeout(30):
        while len(good.acked) < answered + 10:  # noqa: ASYNC110 - a list tells nothing
            await asyncio.sleep(0.01)


def memory_kb(centre: Centre) -> int:
    assert centre.process
    status = Path(f"/proc/{centre.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


async def test_noise_of_every_kind(centre: Centre, good: Panels) -> None:
    chance = random.Random(5)  # noqa: S311 - the same noise each time
    begun = b'\n00000FFF"SIA-DCS"0001L0#1234['
    await goes_on(good)
    before_kb = memory_kb(centre)
    noises = [chance.randbytes(65_536), b"\n" * 65_536, b"\r" * 65_536, begun * 2_000, begun + b"A" * 65_536, b"A" * 300_000]
    for noise in noises:
        reader, writer = await connect(centre)
        writer.write(noise)
        await goes_on(good)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    assert memory_kb(centre) < before_kb + GROWTH_KB_MAX
    assert [line["why"] for line in await centre.says("peer_closed")] == ["too much noise: no whole frame in it"]


async def test_a_thousand_idle_connections(centre: Centre, good: Panels) -> None:
    await goes_on(good)
    before_kb = memory_kb(centre)
    idle = [await connect(centre) for _ in range(1000)]
    await goes_on(good)
    grown_kb = memory_kb(centre) - before_kb
    assert grown_kb < GROWTH_KB_MAX
    for _, writer in idle:
        writer.close()
    await goes_on(good)
    print(f"1,000 idle connections: {grown_kb} kB")  # noqa: T201 - measured: pytest -s shows it


async def test_a_frame_a_byte_at_a_time_and_one_that_is_cut_off(centre: Centre, good: Panels) -> None:
    frame = build(sia("1001", "Nri1/FA7"))
    _, cut = await connect(centre)
    cut.write(frame[:-5])
    await goes_on(good)
    cut.close()
    reader, writer = await connect(centre)
    for byte in frame:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.002)
    assert b'"ACK"0001L0#1001[]\r' in await asyncio.wait_for(reader.readuntil(b"\r"), 5)
    await goes_on(good)
    writer.close()
    assert [entry.report.frame.encode() for entry in centre.entries()].count(frame) == 1


async def test_a_peer_that_never_reads_its_answers(centre: Centre, good: Panels) -> None:
    """It is no longer read itself: its frames wait in its own socket."""
    null = build(Frame(id_token="NULL", sequence="0000", account="1001"))
    await goes_on(good)
    before_kb = memory_kb(centre)
    _, writer = await connect(centre)
    writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's transport reads
    for _ in range(200):
        writer.write(null * 1000)
    await goes_on(good)
    assert memory_kb(centre) < before_kb + GROWTH_KB_MAX
    writer.transport.abort()
    await goes_on(good)
