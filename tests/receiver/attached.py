"""What the tests of serial ports and of dialled receivers share: a listener that is open, and what it raised."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from protocols import AnyProtocol
from protocols.surgard import SurGard
from receiver.attach import AttachedListener
from receiver.config import Listener
from receiver.faults import Faults
from receiver.journal import Journal, JournalReader
from tests.receiver.conftest import intake, policies

SUR_GARD = SurGard()
GOOD = b"5011 181234E13001004\x14"
OTHER = b"5011 181234R13001004\x14"
BEAT = b"1011           @    \x14"
ACK, NAK = b"\x06", b"\x15"


@asynccontextmanager
async def attached(
    kind: type[AttachedListener], journal: Journal, address: str, protocol: AnyProtocol = SUR_GARD, **keys: Any
) -> AsyncIterator[AttachedListener]:
    """Open a listener for a Sur-Gard receiver; closed at the end."""
    transport: Any = kind.__module__.rpartition(".")[2]
    listener = Listener(name="sg", transport=transport, address=address, protocol=protocol, **keys)
    door = kind(listener, intake(journal), policies, Faults(journal, journal.folder.parent))
    await door.open()
    try:
        yield door
    finally:
        door.refuse_new()
        await door.closed()


def told(state_dir: Path) -> list[tuple[str, str, str]]:
    """Account, code and qualifier of each event in the journal, and the account's."""
    reader = JournalReader(state_dir)
    try:
        entries = reader.read(0, reader.head())
        return [(event.account, event.code, str(event.qualifier)) for entry in entries for event in entry.report.events]
    finally:
        reader.close()
