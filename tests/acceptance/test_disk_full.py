"""The disk is full, or fails: no ACK from then on, no answer to a link test either, and nothing that was acknowledged is lost."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from dispatch.alarm_queue import AlarmQueue, connect
from protocols.dc09 import Frame, build
from receiver import status
from receiver.config import Guarantees
from receiver.journal import LOOK_FOR_ROOM_S, Journal, JournalReader
from tests.acceptance.conftest import Centre
from tests.acceptance.panels import Panels
from tests.conftest import CONFIG, Gateway, sia, small_disk
from tests.receiver.conftest import report, store, until

DISK_BYTES = 20_000_000
FREE_BYTES = (4 << 20) + 1_500_000
"""A little more than `free_bytes_min`."""
FILE_BYTES_MAX = 200_000
NULL = build(Frame(id_token="NULL", sequence="0000", account="1001"))


UDP = """
[[listener]]
name = "udp"
protocol = "dc09"
transport = "udp"
address = "127.0.0.1:0"
"""


async def fails_and_recovers(centre: Centre, said: str, recover: Callable[[], Awaitable[None]]) -> None:
    """Report until the journal says that it takes nothing; nothing is answered then; afterwards all that was is there."""
    panels = Panels(8, 8)
    address = await centre.address()
    load = asyncio.create_task(panels.report(address))
    await centre.says(said, s_max=20)
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answered = 0
    for frame in (NULL, panels.panels[0].acked[0][1]):
        writer.write(frame)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.5)
        answered = answered or len(panels.acked)  # by now all that was sent before has come in
    writer.close()
    (line,) = centre.logged(said)
    assert line["level"] == "critical"
    assert "restart" in str(line["todo"])
    assert len(panels.acked) == answered > 10

    await recover()
    load.cancel()  # a panel gives up waiting for its answer, and repeats on a new connection
    await asyncio.wait([load])
    load = asyncio.create_task(panels.report(await centre.address()))
    await asyncio.sleep(0.3)
    panels.stop()
    await load
    assert len(panels.acked) > answered
    await centre.settled()
    await centre.check(panels)
    print(f"{answered} acknowledged before, {len(panels.acked)} in all")  # noqa: T201 - measured: pytest -s shows it


async def test_the_disk_is_full_and_has_room_again(centre: Centre) -> None:
    """Without a restart."""
    with small_disk(centre.state_dir, DISK_BYTES) as mounted:
        if not mounted:
            centre.state_dir.rmdir()
            await below_the_limit(centre)
            return
        ballast = centre.state_dir / "ballast"
        centre.start()
        free = os.statvfs(centre.state_dir)
        ballast.write_bytes(b"\0" * (free.f_bavail * free.f_bsize - FREE_BYTES))
        await fails_and_recovers(centre, "journal_full", partial(room_again, centre, ballast.unlink))
        async with asyncio.timeout(10), connect("embedded", centre.state_dir) as redis:
            while not any(a.site == "(centre)" for a in await AlarmQueue(redis, "main").open_alarms(1000)):  # noqa: ASYNC110 - it is asked
                await asyncio.sleep(0.1)
        assert centre.stop() == 0


class LinkTests:
    """A panel on TCP and one on UDP that report nothing, and test their links."""

    def __init__(self, gateway: Gateway) -> None:
        told = json.loads(gateway.arcgate("status", "--json").stdout)["receive"]["listeners"]
        kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        self._sockets = [socket.socket(socket.AF_INET, kind) for kind in kinds]
        for panel, listener in zip(self._sockets, told, strict=True):
            host, _, port = listener["addresses"][0].rpartition(":")
            panel.connect((host, int(port)))
            panel.settimeout(0.2)

    def answered(self) -> list[bool]:
        """Send one on each."""
        return [self._answered(panel) for panel in self._sockets]

    def wait(self, answered: bool, s_max: float) -> None:  # noqa: FBT001 - it is what is waited for
        """Return when both are answered, or none is."""
        give_up_at = time.monotonic() + s_max
        while self.answered() != [answered] * 2:
            assert time.monotonic() < give_up_at

    def close(self) -> None:
        for panel in self._sockets:
            panel.close()

    @staticmethod
    def _answered(panel: socket.socket) -> bool:
        panel.send(NULL)
        try:
            return b"ACK" in panel.recv(1000)
        except TimeoutError:
            return False


@pytest.mark.parametrize("left", [0, (4 << 20) - 4096], ids=["nothing left", "less than free_bytes_min left"])
def test_who_only_tests_the_link_sees_that_the_disk_is_full(tmp_path: Path, left: int) -> None:
    """Somebody else fills it; and so it is after kill -9 and a start on the full disk, from the first answer on."""
    gateway = Gateway(tmp_path)
    gateway.config.write_text(CONFIG + UDP)
    with small_disk(gateway.state_dir, DISK_BYTES) as mounted:
        if not mounted:
            return  # without a disk of its own, `free_bytes_min` is tested above
        ballast = gateway.state_dir / "ballast"
        gateway.start("receive")
        for _ in range(2):
            panels = LinkTests(gateway)
            panels.wait(answered=True, s_max=5)
            free = os.statvfs(gateway.state_dir)
            ballast.write_bytes(b"\0" * (free.f_bavail * free.f_bsize - left))
            panels.wait(answered=False, s_max=2.5)
            assert [panels.answered() for _ in range(3)] == [[False, False]] * 3
            page = " ".join(gateway.arcgate("status").stdout.split())
            assert f"disk {left:,} bytes free" in page
            assert "DISK FULL: nothing is acknowledged until there is room: [Errno 28] fewer than free_bytes_min" in page
            panels.close()
            gateway.stop(signal.SIGKILL)
            gateway.start("receive")
            panels = LinkTests(gateway)
            assert [panels.answered() for _ in range(3)] == [[False, False]] * 3
            ballast.unlink()
            panels.wait(answered=True, s_max=5)
            panels.close()
        assert gateway.stop() == 0
    said = [json.loads(line)["event"] for line in gateway.log.read_text().splitlines()]
    assert [event for event in said if event.startswith("journal_") and event != "journal_head"] == [
        "journal_full",
        "journal_full",
        "journal_taking_again",
    ] * 2


@pytest.mark.parametrize("first", [True, False], ids=["the first start", "a later one"])
async def test_a_start_on_a_disk_without_a_byte_left_waits_for_room(centre: Centre, *, first: bool) -> None:
    """It must not end, nor call the journal damaged: whoever is woken would move it away."""
    with small_disk(centre.state_dir, DISK_BYTES) as mounted:
        if not mounted:
            return
        if not first:
            centre.start()
            await centre.send(sia("1001", "Nri1/BA1"))
            assert centre.stop() == 0
        ballast, free = centre.state_dir / "ballast", os.statvfs(centre.state_dir)
        ballast.write_bytes(b"\0" * (free.f_bavail * free.f_bsize))
        centre.log.touch()
        starting = asyncio.create_task(asyncio.to_thread(centre.start))
        (line,) = await centre.says("room_awaited")
        assert line["level"] == "critical"
        assert "there is no room on its disk" in str(line["error"])
        assert "damaged" not in str(line)
        told = await status.ask(centre.state_dir / "receive.sock")
        assert told is None if first else told and not told["journal"]["writable"]  # of later ones the register is the first
        ballast.unlink()
        await starting
        await centre.send(sia("1001", "Nri1/BA2", 2))
        assert len(centre.entries()) == (1 if first else 2)
        assert centre.stop() == 0


@pytest.mark.parametrize("left", range(4))
async def test_a_disk_that_holds_no_more_files_is_a_full_one(tmp_path: Path, left: int) -> None:
    """A new file is due, and it, its log or its index cannot be made; SQLite does not say why."""
    state_dir = tmp_path / "state"
    with small_disk(state_dir, DISK_BYTES, files_max=200) as mounted:
        if not mounted:
            return
        full: list[Exception | None] = []
        failures: list[Exception] = []
        small = Guarantees(segment_bytes=65_536)
        journal = Journal(state_dir, on_failure=failures.append, on_full=full.append, kept=small)
        free = os.statvfs(state_dir).f_ffree
        ballast = [state_dir / f"ballast {n}" for n in range(free - left)]
        for path in ballast:
            path.touch()
        while journal.writable:
            journal.append([report("x" * 1000)], lambda: None)
            await asyncio.sleep(0.001)
        ballast.pop().unlink()  # room for one more is none: it would be full again at once
        await asyncio.sleep(1.5 * LOOK_FOR_ROOM_S)
        assert (failures, len(full), journal.writable) == ([], 1, False)
        for path in ballast:
            path.unlink()
        await until(lambda: journal.writable)
        for _ in range(100):
            await store(journal, report("x" * 1000))
        await journal.close()
        assert failures == []
        with contextlib.closing(JournalReader(state_dir)) as reader:
            assert list(reader.verify())[-1] == journal.durable


async def below_the_limit(centre: Centre) -> None:
    """Let the limit be the disk's size, for who may not mount one: nothing is ever taken."""
    config = centre.config.read_text()
    centre.config.write_text(f"free_bytes_min = {1 << 49}\n{config}")
    centre.start()
    reader, writer = await asyncio.open_connection(*(await centre.address()).split(":"))
    writer.write(build(sia("1001", "NBA1")))
    with pytest.raises(asyncio.IncompleteReadError):
        await asyncio.wait_for(reader.readuntil(b"\r"), 5)
    writer.close()
    await centre.says("journal_full")


async def room_again(centre: Centre, make_room: Callable[[], None]) -> None:
    make_room()
    await centre.says("journal_taking_again")


async def test_the_journal_s_file_cannot_be_written_any_further(centre: Centre) -> None:
    """An error that is no full disk: only a restart helps."""
    centre.start()
    assert centre.process
    resource.prlimit(centre.process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))

    async def restart() -> None:
        assert centre.stop() == 0
        centre.start()

    await fails_and_recovers(centre, "journal_failed", restart)
