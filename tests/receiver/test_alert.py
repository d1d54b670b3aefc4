"""The command that calls for help: it hears what happened, and nothing that it does is felt by the gateway."""

import asyncio
import json
import os
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver.alert import OUTPUT_BYTES_MAX, alert
from tests.receiver.conftest import until

FACTS = {"lag": 7, "waited_s": 91}


async def run(command: str | tuple[str, ...], run_s_max: float = 20) -> MutableMapping[str, Any]:
    """Run it, and give the one line that it leaves."""
    with capture_logs() as logs:
        await alert(command, "reports_undelivered", FACTS, run_s_max)
    (line,) = logs
    return line


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_line_is_for_the_shell_and_hears_the_facts_on_stdin_and_in_its_environment(tmp_path: Path) -> None:
    line = await run(f'cat > "{tmp_path}/facts" && echo "$ARCGATE_ALERT" "$$" $(ps -o sid= -p $$)')
    assert json.loads((tmp_path / "facts").read_bytes()) == {"alert": "reports_undelivered", **FACTS}
    word, pid, session = line["output"].split()
    assert word == "reports_undelivered"
    assert pid == session != str(os.getsid(0))
    assert (line["event"], line["log_level"], line["code"]) == ("alert_command_done", "info", 0)


async def test_a_list_is_a_program_and_its_arguments_as_they_are() -> None:
    assert (await run(("/bin/echo", "$HOME", "a b; c")))["output"] == "$HOME a b; c"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("echo no route >&2; exit 3", {"code": 3, "output": "no route"}),
        ("kill -9 $$", {"code": -9}),
        (("/not/there",), {"error": "/not/there: [Errno 2] No such file or directory"}),
        (("/",), {"error": "/: [Errno 13] Permission denied"}),
    ],
)
async def test_one_that_fails_is_a_line_in_the_log(command: str | tuple[str, ...], told: dict[str, Any]) -> None:
    line = await run(command)
    assert (line["event"], line["log_level"], line["alert"]) == ("alert_command_failed", "error", "reports_undelivered")
    assert told.items() <= line.items()


async def test_one_that_reads_nothing_and_writes_for_ever_is_killed_with_its_children_after_its_time(tmp_path: Path) -> None:
    began = time.monotonic()
    line = await run(f"yes & echo $! > {tmp_path}/pid; exec <&-; wait", run_s_max=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert line["event"] == "alert_command_failed"
    assert "killed: it ran for more than 0.3 s" in line["output"]
    assert len(line["output"]) < 2 * OUTPUT_BYTES_MAX
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not alive(pid))


async def test_one_that_leaves_a_child_with_its_output_open_is_over_when_it_exits() -> None:
    assert (await run("sleep 5 & echo done"))["ran_s"] < 4


async def test_it_ends_when_the_gateway_does(tmp_path: Path) -> None:
    running = asyncio.create_task(alert(f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 60", "x", {}))
    await until((tmp_path / "pid").exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not alive(pid))
