"""The baseline: a uvloop server that answers one fixed ACK to every CR, and does nothing else."""

import asyncio
import sys
from typing import cast

import uvloop

ACK = b'\n32650012"ACK"0000L0#0123[]\r'


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ACK * data.count(b"\r"))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", port)
    print("ready", flush=True)  # noqa: T201 - the bench waits for it
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
