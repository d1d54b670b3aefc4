"""What keeps a connection open: the pause between attempts grows, and ends with the listener."""

import asyncio

import pytest

from receiver.attach import AttachedListener
from receiver.journal import Journal
from tests.receiver.attached import attached
from tests.receiver.conftest import until


class Never(AttachedListener):
    attempts = 0

    async def attach(self) -> None:
        Never.attempts += 1
        raise ConnectionRefusedError("no")


async def test_the_pause_grows_and_the_failure_is_raised_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real = asyncio.sleep

    async def noted(delay: float) -> None:
        pauses.append(delay)
        await real(0)

    monkeypatch.setattr("receiver.attach.asyncio.sleep", noted)
    async with attached(Never, journal, "127.0.0.1:1") as door:
        while Never.attempts < 9:
            await real(0.001)
        assert (door.connections, door.addresses) == (0, ["127.0.0.1:1"])
    assert pauses[:8] == [0.25, 0.5, 1, 2, 4, 8, 15, 15]
    monkeypatch.undo()
    await until(lambda: journal.durable == 1)
    assert journal.appended == 1
