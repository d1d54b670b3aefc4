"""
Look into SQLite's write-ahead log for what its recovery passes over in silence.

After a crash SQLite takes the log up to the first frame whose checksum does not fit, and forgets what follows: right for a
torn last write, wrong for a byte that was altered in the middle, which would take whole commits with it unseen. A commit ends
with a frame that says so; more than one such frame of this log behind the damage cannot come from one torn write.

The format is SQLite's own [The WAL-mode File Format, https://www.sqlite.org/walformat.html].
"""

from pathlib import Path
from struct import iter_unpack, unpack_from
from typing import Final

_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_BIG_ENDIAN: Final = 1
"""The lowest bit of the magic number: how the checksums read their words."""


def commits_lost(log: Path) -> int:
    """Return how many commits stand behind a damaged frame of the log; 0 for a whole log, a torn last write, or no log."""
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return 0
    if len(data) < _HEADER_BYTES:
        return 0
    magic, _, page_bytes = unpack_from(">III", data)
    order = ">" if magic & _BIG_ENDIAN else "<"
    salts = data[16:24]
    sums = _checksum(order, data[:24], (0, 0))
    whole, commits = sums == unpack_from(">II", data, 24), 0
    for start in range(_HEADER_BYTES, len(data) - _FRAME_HEADER_BYTES - page_bytes + 1, _FRAME_HEADER_BYTES + page_bytes):
        if data[start + 8 : start + 16] != salts and whole:
            return 0  # left over from before the log was last begun anew
        if whole:
            sums = _checksum(order, data[start : start + 8], sums)
            sums = _checksum(order, data[start + _FRAME_HEADER_BYTES : start + _FRAME_HEADER_BYTES + page_bytes], sums)
            whole = sums == unpack_from(">II", data, start + 16)
        if not whole and data[start + 8 : start + 16] == salts and unpack_from(">I", data, start + 4)[0]:
            commits += 1
    return commits if commits > 1 else 0


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    for even, odd in iter_unpack(f"{order}II", data):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
