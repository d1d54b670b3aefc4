"""
What the receiving half has to say of itself and of its lines: raised once, restored once, also across a restart.

    tell("serial1", "receiver_link_lost", True, text) -> journal -> dispatch -> the centre's own site

What is raised is kept in a file, so that a restart neither raises it again nor forgets to restore it.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import structlog

from protocols.event import CENTRE, Category, Event, Format, Qualifier
from receiver.journal import Journal, Report

PORT_LOST: Final = "receiver_port_lost"
"""A serial port vanished, or a receiver that we dial cannot be reached."""
LINK_LOST: Final = "receiver_link_lost"
"""Two heartbeats of a receiver are missing."""

log = structlog.get_logger()


class Faults:
    """One for all listeners."""

    def __init__(self, journal: Journal, state_dir: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Read what was raised before."""
        self._journal, self._path, self._now = journal, state_dir / "faults.json", now
        self._raised: set[tuple[str, str]] = set()
        with suppress(OSError, msgspec.MsgspecError):
            self._raised = msgspec.json.decode(self._path.read_bytes(), type=set[tuple[str, str]])

    def tell(self, listener: str, code: str, lost: bool, text: str) -> None:  # noqa: FBT001 - it is the state itself
        """Say how it is. Only a change is raised; where the journal takes nothing, it is one again when this is called again."""
        fault = listener, code
        if (fault in self._raised) == lost:
            return
        qualifier = Qualifier.NEW if lost else Qualifier.RESTORE
        event = Event(CENTRE, Format.ARCGATE, code, qualifier, Category.GENERATED, text=f"{listener}: {text}")
        if not self._journal.append([Report(self._now(), listener, "", "", (event,))], self._save):
            return
        (self._raised.add if lost else self._raised.discard)(fault)
        if lost:
            log.error("fault_raised", listener=listener, code=code, why=text)
        else:
            log.info("fault_restored", listener=listener, code=code, why=text)

    def _save(self) -> None:
        """Keep what is raised; where that fails it is raised once more after a restart."""
        with suppress(OSError):
            self._path.write_bytes(msgspec.json.encode(sorted(self._raised)))
