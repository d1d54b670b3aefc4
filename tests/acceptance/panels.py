"""Panels that report as fast as they are answered, and remember what was acknowledged and when."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterable
from typing import Final, cast

from protocols.dc09 import Frame, build, build_reply

CODES: Final = ("BA", "BA", "BA", "TA", "AT", "YT", "FA", "PA")
"""What they report: each raises an alarm or joins one."""


class Panel(asyncio.Protocol):
    """One account: sends its next report when the last one was acknowledged, and after a cut the same one again."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.account = f"{1000 + number}"
        self.acked: list[tuple[float, bytes]] = []
        """The frames that were acknowledged, with the moment."""
        self.sent = 0
        self.going = True
        """Whether it goes on when the last one is answered."""
        self._chance = chance
        self._frame = b""
        self._reply = b""
        self._heard = b""

    async def report(self, host: str, port: int) -> None:
        """Connect, and report until the other side is gone or `going` ends."""
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        try:
            transport, _ = await loop.create_connection(lambda: self, host, port)
        except OSError:
            return
        try:
            await self._over
        finally:
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._heard = b""
        if self._frame:
            self._transport.write(self._frame)
        else:
            self._next()

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if not self._heard.endswith(b"\r"):
            return
        assert self._heard == self._reply, (self._heard, self._reply)
        self._heard = b""
        self.acked.append((time.monotonic(), self._frame))
        self._frame = b""
        self._next()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _next(self) -> None:
        if not self.going:
            self.connection_lost(None)
            return
        self.sent += 1
        sequence = f"{self.sent % 9999 + 1:04}"
        data = f"#{self.account}|Nid{self.sent}/{self._chance.choice(CODES)}{self._chance.randrange(1, 100)}"
        self._frame = build(Frame(id_token="SIA-DCS", sequence=sequence, account=self.account, data=data))
        self._reply = build_reply("ACK", f"{sequence}L0#{self.account}")
        self._transport.write(self._frame)


class Panels:
    """Many of them."""

    def __init__(self, count: int, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - the same load each time
        self.panels = [Panel(number, chance) for number in range(count)]

    async def report(self, address: str) -> None:
        """Report until the other side is gone or `stop` is called."""
        host, _, port = address.rpartition(":")
        for panel in self.panels:
            panel.going = True
        await asyncio.gather(*(panel.report(host, int(port)) for panel in self.panels))

    def stop(self) -> None:
        """End when the last ones are answered."""
        for panel in self.panels:
            panel.going = False

    @property
    def acked(self) -> list[tuple[float, bytes]]:
        """All that was acknowledged, in the order of the answers."""
        return sorted(ack for panel in self.panels for ack in panel.acked)

    def acked_between(self, begin: float, end: float) -> int:
        """Count the answers of a stretch of `time.monotonic`."""
        return sum(begin <= at <= end for at, _ in self.acked)


def longest_gap_ms(moments: Iterable[float]) -> float:
    """Give the longest time between two of the moments."""
    return max((later - earlier for earlier, later in itertools.pairwise(sorted(moments))), default=0.0) * 1000
