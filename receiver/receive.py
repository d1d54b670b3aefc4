"""
The receiver: from the panels' bytes to the ACK. It depends on sockets and a disk, and on nothing else.

    Config -> Journal, TcpListener, UdpListener, SerialListener, DialListener, SpoolListener, StatusSocket, Watch

And what is done now and then: Undelivered, retention, the head's digest, certificates, Supervision.
"""

import asyncio
import os
import resource
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from receiver import supervise
from receiver.accounts import Accounts
from receiver.config import Config, Listener
from receiver.conversation import Intake
from receiver.dial import DialListener
from receiver.faults import Faults
from receiver.journal import Journal, JournalError
from receiver.listen import ListenError, TcpListener
from receiver.log import LineWriter, report_lines
from receiver.seen import Seen
from receiver.serial import SerialListener
from receiver.sparing import AGAIN_S, SparingLog
from receiver.spool import SpoolListener
from receiver.status import StatusSocket
from receiver.supervise import Supervision
from receiver.udp import UdpListener
from receiver.undelivered import LOOK_S, Undelivered
from receiver.watch import Watch

HEAD_SAID_S: Final = 600.0
"""How often the digest of the journal's head is put on record in the log: a tail that is cut off later is seen by it."""
RETENTION_S: Final = 3600.0
CERTIFICATES_S: Final = 2.0
"""How often a certificate's files are looked at."""
CERTIFICATES_SAID_S: Final = 86_400.0
CERTIFICATE_ENDS: Final = timedelta(days=14)
"""So long before its end a certificate is told of, each day."""

Door = TcpListener | UdpListener | SerialListener | DialListener | SpoolListener

log = structlog.get_logger()


class Receiver:
    """The running half that takes reports."""

    def __init__(self, config: Config, accounts: Accounts, lines: LineWriter) -> None:
        """Nothing is opened yet."""
        self._config, self._accounts, self._lines = config, accounts, lines
        self._since = time.time()
        self._listeners: list[Door] = []
        self._upkeep: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._said_position = 0
        self._said_nothing_dropped = False

    async def start(self) -> None:
        """Open the journal, then the listeners. Raises JournalError or ListenError; what was opened is closed again."""
        _raise_descriptor_limit()
        self.journal = Journal(
            self._config.state_dir,
            self._log_reports,
            self._log_failure,
            kept=self._config,
            key=self._config.digest_secret,
            on_full=self._log_full,
            on_given_up=self._cut_unanswered,
        )
        self._head = self.journal.durable, self.journal.digest
        self._undelivered = Undelivered(self.journal, self._config.state_dir, self._config)
        self._watch = Watch(watch_path(self._config))
        self._spared = SparingLog()
        self._faults = Faults(self.journal, self._config.state_dir)
        self._listeners = [self._listener(listener) for listener in self._config.listeners]
        opened: list[Door] = []
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
        now = time.monotonic()
        self._supervised = [Supervision(door.listener, door.counts, self._faults, now) for door in self._listeners]
        for listener in self._listeners:
            log.info("listening", listener=listener.listener.name, addresses=listener.addresses)
        for work, each_s in self._work():
            self._upkeep.append(asyncio.create_task(self._repeat(work, each_s)))
        log.info("receiver_started", journal=self.journal.id, position=self.journal.durable, accounts=len(self._accounts))

    def _listener(self, listener: Listener) -> Door:
        seen = Seen(listener.name, self._config.drift_s_max, self._config.state_dir)
        intake = Intake(listener.name, self.journal, seen, self._watch, self._spared, listener.protocol.explain)
        policies = partial(self._accounts.policy, listener.name)
        match listener.transport:
            case "tcp" | "tls":
                return TcpListener(listener, intake, policies)
            case "udp":
                return UdpListener(listener, intake, policies)
            case "serial":
                return SerialListener(listener, intake, policies, self._faults)
            case "dial":
                return DialListener(listener, intake, policies, self._faults)
            case "spool":
                return SpoolListener(listener, intake, policies, self._faults)

    def _work(self) -> Sequence[tuple[Callable[[], Awaitable[None]], float]]:
        """Say what is done now and then, and each how many seconds."""
        return (
            (self._look, LOOK_S),
            (self._say_head, HEAD_SAID_S),
            (self._drop_old, RETENTION_S),
            (self._say_spared, AGAIN_S),
            (self._renew, CERTIFICATES_S),
            (self._supervise, supervise.LOOK_S),
            (self._say_ending, CERTIFICATES_SAID_S),
        )

    async def _open_status(self) -> None:
        self._status = StatusSocket(socket_path(self._config), self.snapshot, self.about)
        for path, sock in ((socket_path(self._config), self._status), (watch_path(self._config), self._watch)):
            try:
                await sock.open()
            except OSError as error:
                raise ListenError(
                    f"{path}: {error}: `arcgate status` and `watch` ask there: state_dir must be a folder that arcgate may write"
                ) from error

    async def stop(self) -> None:
        """Take no more, answer what is on disk, close. Within five seconds."""
        for listener in self._listeners:
            listener.refuse_new()
        self._stopping.set()
        await asyncio.gather(*self._upkeep, self._undelivered.stop())
        await self.journal.close()
        await asyncio.gather(*(listener.closed() for listener in self._listeners))
        await self._watch.close()
        await self._status.close()
        self._spared.flush()
        await self._say_head()
        log.info("receiver_stopped", position=self.journal.durable)

    def snapshot(self) -> dict[str, Any]:
        """Say how it is, for `arcgate status`."""
        return {
            "pid": os.getpid(),
            "since": self._since,
            "journal": {
                "id": self.journal.id,
                "position": self.journal.durable,
                "digest": self._head[1].hex(),
                "writable": self.journal.writable,
                "full": self.journal.full and str(self.journal.full),
            },
            "disk": _disk(self.journal.folder),
            "undelivered": self._undelivered.snapshot(),
            "listeners": [
                {
                    "name": listener.listener.name,
                    "addresses": listener.addresses,
                    "connected": listener.connections,
                    "counts": dict(listener.counts),
                    "transport": listener.listener.transport,
                    "certificate_until": listener.certificates and listener.certificates.until,
                }
                for listener in self._listeners
            ],
        }

    def about(self, number: str) -> dict[str, Any]:
        """Say what is known of an account: whether it is listed, by listener, and what its panel has done since the start."""
        listed = {}
        for listener in self._config.listeners:
            policy = self._accounts.policy(listener.name, None, None, number)
            listed[listener.name] = policy and {"keys": len(policy.keys), "time": policy.time}
        heard = [at for listener in self._listeners for at in listener.intake.seen.of(number)]
        return {"account": number, "since": self._since, "listed": listed, "heard": heard}

    def reload(self) -> None:
        """Take every certificate anew."""
        for listener in self._listeners:
            if isinstance(listener, TcpListener):
                listener.renew(asked=True)

    async def _renew(self) -> None:
        for listener in self._listeners:
            if isinstance(listener, TcpListener):
                listener.renew()

    async def _say_ending(self) -> None:
        """Say which certificates end soon, or have."""
        for listener in self._listeners:
            if (certificates := listener.certificates) and certificates.until < datetime.now(UTC) + CERTIFICATE_ENDS:
                log.warning(
                    "certificate_ends",
                    listener=listener.listener.name,
                    until=certificates.until,
                    todo="put a new one into its place: it is taken without a restart",
                )

    async def _supervise(self) -> None:
        for supervision in self._supervised:
            supervision.look(time.monotonic())

    async def _say_spared(self) -> None:
        self._spared.flush()

    def _log_reports(self, first: int, bodies: Sequence[bytes]) -> None:
        size = sum(map(len, bodies))
        self._lines.write_later(size, len(bodies), partial(report_lines, self.journal.id, first, bodies))
        # Here, in the journal's thread, position and digest are of the same commit
        self._head = first + len(bodies) - 1, self.journal.digest

    def _log_failure(self, error: Exception) -> None:
        log.critical(
            "journal_failed",
            error=str(error),
            position=self.journal.durable,
            effect="no report is acknowledged and no link test answered: panels see a dead receiver and fail over",
            todo=f"make room or mend the disk under {self.journal.folder}, then restart arcgate",
        )

    def _log_full(self, error: Exception | None) -> None:
        if error is None:
            log.warning("journal_taking_again", position=self.journal.durable)
            return
        log.critical(
            "journal_full",
            error=str(error),
            position=self.journal.durable,
            effect="no report is acknowledged and no link test answered: panels see a dead receiver and fail over",
            todo=f"make room (df, df -i) on the disk of {self.journal.folder}: reports are then taken again without a restart",
        )

    def _cut_unanswered(self) -> None:
        for listener in self._listeners:
            listener.cut_unanswered()

    async def _repeat(self, work: Callable[[], Awaitable[None]], each_s: float) -> None:
        """Do it until the end; a fault that nobody thought of is told, and takes nothing else with it."""
        while not self._stopping.is_set():
            try:
                await work()
            except Exception:
                log.critical("upkeep_failed", work=work.__name__, exc_info=True, again_s=each_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), each_s)

    async def _look(self) -> None:
        self._undelivered.look(time.monotonic())
        for listener in self._listeners:
            listener.intake.seen.save()

    async def _say_head(self) -> None:
        """Put the head's digest on record, where it is another one than was said last."""
        position, digest = self._head
        if position != self._said_position:
            log.info("journal_head", journal=self.journal.id, position=position, digest=digest.hex())
            self._said_position = position

    async def _drop_old(self) -> None:
        """Let retention delete what is old, as far as dispatch needs it no more."""
        if not self._config.retention_days or not self.journal.durable:
            return
        delivered = self._undelivered.delivered
        if delivered is None:
            if not self._said_nothing_dropped:
                log.warning(
                    "nothing_dropped", why="dispatch has not told what it needs of this journal", days=self._config.retention_days
                )
            self._said_nothing_dropped = True
            return
        try:
            dropped = await asyncio.to_thread(self.journal.drop_old, self._config.retention_days, delivered.needed)
        except (OSError, sqlite3.Error, JournalError) as error:
            log.error("retention_failed", error=str(error), todo=f"see that arcgate may delete files of {self.journal.folder}")  # noqa: TRY400 - the message says it all
            return
        for tombstone in dropped:
            log.info("segment_dropped", first=tombstone.first, last=tombstone.last, digest=tombstone.digest)


def _disk(folder: Path) -> dict[str, int | None] | None:
    """Say how much room there is on a folder's disk, and for how many files where that is limited; None where it is gone."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return {"free_bytes": disk.f_bavail * disk.f_frsize, "free_files": disk.f_favail if disk.f_files else None}


def watch_path(config: Config) -> Path:
    """Return where a running receiver shows what comes."""
    return config.state_dir / "receive.watch.sock"


def socket_path(config: Config) -> Path:
    """Return where a running receiver tells how it is."""
    return config.state_dir / "receive.sock"


def _raise_descriptor_limit() -> None:
    """Take what the system allows: a connection is a descriptor, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
