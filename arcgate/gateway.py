"""The gateway's process: the halves that a verb asked for, from their start to the signal that ends them."""

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Final

import structlog
import uvloop

from dispatch import sites
from dispatch.dispatcher import Dispatcher
from dispatch.embedded import EmbeddedRefused
from dispatch.server import QueueRefused
from receiver import accounts, config, log
from receiver.journal import JournalError
from receiver.ledger import NoRoomError
from receiver.listen import ListenError
from receiver.load import ConfigError, Mistake
from receiver.notify import notify, watchdog_s
from receiver.receive import Receiver

REFUSALS: Final[dict[type[Exception], str]] = {
    ListenError: "",
    JournalError: "state_dir",
    EmbeddedRefused: "state_dir",
    QueueRefused: "redis.url",
}
"""Why it may not start, beside its files, with the key of arcgate.toml that it hangs on; a listener's names its own."""

SWITCH_INTERVAL_S: Final = 0.002
"""How long the loop may keep the interpreter from the journal's thread; the default of 5 ms would be an ACK's delay."""

ROOM_AGAIN_S: Final = 1.0

_log = structlog.get_logger()


def serve(config_file: Path | None, *, receiving: bool, dispatching: bool) -> None:
    """Load what the halves need, and run them until SIGTERM or SIGINT. Raises ConfigError."""
    path = config.find(config_file)
    loaded = config.load(path)
    mistakes: list[Mistake] = []
    known_accounts, known_sites = accounts.Accounts(), sites.Sites()
    if receiving:
        known_accounts, found = accounts.load(loaded.accounts, path.parent)
        mistakes += found
    if dispatching:
        known_sites, found = sites.load(loaded.sites)
        mistakes += found
    if mistakes := mistakes or _unwritable(path, loaded.state_dir):
        raise ConfigError(mistakes)
    lines = log.configure()
    try:
        uvloop.run(
            _gateway(
                path,
                Receiver(loaded, known_accounts, lines) if receiving else None,
                Dispatcher(loaded, known_sites, lines, alone=not receiving) if dispatching else None,
            )
        )
    except tuple(REFUSALS) as error:
        raise ConfigError([Mistake(str(path), REFUSALS[type(error)], str(error))]) from error
    finally:
        lines.close()


def _unwritable(path: Path, state_dir: Path) -> list[Mistake]:
    """Make the state folder where it is missing, and tell where it cannot be written."""
    try:
        state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        why = "" if os.access(state_dir, os.W_OK | os.X_OK) else "it cannot be written"
    except OSError as error:
        why = error.strerror or str(error)
    advice = "give the user that runs arcgate this folder, or choose another"
    return [Mistake(str(path), "state_dir", f"{state_dir}: {why}: {advice}")] if why else []


async def _gateway(path: Path, receiver: Receiver | None, dispatcher: Dispatcher | None) -> None:
    """
    Start the halves, wait for SIGTERM or SIGINT, stop them; SIGHUP takes certificates anew.

    The receiver starts first and stops first: it holds the panels.
    """
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    if receiver:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, receiver.reload)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    halves = [half for half in (receiver, dispatcher) if half]
    started: list[Receiver | Dispatcher] = []
    try:
        for half in halves:
            if not await _start(half, ended):
                return
            started.append(half)
        gc.freeze()  # what lives as long as the process need not be looked at again and again
        _log.info("started", config=str(path))
        notify("READY=1")
        watchdog = asyncio.create_task(_feed_watchdog())
        await ended.wait()
        watchdog.cancel()
        notify("STOPPING=1")
    finally:
        for half in started:
            await half.stop()


async def _start(half: Receiver | Dispatcher, ended: asyncio.Event) -> bool:
    """Start a half; False where the signal to end came first: a large queue takes its time to be read back."""
    starting, ending = asyncio.create_task(_start_with_room(half)), asyncio.create_task(ended.wait())
    await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if starting.done():
        starting.result()
        return True
    starting.cancel()
    await asyncio.wait((starting,), timeout=2)
    return False


async def _start_with_room(half: Receiver | Dispatcher) -> None:
    """Start a half once its files have room: until then its panels find nobody, and go to the other receiver."""
    said = False
    while True:
        try:
            return await half.start()
        except NoRoomError as error:
            if not said:
                _log.critical(
                    "room_awaited", error=str(error), effect="it does not start before there is room", again_s=ROOM_AGAIN_S
                )
            said = True
            await asyncio.sleep(ROOM_AGAIN_S)


async def _feed_watchdog() -> None:
    while interval := watchdog_s():
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
