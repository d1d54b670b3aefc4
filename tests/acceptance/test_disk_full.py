"""The disk is full, or fails: no ACK from then on, no answer to a link test either, and nothing that was acknowledged is lost."""

import asyncio
import contextlib
import os
import resource
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from dispatch.alarm_queue import AlarmQueue, connect
from protocols.dc09 import Frame, build
from tests.acceptance.conftest import Centre
from tests.acceptance.panels import Panels
from tests.conftest import sia

DISK_BYTES = 20_000_000
FREE_BYTES = (4 << 20) + 1_500_000
"""A little more than `free_bytes_min`."""
FILE_BYTES_MAX = 200_000
NULL = build(Frame(id_token="NULL", sequence="0000", account="1001"))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount one on the folder; False where this user may not."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = os.getuid() == 0 and subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


async def fails_and_recovers(centre: Centre, said: str, recover: Callable[[], Awaitable[None]]) -> None:
    """Report until the journal says that it takes nothing; nothing is answered then; afterwards all that was is there."""
    panels = Panels(8, 8)
    address = await centre.address()
    load = asyncio.create_task(panels.report(address))
    async with asyncio.timeout(20):
        while not centre.logged(said):  # noqa: ASYNC110 - a file tells nothing
            await asyncio.sleep(0.02)
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
    with small_disk(centre.state_dir) as mounted:
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
    assert centre.logged("journal_full")


async def room_again(centre: Centre, make_room: Callable[[], None]) -> None:
    make_room()
    async with asyncio.timeout(10):
        while not centre.logged("journal_taking_again"):  # noqa: ASYNC110 - a file tells nothing
            await asyncio.sleep(0.05)


async def test_the_journal_s_file_cannot_be_written_any_further(centre: Centre) -> None:
    """An error that is no full disk: only a restart helps."""
    centre.start()
    assert centre.process
    resource.prlimit(centre.process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))

    async def restart() -> None:
        assert centre.stop() == 0
        centre.start()

    await fails_and_recovers(centre, "journal_failed", restart)
