"""
A pretend panel's conversation: it numbers its frames, has a clock, encrypts, and judges each reply as panels do.

    frame -> ACK: done
          -> NAK: set the clock by the time in it, send the same sequence again
          -> DUH, silence, anything else: told in words
"""

import time
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import cast

import msgspec

from arcgate.decode_checksum import sums
from arcgate.panel_line import NO_REPLY, Line, LineError
from arcgate.panel_options import PanelOptions
from protocols.dc09 import Dc09, Dialect, Frame, build, build_reply, read_reply
from protocols.link import escape


class Trip(msgspec.Struct, frozen=True):
    """A frame and what came back."""

    frame: bytes
    reply: bytes
    """Empty: nothing came."""
    round_trip_ms: float | None
    error: str | None
    """Why it is no ACK; None where it is the one that the frame asks for."""
    clock_set_s: float | None = None
    """By how much a NAK set the panel's clock, after which the frame was sent again; None where there was none."""


class Panel:
    """One panel: its account, its clock, its sequence."""

    def __init__(self, options: PanelOptions, key: bytes) -> None:
        """key: of AES; empty: it speaks in the clear."""
        self._options, self._key = options, key
        self._dialect = cast("Dialect", options.dialect)
        self._sequence = options.sequence
        self._ahead = timedelta(seconds=options.ahead)

    async def report(self, frame: Frame, line: Line) -> Trip:
        """Send a frame under the next number; after a NAK set the clock and send it again. Whatever happens is in the Trip."""
        numbered = msgspec.structs.replace(frame, sequence=f"{self._sequence:04}", encrypted=bool(self._key))
        self._sequence = self._sequence and self._sequence % 9999 + 1  # it goes round as panels do: after 9999 comes 1
        trip, answer = await self._send(numbered, line)
        if answer is None or answer.id_token != "NAK" or answer.timestamp is None:
            return trip
        before, self._ahead = self._ahead, answer.timestamp - datetime.now(UTC)
        again, _ = await self._send(numbered, line)
        if again.error and again.error.startswith("NAK"):
            again = msgspec.structs.replace(again, error="NAK again, though the panel's clock was set by the first")
        return msgspec.structs.replace(again, clock_set_s=round((self._ahead - before).total_seconds(), 3))

    async def _send(self, frame: Frame, line: Line) -> tuple[Trip, Frame | None]:
        if self._options.timestamp:
            frame = msgspec.structs.replace(frame, timestamp=datetime.now(UTC) + self._ahead)
        sent = build(frame, key=self._key, pad=token_hex(8).encode() if self._key else b"", dialect=self._dialect)
        begun = time.perf_counter()
        try:
            reply = await line.ask(sent, self._options.timeout)
        except LineError as error:
            return Trip(sent, b"", None, str(error)), None
        took_ms = round((time.perf_counter() - begun) * 1000, 3)
        if not reply:
            return Trip(sent, b"", None, NO_REPLY), None
        if not self._key and reply == build_reply("ACK", frame.echo):  # nearly always, and ten times faster than reading it
            return Trip(sent, reply, took_ms, None), None
        answer = read_reply(reply, self._key)
        why = judge(frame, answer) if answer else f"the reply cannot be read: {_damage(reply)}"
        return Trip(sent, reply, took_ms, why), answer


def _damage(reply: bytes) -> str:
    """Say why a reply cannot be read, the first thing that is wrong in it."""
    told = sums(reply)
    if told is None:
        return "it has no checksum, length and quote at its beginning"
    if reply[-1:] != b"\r":
        return "it does not end in a CR"
    if told.computed != told.given:
        return f"its checksum is {told.given:04X}, its bytes give {told.computed:04X}"
    if told.length != len(told.body):
        return f"its length is {told.length}, and its body has {len(told.body)} bytes"
    if Dc09().explain(reply) is None:
        return f'its header is {escape(told.body)}, and should be like "ACK"0001L0#1234[]; checksum and length are right'
    return "it is encrypted, and not with our key, or without the time; checksum and length are right"


def judge(frame: Frame, answer: Frame) -> str | None:
    """Say why an answer is not the ACK that `frame` asks for; None where it is."""
    match answer.id_token:
        case "NAK":
            return "NAK: the receiver wants the panel to set its clock"
        case "DUH":
            return "DUH: the receiver does not understand this frame"
    for field in ("id_token", "encrypted", "sequence", "receiver", "line", "account"):
        wanted, given = "ACK" if field == "id_token" else getattr(frame, field), getattr(answer, field)
        if wanted != given:
            return f"not the ACK that the frame asks for: its {field} is {given!r}, not {wanted!r}"
    return None
