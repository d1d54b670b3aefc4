"""
How a running half tells how it is: a unix socket in the state folder that answers each line with one JSON object.

    state/receive.sock, state/dispatch.sock  <-  `arcgate status`: an empty line; `arcgate status --account 1234`: the account
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

ANSWER_S_MAX = 2.0
ASKED_BYTES_MAX = 1024


class UnixSocket:
    """A server's socket in the state folder, for its owner alone; one that a dead process left behind is replaced."""

    def __init__(self, path: Path) -> None:
        """path: of the socket; shortened where the system could not hold it."""
        self._path = path

    async def bind(self, serve: Callable[[str], Awaitable[asyncio.Server]]) -> None:
        """Have it served; raises OSError."""
        self._path.unlink(missing_ok=True)
        with _short(self._path) as path:
            self._server = await serve(path)
        self._path.chmod(0o600)
        self._inode = self._path.stat().st_ino

    async def close(self) -> None:
        """Stop serving. Whoever has taken the place meanwhile keeps it."""
        self._server.close()
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


class StatusSocket(UnixSocket):
    """Serves what `snapshot` returns, asked anew for each connection; who names an account gets what `about` says of it."""

    def __init__(
        self, path: Path, snapshot: Callable[[], dict[str, Any]], about: Callable[[str], dict[str, Any]] = lambda _: {}
    ) -> None:
        """path: of the socket."""
        super().__init__(path)
        self._snapshot, self._about = snapshot, about

    async def open(self) -> None:
        """Serve; raises OSError."""
        await self.bind(lambda path: asyncio.start_unix_server(self._answer, path, limit=ASKED_BYTES_MAX))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(ANSWER_S_MAX):
                account = (await reader.readline()).decode("latin-1").strip()
            writer.write(msgspec.json.encode(self._about(account) if account else self._snapshot(), enc_hook=str))
        writer.close()


async def ask(path: Path, account: str = "") -> dict[str, Any] | None:
    """Return what the half behind `path` says of itself, or of an account; None where it does not run."""
    writer = None
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            with _short(path) as name:
                reader, writer = await asyncio.open_unix_connection(name)
            writer.write(f"{account}\n".encode("latin-1", "replace"))
            answer = await reader.read(-1)
        return dict(msgspec.json.decode(answer, type=dict[str, Any]))
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return None
    finally:
        if writer:
            writer.close()


class _short:  # noqa: N801 - used as a with-statement's word
    """A name for a path that fits the 107 bytes of a unix socket's address: by way of the folder's descriptor."""

    def __init__(self, path: Path) -> None:
        self._path, self._folder = path, -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) < 100:  # noqa: PLR2004 - with room to spare
            return str(self._path)
        self._folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._folder >= 0:
            os.close(self._folder)
