"""
How far this node's reports have reached the queue, told across the journal by one small file.

    dispatch -> Delivered.write() -> state/delivered.json -> Delivered.read() -> receiver

The receiver knows no Redis: by this file alone it learns that reports wait, and which of them retention must keep.
"""

from pathlib import Path
from typing import Final

import msgspec

NAME: Final = "delivered.json"


class Delivered(msgspec.Struct, frozen=True):
    """What dispatch has done with one journal."""

    journal: str
    """The journal's id."""
    cursor: int
    """The last position that stands in the queue, and all before it."""
    oldest: int | None = None
    """The lowest position that opened an alarm which is still open; None where none is."""
    head: int = 0
    """A position that was delivered ..."""
    digest: str = ""
    """... and the digest of the entry there: where it is another one now, an older copy was put back and written on."""

    @property
    def needed(self) -> int:
        """The first position that a Redis which lost everything could still be refilled from."""
        return self.cursor if self.oldest is None else min(self.cursor, self.oldest)

    def write(self, state_dir: Path) -> None:
        """Put it in the place of what was told before, whole or not at all. Raises OSError."""
        written = state_dir / f"{NAME}.new"
        written.write_bytes(msgspec.json.encode(self))
        written.replace(state_dir / NAME)

    @staticmethod
    def read(state_dir: Path) -> "Delivered | None":
        """Return what was told last; None where nothing was, or nothing that can be read: then nothing counts as delivered."""
        try:
            return _decode((state_dir / NAME).read_bytes())
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None


_decode = msgspec.json.Decoder(Delivered).decode
