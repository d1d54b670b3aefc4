"""
The command that a centre gives to be called for help: `alert_command`, run when the usual channels are down.

    alert(command, event, facts) -> a process of its own: the facts as one JSON object on stdin, ARCGATE_ALERT=<event>

Whatever becomes of it is a line in the log, and nothing else: it can neither delay nor end the gateway.
"""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

RUN_S_MAX: Final = 60.0
OUTPUT_BYTES_MAX: Final = 1000
"""So much of what the command writes is logged."""

log = structlog.get_logger()


async def alert(command: str | tuple[str, ...], event: str, facts: Mapping[str, Any], run_s_max: float = RUN_S_MAX) -> None:
    """
    Run the command to its end; never raises but for its own cancellation, which ends the command too.

    command: a line for /bin/sh, or a program and its arguments. event: what has happened, in a log line's word.
    facts: what else there is to know, well below the 64 kB that a pipe holds.
    run_s_max: seconds until it is killed, with all that it has started.
    """
    words = ("/bin/sh", "-c", command) if isinstance(command, str) else command
    began = time.monotonic()
    stdin, told = os.pipe()
    try:
        os.write(told, msgspec.json.encode({"alert": event, **facts}, enc_hook=str) + b"\n")
        os.close(told)
        transport, run = await asyncio.get_running_loop().subprocess_exec(
            _Run,
            *words,
            stdin=stdin,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "ARCGATE_ALERT": event},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        log.error("alert_command_failed", alert=event, error=f"{words[0]}: {error}")  # noqa: TRY400 - the message says it all
        return
    finally:
        os.close(stdin)
    try:
        async with asyncio.timeout(run_s_max):
            await run.exited.wait()
    except TimeoutError:
        run.output += f" (killed: it ran for more than {run_s_max:g} s)".encode()
    finally:
        if transport.get_returncode() is None:
            with suppress(ProcessLookupError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
        transport.close()
    code, ran_s = transport.get_returncode(), round(time.monotonic() - began, 3)
    say, result = (log.info, "alert_command_done") if code == 0 else (log.error, "alert_command_failed")
    say(result, alert=event, code=code, ran_s=ran_s, output=run.output.decode(errors="replace").strip())


class _Run(asyncio.SubprocessProtocol):
    """Hears the command: keeps the beginning of what it writes, and notes its end."""

    def __init__(self) -> None:
        self.exited = asyncio.Event()
        self.output = b""

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        self.output += data[: OUTPUT_BYTES_MAX - len(self.output)]

    def process_exited(self) -> None:
        self.exited.set()
