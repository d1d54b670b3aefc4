"""
How a running half tells how it is: a unix socket in the state folder that answers each connection with one JSON object.

    state/receive.sock, state/dispatch.sock  <-  `arcgate status`
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

ANSWER_S_MAX = 2.0


class StatusSocket:
    """Serves what `snapshot` returns, asked anew for each connection."""

    def __init__(self, path: Path, snapshot: Callable[[], dict[str, Any]]) -> None:
        """path: of the socket; shortened where the system could not hold it."""
        self._path, self._snapshot = path, snapshot

    async def open(self) -> None:
        """Serve; a socket that a dead process left behind is replaced."""
        self._path.unlink(missing_ok=True)
        with _short(self._path) as path:
            self._server = await asyncio.start_unix_server(self._answer, path)
        self._inode = self._path.stat().st_ino

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(msgspec.json.encode(self._snapshot(), enc_hook=str))
        writer.close()

    async def close(self) -> None:
        """Stop serving. Whoever has taken the place meanwhile keeps it."""
        self._server.close()
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


async def ask(path: Path) -> dict[str, Any] | None:
    """Return what the half behind `path` says of itself; None where it does not run."""
    writer = None
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            with _short(path) as name:
                reader, writer = await asyncio.open_unix_connection(name)
            answer = await reader.read(-1)
        return dict(msgspec.json.decode(answer, type=dict[str, Any]))
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return None
    finally:
        if writer:
            writer.close()


async def connect(path: Path, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to a socket of the state folder, however long its path. limit: of a line, bytes. Raises OSError."""
    with _short(path) as name:
        return await asyncio.open_unix_connection(name, limit=limit)


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
