"""
A folder into which another program writes a file for each call, as Asterisk's AlarmReceiver does.

    event-dJ3k9a -> it has stopped growing -> read -> journal -> durable -> taken/event-dJ3k9a

A file is moved when what it holds is on disk here, never cut nor deleted: until then it is read again. What holds no event is
moved too, and raised. One that cannot be read stays, and is raised by its name; the others are read.
"""

import asyncio
import stat
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from protocols.event import CENTRE, Category, Event, Format, Qualifier
from protocols.link import Link, Message, Policies, Received
from receiver.config import Listener
from receiver.conversation import Conversation, Intake
from receiver.faults import PORT_LOST, Faults

LOOK_S: Final = 0.5
QUIET_S: Final = 1.0
"""A file that has not changed for so long is whole: Asterisk writes it in one go when the panel has hung up."""
FILE_BYTES_MAX: Final = 64 * 1024
"""Of a longer one, the rest is not read: a call of many hours."""
FILES_A_LOOK: Final = 256
TAKEN: Final = "taken"
"""The folder in the folder."""

log = structlog.get_logger()


class SpoolListener:
    """`transport = "spool"`."""

    def __init__(self, listener: Listener, intake: Intake, policies: Policies, faults: Faults) -> None:
        """policies: what the centre has said of this listener's accounts. Nothing is read yet."""
        self.listener, self.intake, self.counts = listener, intake, intake.counts
        self.certificates = None
        self.connections = 0
        """There are none."""
        self.reading: set[Path] = set()
        """Files whose reports wait for the disk."""
        self._folder = Path(listener.address)
        self._policies, self._faults = policies, faults

    async def open(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._keep())

    @property
    def addresses(self) -> list[str]:
        """Where it looks."""
        return [self.listener.address]

    async def _keep(self) -> None:
        while True:
            try:
                files, unread = await asyncio.to_thread(self._settled, time.time())
            except OSError as error:
                text = f"{self._folder} cannot be read: {error.strerror}; may arcgate read it, and move its files to {TAKEN}/?"
                self._faults.tell(self.listener.name, PORT_LOST, True, text)
            else:
                todo = "Asterisk makes files for its own user alone (0600): let arcgate read them, as the README says"
                text = f"{self._folder}: cannot be read: {', '.join(unread[:3])}; {len(unread)} in all. {todo}"
                self._faults.tell(
                    self.listener.name, PORT_LOST, bool(unread), text if unread else f"{self._folder} is read again"
                )
                for path, data in files:
                    SpoolFile(self.listener.protocol.link(self._policies), self.intake, path, self.reading).begin(data)
            await asyncio.sleep(LOOK_S)

    def _settled(self, now_s: float) -> tuple[list[tuple[Path, bytes]], list[str]]:
        """Read the files that are whole and not being read, and name those that cannot be; raises OSError for the folder."""
        (self._folder / TAKEN).mkdir(exist_ok=True)
        found: list[tuple[Path, bytes]] = []
        unread = []
        for path in sorted(self._folder.glob("event-*")):
            try:
                about = path.lstat()
                if stat.S_ISREG(about.st_mode) and path not in self.reading and about.st_mtime <= now_s - QUIET_S:
                    with path.open("rb") as opened:
                        found.append((path, opened.read(FILE_BYTES_MAX)))
            except FileNotFoundError:
                continue
            except OSError as error:
                unread.append(f"{path.name} ({error.strerror})")
            if len(found) >= FILES_A_LOOK:
                break
        return found, unread

    def refuse_new(self) -> None:
        """Look no more."""
        self._task.cancel()
        self.intake.end()

    def cut_unanswered(self) -> None:
        """Forget what will never be durable: the files are still there."""
        self.reading.clear()

    def close_sessions(self) -> None:
        """Nothing to close."""

    async def closed(self) -> None:
        """Wait for the end of the last look."""
        with suppress(asyncio.CancelledError):
            await self._task


class SpoolFile(Conversation):
    """One file."""

    def __init__(self, link: Link, intake: Intake, path: Path, reading: set[Path]) -> None:
        """Begin nothing yet. reading: it is in there until it is moved."""
        super().__init__(link, intake)
        self.peer, self._path, self._reading = path.name, path, reading

    def begin(self, data: bytes) -> None:
        """Have it journalled, then moved."""
        now = datetime.now(UTC)
        received: list[Received] = [*self.read(data, now), *self._link.finish()]
        if not any(isinstance(item, Message) for item in received):
            text = f"{self._intake.listener}: the file {self._path.name} holds no event that can be read"
            event = Event(CENTRE, Format.RAW, "", Qualifier.NEW, Category.UNKNOWN, text=text)
            received.append(Message(data[:1024], (event,), b"", self._path.name))
        self._reading.add(self._path)
        if self.take(received, now) is not None:
            self.settle(0)  # link tests alone: nothing to wait for
        elif not self._intake.journal.writable:
            self._reading.discard(self._path)

    def settle(self, frames: int) -> None:  # noqa: ARG002 - all of a file are one commit
        """Move it: all that it holds is on disk. Where that fails it is not read again until a restart."""
        target = self._path.parent / TAKEN / self._path.name
        try:
            self._path.rename(target.with_name(f"{target.name}.{time.time_ns()}") if target.exists() else target)
        except OSError as error:
            todo = f"see that arcgate may move files to {target.parent}"
            log.error("file_not_moved", listener=self._intake.listener, file=str(self._path), error=error.strerror, todo=todo)  # noqa: TRY400 - the message says it all
        else:
            self._reading.discard(self._path)

    def close(self, why: str) -> None:
        """Nothing to end."""

    def send(self, reply: bytes, answers: int) -> None:
        """Nothing to answer."""

    def wait(self, frames: int) -> None:
        """Do nothing: it waits in `reading`."""
