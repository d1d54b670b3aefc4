"""What the tests of a ledger share: how it is filled, begins a new file, is read back, and found as after a kill."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from receiver.config import Guarantees
from receiver.ledger import Ledger, LedgerReader
from receiver.segment import path_of, segments

SMALL = Guarantees(segment_bytes=65_536)


def bodies(*names: object, size: int = 0) -> list[bytes]:
    """Entries that can be told apart; size: in bytes, at least."""
    return [f'"{name}"'.ljust(size).encode() for name in names]


def add(ledger: Ledger, *names: object, size: int = 0) -> int:
    return ledger.insert(ledger.chain(bodies(*names, size=size)))


def next_day(ledger: Ledger) -> None:
    """Let what is written next come a day later."""
    ledger._segment.created_at -= timedelta(days=1)


def written(folder: Path, *files: int, key: bytes = b"") -> str:
    """Make a ledger with a file for each number, and so many entries in it, named by their positions; gives its id."""
    with closing(Ledger(folder, key=key)) as ledger:
        for count in files:
            next_day(ledger)
            add(ledger, *range(ledger.position + 1, ledger.position + 1 + count))
        return ledger.id


def read(folder: Path, key: bytes = b"") -> list[bytes]:
    """Verify all of it, and give the bodies, read as a follower would."""
    with closing(LedgerReader(folder, key)) as reader:
        assert list(reader.verify())[-1] == reader.head()
        return [body for _, _, body in followed(reader)]


def followed(reader: LedgerReader, after: int = 0, limit: int = 7) -> Iterator[tuple[int, bytes, bytes]]:
    """Read on until nothing comes."""
    while rows := reader.rows(after, limit):
        yield from rows
        after = rows[-1][0]


def killed(folder: Path) -> Path:
    """Copy what lies on the disk: it is what a killed process would have left."""
    left = folder.with_name(f"{folder.name}+")
    shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(folder, left)
    return left


def files(folder: Path) -> list[int]:
    """Give the first position of each file."""
    return [first for first, _ in segments(folder)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def altered(folder: Path, first: int) -> Iterator[sqlite3.Connection]:
    """Give the file that begins with this position to be altered, behind the ledger's back."""
    with closing(sqlite3.connect(path_of(folder, first), isolation_level=None)) as database:
        yield database
