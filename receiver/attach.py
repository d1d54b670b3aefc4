"""
A listener with one connection that we open ourselves, and open again whenever it is lost: a serial port, a receiver that we dial.

    attempt -> Session, as long as it lasts -> attempt after a growing pause

A failed attempt is raised on the centre's own site, and so is a connection that ends within a moment without one line; the next
good one restores it.
"""

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final

import structlog

from protocols.lines import LineLink
from protocols.link import Link, Policies
from receiver.config import Listener
from receiver.conversation import Intake
from receiver.faults import PORT_LOST, Faults
from receiver.session import Session

AGAIN_S_FIRST: Final = 0.25
AGAIN_S_MAX: Final = 15.0
"""How long until the next attempt: it doubles from the first to the last."""

STEADY_S: Final = 1.0
"""A connection that lasts so long, or brings a line, is one."""

log = structlog.get_logger()


class AttachedListener(ABC):
    """Keeps one session. It is there from the start, whether its far end is or not."""

    def __init__(self, listener: Listener, intake: Intake, policies: Policies, faults: Faults) -> None:
        """policies: what the centre has said of this listener's accounts. Nothing is opened yet."""
        self.listener, self.intake, self.counts = listener, intake, intake.counts
        self.certificates = None
        self.session: Session | None = None
        self._policies, self._faults = policies, faults
        self._refusing = False
        self._ended = asyncio.Event()

    @abstractmethod
    async def attach(self) -> None:
        """Open the connection, with a `make()` session on it; raises OSError, TimeoutError or ValueError."""

    def make(self) -> Session:
        """Return a session for a new connection."""
        return Session(self.link(), self.intake, self.begin, self.end)

    def link(self) -> Link:
        """Return the codec of a new connection: whoever speaks there is a receiver."""
        link = self.listener.protocol.link(self._policies)
        if isinstance(link, LineLink):
            link.proven = True
        return link

    async def open(self) -> None:
        """Begin to try."""
        self._task = asyncio.create_task(self._keep())

    @property
    def addresses(self) -> list[str]:
        """Where the far end is."""
        return [self.listener.address]

    @property
    def connections(self) -> int:
        """One where it is connected."""
        return int(self.session is not None)

    def begin(self, session: Session) -> None:
        """Take a session that is connected."""
        if self._refusing:
            session.transport.abort()
            return
        self.session = session
        self.counts["connections"] += 1

    def end(self, session: Session) -> None:
        """Forget a session that is over."""
        if self.session is session:
            self.session = None
        self._ended.set()

    async def _keep(self) -> None:
        again_s = AGAIN_S_FIRST
        while True:
            self._ended.clear()
            try:
                await self.attach()
            except (OSError, TimeoutError, ValueError) as error:
                why = str(error) or type(error).__name__
                self._faults.tell(self.listener.name, PORT_LOST, True, f"{self.listener.address} cannot be opened: {why}")
            else:
                session = self.session
                log.info("attached", listener=self.listener.name, address=self.listener.address)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), STEADY_S)
                hung_up = self._ended.is_set() and not (session and session.proven)
                what = "is opened, and closed at once from the other side" if hung_up else "is open again"
                self._faults.tell(self.listener.name, PORT_LOST, hung_up, f"{self.listener.address} {what}")
                await self._ended.wait()
                if session and session.proven:
                    again_s = AGAIN_S_FIRST
                log.warning("detached", listener=self.listener.name, address=self.listener.address, again_s=again_s)
            await asyncio.sleep(again_s)
            again_s = min(2 * again_s, AGAIN_S_MAX)

    def refuse_new(self) -> None:
        """Try no more, and read no more."""
        self._refusing = True
        self._task.cancel()
        if self.session:
            self.session.stop_reading()
        self.intake.end()

    def cut_unanswered(self) -> None:
        """Forget what will never be answered: the receiver repeats it on a new connection."""
        if self.session and self.session.unanswered:
            self.session.close("there is no room for its reports")

    def close_sessions(self) -> None:
        """Close the connection, if the receiver has its answers."""
        if self.session and self.session.answers_arrived:
            self.session.leave()

    async def closed(self) -> None:
        """Close the connection; for two seconds, wait until the receiver has its answers."""
        for _ in range(40):
            self.close_sessions()
            if not self.session:
                break
            await asyncio.sleep(0.05)
        if self.session:
            self.session.transport.abort()
        with suppress(asyncio.CancelledError):
            await self._task
