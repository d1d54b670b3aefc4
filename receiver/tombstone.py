"""
Tombstones: what retention leaves of a ledger's file, so that the rest still verifies.

    <folder>/<first position>.dropped    JSON, sealed where there is a key
"""

import hmac
import os
from datetime import datetime
from pathlib import Path

import msgspec

from receiver.segment import path_of, sync_names


class Tombstone(msgspec.Struct, frozen=True):
    """What is left of a file that retention deleted."""

    id: str
    first: int
    last: int
    digest: str
    """Of its last entry: what the next file is chained to."""
    dropped_at: datetime
    mac: str = ""
    """Over the fields above, where there is a key."""

    def sealed(self, key: bytes) -> str:
        """Return what `mac` has to be."""
        text = f"{self.id} {self.first} {self.last} {self.digest} {self.dropped_at.isoformat()}"
        return hmac.digest(key, text.encode(), "sha256").hex() if key else ""

    def write(self, folder: Path, key: bytes) -> None:
        """Seal it and put it on disk, whole or not at all. Raises OSError."""
        path = path_of(folder, self.first).with_suffix(".dropped")
        begun = path.with_suffix(".begun")
        with begun.open("wb") as file:
            file.write(msgspec.json.encode(msgspec.structs.replace(self, mac=self.sealed(key))))
            file.flush()
            os.fsync(file.fileno())
        begun.rename(path)
        sync_names(folder)


def tombstones(folder: Path) -> dict[int, Tombstone]:
    """Read all of a folder, by the positions that their names say. Raises OSError, and ValueError for one that was altered."""
    stones = dict[int, Tombstone]()
    for path in folder.glob("*.dropped"):
        try:
            stone = msgspec.json.decode(path.read_bytes(), type=Tombstone)
            bytes.fromhex(stone.digest)
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"{path.name} is a tombstone that was altered: {error}") from error
        if path.stem != path_of(folder, stone.first).stem:
            raise ValueError(f"{path.name} is a tombstone that was altered: it is of entry {stone.first}")
        stones[stone.first] = stone
    return stones
