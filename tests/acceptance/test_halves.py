"""The two halves as two processes on one configuration: neither needs the other to be there."""

import asyncio
import signal
from pathlib import Path

from receiver import status
from tests.acceptance.conftest import Centre
from tests.acceptance.panels import Panels


async def test_dispatch_is_killed_and_restarted_while_receive_goes_on(tmp_path: Path) -> None:
    receive, dispatch = Centre(tmp_path), Centre(tmp_path)
    dispatch.log = tmp_path / "dispatch.jsonl"
    try:
        dispatch.start("dispatch")
        receive.start("receive")
        panels = Panels(30, 9)
        load = asyncio.create_task(panels.report(await receive.address()))
        for _ in range(2):
            await asyncio.sleep(0.5)
            valkeys = dispatch.valkeys()
            dispatch.stop(signal.SIGKILL)
            answered = len(panels.acked)
            await receive.gone(valkeys)
            await asyncio.to_thread(dispatch.start, "dispatch")
            assert len(panels.acked) > answered
        panels.stop()
        await load
        await receive.settled()
        await receive.check(panels)
        assert [receive.stop(), dispatch.stop()] == [0, 0]
        assert "Traceback" not in receive.log.read_text() + dispatch.log.read_text()
    finally:
        receive.stop(signal.SIGKILL)
        dispatch.stop(signal.SIGKILL)


async def test_receive_works_where_dispatch_and_redis_never_started(tmp_path: Path) -> None:
    receive = Centre(tmp_path, f"unix://{tmp_path}/never.sock")
    receive.start("receive")
    panels = Panels(10, 10)
    load = asyncio.create_task(panels.report(await receive.address()))
    await asyncio.sleep(0.5)
    panels.stop()
    await load
    assert {entry.report.frame.encode() for entry in receive.entries()} == {frame for _, frame in panels.acked}
    assert len(panels.acked) > 100
    assert receive.valkeys() == []
    assert await status.ask(receive.state_dir / "dispatch.sock") is None
    assert receive.arcgate("status").returncode == 0
    assert receive.stop() == 0


async def test_dispatch_waits_for_a_redis_and_a_journal_that_are_not_there(tmp_path: Path) -> None:
    dispatch = Centre(tmp_path, f"unix://{tmp_path}/never.sock")
    dispatch.start("dispatch")
    assert dispatch.stop() == 0
    assert dispatch.logged("queue_away")
    assert "Traceback" not in dispatch.log.read_text()
