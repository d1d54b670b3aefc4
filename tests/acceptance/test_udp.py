"""kill -9 of a receiver that is fed by UDP: what was acknowledged is on disk, and SIGHUP ends nothing."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocols.dc09 import build, build_reply
from tests.acceptance.conftest import Centre
from tests.conftest import CONFIG, sia

PANELS = 20
KILLS = int(os.environ.get("ARCGATE_KILLS", "3"))
REPEAT_S = 0.1


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(tmp_path)
    made.config.write_text(CONFIG.replace('"tcp"', '"udp"'))
    yield made
    assert made.stop() == 0
    assert "Traceback" not in made.log.read_text()


class Panel(asyncio.DatagramProtocol):
    """Sends one report after the other, each until it is acknowledged; from a new port each time, as behind a NAT."""

    def __init__(self, number: int) -> None:
        self.number, self.sent, self.acknowledged = number, 0, list[bytes]()
        self.going = True

    async def report(self, port: list[int]) -> None:
        account, loop = f"{1000 + self.number}", asyncio.get_running_loop()
        while self.going:
            self.sent += 1
            sequence = self.sent % 9999 + 1
            self.frame = frame = build(sia(account, f"Nid{self.sent}/BA{self.number}", sequence))
            self.reply: asyncio.Future[bytes] = loop.create_future()
            while self.going and not self.reply.done():
                transport, _ = await loop.create_datagram_endpoint(lambda: self, remote_addr=("127.0.0.1", port[0]))
                transport.sendto(frame)
                await asyncio.wait([self.reply], timeout=REPEAT_S)
                transport.close()
            if self.reply.done():
                assert build_reply("ACK", f"{sequence:04}L0#{account}") == self.reply.result()
                self.acknowledged.append(frame)

    def datagram_received(self, data: bytes, _sender: object) -> None:
        # While the receiver is dead, a panel may be given its port, and hears itself
        if data != self.frame and not self.reply.done():
            self.reply.set_result(data)


async def running(centre: Centre, port: list[int]) -> None:
    centre.start("receive")
    port[:] = [int((await centre.address()).rpartition(":")[2])]


async def test_kill_9_loses_no_report_that_was_acknowledged(centre: Centre) -> None:
    chance = random.Random(7)  # noqa: S311 - the same moments each time
    port: list[int] = []
    panels = [Panel(n) for n in range(PANELS)]
    await running(centre, port)
    tasks = [asyncio.create_task(panel.report(port)) for panel in panels]
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        assert centre.stop(signal.SIGKILL) == -signal.SIGKILL
        await running(centre, port)
    before = sum(len(panel.acknowledged) for panel in panels)
    assert before > 100
    assert centre.process
    centre.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(10):
        while sum(len(panel.acknowledged) for panel in panels) < before + 100:  # noqa: ASYNC110 - a list tells nothing
            await asyncio.sleep(0.01)
    for panel in panels:
        panel.going = False
    await asyncio.gather(*tasks)
    kept = {entry.report.frame for entry in centre.entries()}
    assert {frame.decode() for panel in panels for frame in panel.acknowledged} <= kept
