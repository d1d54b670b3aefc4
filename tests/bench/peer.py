"""The peer: pysiaalarm's TCP receiver as its users run it. It stores nothing."""

import asyncio
import sys
from typing import Any

from pysiaalarm.account import SIAAccount
from pysiaalarm.aio.client import SIAClient
from pysiaalarm.event import SIAEvent


async def _take(_event: SIAEvent) -> None:
    """Do nothing with it, as fast as can be."""


async def _serve(port: int) -> None:
    accounts = [SIAAccount(f"{account:04d}") for account in range(1000, 2000)]
    client: Any = SIAClient  # it makes the client for TCP by itself
    await client("127.0.0.1", port, accounts, function=_take).async_start()
    print("ready", flush=True)  # noqa: T201 - the bench waits for it
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
