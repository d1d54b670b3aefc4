"""
Verify a ledger: every entry is chained to the one before it, through its files and the tombstones of those that are gone.

    files, tombstones, anchors -> the positions reached, or LedgerError: the first entry that is not what was written
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from receiver.segment import LedgerError, SegmentReader, chain, first_digest, opened, told
from receiver.tombstone import Tombstone, tombstones

_PAGE: Final = 5000
"""So many entries are read at a time."""


class Walk:
    """One way along the chain. Writer and retention may go on meanwhile: it ends with what the last file then holds."""

    def __init__(
        self, folder: Path, ledger_id: str, key: bytes, files: Mapping[int, Path], anchors: Iterable[tuple[int, bytes]] = ()
    ) -> None:
        """
        Begin before the first entry.

        files: by their first positions. anchors: positions and digests as somebody else has kept them; an empty digest stands
        for any.
        """
        self._folder, self._id, self._key, self._files = folder, ledger_id, key, files
        self._anchors = dict(anchors)
        self._last = max(files)
        self._digest, self.reached = first_digest(ledger_id), 0

    def __iter__(self) -> Iterator[int]:
        """Yield the position reached, now and then, and last the head; raises LedgerError."""
        with told(self._folder):
            stones = tombstones(self._folder)
        walked = set[int]()
        while (first := self.reached + 1) <= self._last and first not in walked:
            walked.add(first)
            part = self._part(first, stones)
            if isinstance(part, Tombstone):
                self._pass_over(part)
            else:
                with closing(part):
                    yield from self._read(part)
        if self.reached < self._last - 1:
            raise self._missing()
        if strays := set(stones) - walked:
            raise LedgerError(f"{self._folder}: the tombstone of entry {min(strays)} was put there: it fits nowhere", min(strays))
        if beyond := max([position for position in self._anchors if position > self.reached], default=0):
            message = f"{self._folder}: entries {self.reached + 1} to {beyond} were here and are cut off"
            raise LedgerError(message, self.reached + 1)

    def _part(self, first: int, stones: Mapping[int, Tombstone]) -> Tombstone | SegmentReader:
        """Give what begins with this position. A tombstone beside its file: retention was killed between the two."""
        if stone := stones.get(first):
            return stone
        with told(self._folder, first):
            path = self._files.get(first)
            segment = opened(first, path, closed=first != self._last) if path else None
            if part := segment or (path and tombstones(self._folder).get(first)):  # retention may just have come by
                return part
        raise self._missing()

    def _missing(self) -> LedgerError:
        last = min(first for first in self._files if first > self.reached + 1) - 1
        message = f"{self._folder}: entries {self.reached + 1} to {last} are missing: a file was taken away, or entries of one"
        return LedgerError(message, self.reached + 1)

    def _pass_over(self, stone: Tombstone) -> None:
        known = (self._anchors.get(stone.last) or bytes.fromhex(stone.digest)).hex() == stone.digest
        # The last file is never dropped
        whole = stone.id == self._id and stone.first <= stone.last < self._last and stone.mac == stone.sealed(self._key)
        if not (whole and known):
            message = f"{self._folder}: the tombstone of entries {stone.first} to {stone.last} was altered"
            raise LedgerError(message, stone.first)
        self._digest, self.reached = bytes.fromhex(stone.digest), stone.last

    def _read(self, segment: SegmentReader) -> Iterator[int]:
        with told(segment.path, segment.first):
            header = segment.header()
        if header[:3] != (self._id, segment.first, self._digest):
            message = (
                f"{segment.path}: it is not chained to what stands before it: entry {self.reached} or this file was rewritten"
            )
            raise LedgerError(message, segment.first)
        size, rows = _PAGE, True
        while rows:
            try:
                page = segment.rows(self.reached, size)
            except sqlite3.Error as error:
                if size > 1:  # a page is damaged: one entry at a time finds the first that is lost
                    size = 1
                    continue
                message = f"entry {self.reached + 1} cannot be read: {segment.path}: {error}"
                raise LedgerError(message, self.reached + 1) from error
            for row in page:
                self._check(segment.path, *row)
            yield self.reached
            rows = bool(page)
        if lost := segment.commits_lost():
            message = f"{segment.path}-wal: was altered: {lost} commits behind entry {self.reached} are lost"
            raise LedgerError(message, self.reached + 1)

    def _check(self, path: Path, position: int, written: bytes, body: bytes) -> None:
        if position != self.reached + 1:
            message = f"{path}: entry {self.reached + 1} is missing: entry {position} follows {self.reached}"
            raise LedgerError(message, self.reached + 1)
        self._digest, self.reached = chain(self._digest, body, self._key), position
        if self._digest != written:
            raise LedgerError(f"{path}: entry {position} was altered: its digest does not fit what it says", position)
        if (self._anchors.get(position) or written) != written:
            message = f"{path}: entry {position} is not the one that was known: it, or one before it, was rewritten"
            raise LedgerError(message, position)
