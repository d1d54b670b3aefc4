"""The disk is full, or fails: no ACK from then on, no answer to a link test either, and nothing that was acknowledged is lost."""

import asyncio
import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocols.dc09 import Frame, build
from tests.acceptance.conftest import Centre
from tests.acceptance.panels import Panels

DISK_BYTES = 48_000_000
FREE_BYTES = 1_000_000
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


async def fails_and_recovers(centre: Centre, make_room: Callable[[], None]) -> None:
    """Report until the journal fails; nothing is answered then; with room again, a restart has all that was acknowledged."""
    panels = Panels(8, 8)
    address = await centre.address()
    load = asyncio.create_task(panels.report(address))
    async with asyncio.timeout(20):
        while not centre.logged("journal_failed"):  # noqa: ASYNC110 - a file tells nothing
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
    (line,) = centre.logged("journal_failed")
    assert line["level"] == "critical"
    assert "restart arcgate" in str(line["todo"])
    assert len(panels.acked) == answered > 10

    make_room()
    assert centre.stop() == 0
    await load
    centre.start()
    load = asyncio.create_task(panels.report(await centre.address()))
    await asyncio.sleep(0.3)
    panels.stop()
    await load
    assert len(panels.acked) > answered
    await centre.settled()
    await centre.check(panels)
    print(f"{answered} acknowledged before, {len(panels.acked)} in all")  # noqa: T201 - measured: pytest -s shows it


async def test_the_disk_is_full_and_has_room_again(centre: Centre) -> None:
    with small_disk(centre.state_dir) as mounted:
        ballast = centre.state_dir / "ballast"
        centre.start()
        assert centre.process
        if mounted:
            free = os.statvfs(centre.state_dir)
            ballast.write_bytes(b"\0" * (free.f_bavail * free.f_bsize - FREE_BYTES))
        else:  # an unprivileged user's next best: no file may grow
            resource.prlimit(centre.process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))
        await fails_and_recovers(centre, lambda: ballast.unlink(missing_ok=True))
        assert centre.stop() == 0


async def test_the_journal_s_file_cannot_be_written_any_further(centre: Centre) -> None:
    centre.start()
    assert centre.process
    resource.prlimit(centre.process.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))
    await fails_and_recovers(centre, lambda: None)
