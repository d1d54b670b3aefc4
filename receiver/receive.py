"""
The receiver: from the panels' bytes to the ACK. It depends on sockets and a disk, and on nothing else.

    Config -> Journal, TcpListener ..., StatusSocket
"""

import asyncio
import os
import resource
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from receiver.accounts import Accounts
from receiver.config import Config
from receiver.journal import Journal
from receiver.listen import ListenError, TcpListener
from receiver.log import LineWriter, report_lines
from receiver.status import StatusSocket

log = structlog.get_logger()


class Receiver:
    """The running half that takes reports."""

    def __init__(self, config: Config, accounts: Accounts, lines: LineWriter) -> None:
        """Nothing is opened yet."""
        self._config, self._accounts, self._lines = config, accounts, lines
        self._since = time.time()

    async def start(self) -> None:
        """Open the journal, then the listeners. Raises JournalError or ListenError; what was opened is closed again."""
        _raise_descriptor_limit()
        self.journal = Journal(self._config.state_dir, self._log_reports, self._log_failure)
        self._listeners = [TcpListener(listener, self.journal) for listener in self._config.listeners]
        opened: list[TcpListener] = []
        try:
            for listener in self._listeners:
                await listener.open()
                opened.append(listener)
            await self._open_status()
        except BaseException:
            for listener in opened:
                listener.refuse_new()
                listener.close_sessions()
            await self.journal.close()
            raise
        for listener in self._listeners:
            log.info("listening", listener=listener.listener.name, addresses=listener.addresses)
        log.info("receiver_started", journal=self.journal.id, position=self.journal.durable, accounts=len(self._accounts))

    async def _open_status(self) -> None:
        path = socket_path(self._config)
        self._status = StatusSocket(path, self.snapshot)
        try:
            await self._status.open()
        except OSError as error:
            raise ListenError(
                f"{path}: {error}: `arcgate status` asks there: state_dir must be a folder that arcgate may write"
            ) from error

    async def stop(self) -> None:
        """Take no more, answer what is on disk, close. Within five seconds."""
        for listener in self._listeners:
            listener.refuse_new()
        await self.journal.close()
        await asyncio.gather(*(listener.closed() for listener in self._listeners))
        await self._status.close()
        log.info("receiver_stopped", position=self.journal.durable)

    def snapshot(self) -> dict[str, Any]:
        """Say how it is, for `arcgate status`."""
        return {
            "pid": os.getpid(),
            "since": self._since,
            "journal": {"id": self.journal.id, "position": self.journal.durable, "writable": self.journal.writable},
            "listeners": [
                {
                    "name": listener.listener.name,
                    "addresses": listener.addresses,
                    "connected": listener.connections,
                    "counts": dict(listener.counts),
                }
                for listener in self._listeners
            ],
        }

    def _log_reports(self, first: int, bodies: Sequence[bytes]) -> None:
        size = sum(map(len, bodies))
        self._lines.write_later(size, len(bodies), partial(report_lines, self.journal.id, first, bodies))

    def _log_failure(self, error: Exception) -> None:
        log.critical(
            "journal_failed",
            error=str(error),
            position=self.journal.durable,
            effect="no report is acknowledged and no link test answered: panels see a dead receiver and fail over",
            todo=f"make room or mend the disk under {self.journal.folder}, then restart arcgate",
        )


def socket_path(config: Config) -> Path:
    """Return where a running receiver tells how it is."""
    return config.state_dir / "receive.sock"


def _raise_descriptor_limit() -> None:
    """Take what the system allows: a connection is a descriptor, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
