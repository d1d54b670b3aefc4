"""
TCP to a receiver that waits to be dialled, as Sur-Gard's System III does on port 1025.

    address = "192.0.2.7:1025" -> connection -> Session
"""

import asyncio
from typing import Final

from receiver.attach import AttachedListener
from receiver.listen import keep_alive

DIAL_S_MAX: Final = 10.0
"""So long an attempt may take."""


class DialListener(AttachedListener):
    """`transport = "dial"`."""

    async def attach(self) -> None:
        """Connect. Raises OSError or TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DIAL_S_MAX):
            transport, _ = await loop.create_connection(self.make, self.listener.host, self.listener.port)
        keep_alive(transport.get_extra_info("socket"))
