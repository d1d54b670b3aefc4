"""
One connection's bytes, cut anywhere, into frames.

    data -> Dc09Link.receive() -> header -> end of the frame -> checksum -> Reader.read()

A header is where a quote stands behind a checksum and a length. The length says where the CR must be; where it lies, the checksum
decides; where a new header stands before any end, the frame was cut off. What is between frames is noise, and named where it
can be. What comes out is the same however the bytes were cut, but for two names: what follows a CR is seen in the same read
alone.
"""

import re
from datetime import datetime
from typing import Final

from fastcrc.crc16 import arc

from protocols.dc09 import foreign
from protocols.dc09.frame import FRAME_BYTES_MAX, HEADER, HEADER_BEGUN, HEADER_BYTES_MAX, STRICT_HEADER, hide_key
from protocols.dc09.read import Reader, Rules
from protocols.errors import FrameError, Reason
from protocols.link import Policies, Received, Rejected

_LF: Final = 0x0A
_CR: Final = 0x0D
_NOISE_KEPT: Final = 256
"""So many bytes of noise are shown; the rest is counted."""
_CRC_DIGITS: Final = 4
_DIALECT_AFTER: Final = {0x00: "nul_after_cr", 0x0A: "lf_after_cr"}


class Dc09Link:
    """One connection's side of the conversation."""

    def __init__(self, policies: Policies, rules: Rules | None = None) -> None:
        """Begin. policies: what the centre has said of its accounts; rules: of this listener."""
        self._reader = Reader(policies, rules or Rules())
        self.noise_bytes = 0
        self._pending = b""
        """From the beginning of a frame that is not whole yet, or that may become one."""
        self._scanned = 0
        """Up to here in `_pending` no CR ends the frame, no header cuts it off: each byte is looked at once, however cut."""
        self._noise = b""

    def receive(self, data: bytes, now: datetime) -> list[Received]:
        """Take what was read, and say what it completed. See `protocols.link.Link`."""
        if not self._pending and not self._noise and _is_usual(data):
            self.noise_bytes = 0
            return [self._reader.read(data, data[9:-1], now)]
        self.noise_bytes += len(data)
        buffer, self._pending = self._pending + data if self._pending else data, b""
        scanned, self._scanned = self._scanned, 0
        received: list[Received] = []
        position = 0
        while header := STRICT_HEADER.match(buffer, position) or HEADER.search(buffer, position):
            start, body = header.start(), header.end() - 1
            by_length = body + int(header[2], 16)
            end: int | None = by_length
            if buffer.find(b"\r", body, by_length + 1) != by_length or buffer.find(b"\n", body, by_length) >= 0:  # nearly never
                end, scanned = _find_end(buffer, header, scanned), 0
            if start > position:
                self._hear_noise(buffer[position:start])
            if end is None and len(buffer) < start + FRAME_BYTES_MAX:
                self._pending, self._scanned = buffer[start:], len(buffer) - start
                return received
            if end is None or buffer[end] != _CR:  # a header that no frame followed, or that a new frame cut off
                position = end or body
                received += self._give_up(buffer[start:position])
                continue
            position = end + 1
            if self._noise:
                received += self._tell_noise()
            received.append(self._read_frame(buffer, header, end, now))
        if position < len(buffer):
            begun = HEADER_BEGUN.search(buffer, max(position, len(buffer) - HEADER_BYTES_MAX))
            keep = begun.start() if begun else len(buffer)
            self._hear_noise(buffer[position:keep])
            self._pending = buffer[keep:]
        return received

    def finish(self) -> list[Received]:
        """Say what is left at the end of the connection: bytes that became no frame."""
        left, self._pending = self._pending, b""
        if HEADER.match(left) and b"\r" not in left:
            message = "the frame ends before its CR: was the connection cut off, or the CR forgotten?"
            return [*self._tell_noise(), Rejected(hide_key(left), FrameError(Reason.MALFORMED, message))]
        return self._give_up(left) + self._tell_noise()

    def _give_up(self, piece: bytes) -> list[Received]:
        """Take a piece out of which no whole frame came; where it looks like one, with its CR, say that it was damaged."""
        header = HEADER.match(piece)
        end = piece.find(b"\r", header.end() if header else 0) + 1
        told: list[Received] = []
        if header and end:
            told = [*self._tell_noise(), _damaged(piece[:end], header)]
            piece = piece[end:]
        self._hear_noise(piece)
        return told

    def _tell_noise(self) -> list[Received]:
        """Say what bytes came that were no frame; some panels send NUL or LF after the CR, which is nothing to tell."""
        noise, self._noise = self._noise, b""
        shown = noise.strip(b"\0\r\n ")
        if not shown:
            return []
        named = foreign.name(noise) or foreign.name(shown)
        if named:
            return [Rejected(hide_key(shown), FrameError(Reason.FOREIGN, named))]
        message = "bytes that are no DC-09 frame: is another protocol spoken on this port, or is the line bad?"
        return [Rejected(hide_key(shown), FrameError(Reason.NOISE, message))]

    def _hear_noise(self, noise: bytes) -> None:
        self._noise += noise[: _NOISE_KEPT - len(self._noise)]

    def _read_frame(self, buffer: bytes, header: re.Match[bytes], end: int, now: datetime) -> Received:
        """Check what stands from `header` to the CR at `end`, and have it read."""
        frame, body = buffer[header.start() : end + 1], buffer[header.end() - 1 : end]
        crc = header[1]
        binary = len(crc) != _CRC_DIGITS
        wanted = int.from_bytes(crc) if binary else int(crc, 16)
        length = int(header[2], 16)
        dialects: tuple[str, ...] = ()
        if header.re is not STRICT_HEADER:
            dialects = _header_dialects(header, binary=binary)
        if arc(body) != wanted:
            if length != len(body) + 1 or arc(frame[-len(body) - 1 :]) != wanted:
                return _damaged(frame, header)
            dialects += ("eldes",)
        elif length != len(body):
            dialects += ("length",)
        if end + 1 < len(buffer):
            dialects += _after(buffer, end + 1)
        self.noise_bytes = 0
        if b"[K" in body:
            frame, body = hide_key(frame), hide_key(body)
        return self._reader.read(frame, body, now, dialects, binary=binary)


def _is_usual(data: bytes) -> bool:
    """Say whether this is one whole frame by the standard, which it is nearly always; what else there is, `receive` looks for."""
    body = data[9:-1]
    return (
        len(data) <= FRAME_BYTES_MAX
        and data[1:9] == b"%04X%04X" % (arc(body), len(body))
        and data[:1] == b"\n"
        and body[:1] == b'"'
        and data[-1] == _CR
        and _CR not in body
        and _LF not in body
        and b"[K" not in body
    )


def _header_dialects(header: re.Match[bytes], *, binary: bool) -> tuple[str, ...]:
    digits = header[2] if binary else header[1] + header[2]
    asked = {"binary_crc": binary, "no_lf": not binary and header[0][:1] != b"\n", "lower_case_hex": digits != digits.upper()}
    return tuple(name for name, departs in asked.items() if departs)


def _after(buffer: bytes, position: int) -> tuple[str, ...]:
    """Name what follows a CR and is no frame; an LF is the next frame's, unless it is the last byte or another LF follows."""
    follows = buffer[position : position + 2]
    return (_DIALECT_AFTER[follows[0]],) if follows in {b"\n", b"\n\n", b"\n\0"} or follows[0] == 0 else ()


def _damaged(frame: bytes, header: re.Match[bytes]) -> Rejected:
    named = foreign.name(frame)
    if named:
        return Rejected(hide_key(frame), FrameError(Reason.FOREIGN, named))
    body = frame[header.end() - header.start() - 1 : -1]
    sent = header[1].hex().upper() if len(header[1]) != _CRC_DIGITS else header[1].decode().upper()
    given = f"{arc(body):04X}"
    hint = "a damaged line, or another dialect"
    if sent == given[2:] + given[:2]:
        hint = "its two bytes are swapped: the high one comes first"
    return Rejected(hide_key(frame), FrameError(Reason.CRC, f"the checksum is {sent}, the bytes give {given}: {hint}"))


def _find_end(buffer: bytes, header: re.Match[bytes], scanned: int) -> int | None:
    """
    Find where the frame of `header` ends.

    scanned: before this, no CR ends it and no new header is whole. Returns the index of its CR; or, where a new header stands
    before any end, the index of that header: the frame was cut off; or None: not there yet. The length says where the CR should
    be; where it lies, the first CR whose checksum fits decides, else the first one after that place. So the result is the same
    however the bytes were cut.
    """
    body, crc = header.end() - 1, header[1]
    by_length = body + int(header[2], 16)
    wanted = int(crc, 16) if len(crc) == _CRC_DIGITS else int.from_bytes(crc)
    limit = header.start() + FRAME_BYTES_MAX
    cut_off = _LED_HEADER.search(buffer, max(body, scanned - HEADER_BYTES_MAX), limit)
    until = cut_off.end() if cut_off else limit
    summed, at = 0, body
    end = buffer.find(b"\r", max(body, scanned), until)
    while 0 <= end < by_length:
        summed, at = arc(buffer[at:end], summed), end
        if summed == wanted or (end + 1 == by_length and arc(b"\r", summed) == wanted):  # ELDES counts the CR
            break
        end = buffer.find(b"\r", end + 1, until)
    if end >= 0:
        return end
    return cut_off.start() if cut_off else None


_LED_HEADER: Final = re.compile(rb'\n(?:[0-9A-Fa-f]{4}|..)0[0-9A-Fa-f]{3}"', re.DOTALL)
"""A header with its LF: only such a one cuts a frame off."""
