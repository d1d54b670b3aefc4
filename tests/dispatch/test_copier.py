"""What people do is in the register on disk before Redis is told that it is, and the receiver learns how far dispatch is."""

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dispatch import copier
from dispatch.alarm_queue import AlarmQueue, AlarmRefused, end
from dispatch.copier import Copier
from dispatch.register import Register, RegisterReader
from receiver.delivered import Delivered
from receiver.log import LineWriter
from tests.dispatch.desk import Follower, J, event

NOTE = "Mrs. Martin was afraid"


class Desk:
    """A copier at work, and what it writes."""

    def __init__(self, folder: Path, queue: AlarmQueue) -> None:
        self.folder, self.queue = folder, queue
        self.register = Register(folder)
        self.cursor = 0
        self._log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
        self.lines = LineWriter(self._log)
        self.copier = Copier(folder, queue, self.register, self.lines)
        self.task = asyncio.create_task(self.copier.run(J, lambda: self.cursor))

    async def copied(self, count: int) -> None:
        """Wait for so many acts."""
        async with asyncio.timeout(5):
            while self.register.position < count:  # noqa: ASYNC110 - a file tells nothing
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        await end(self.task)
        self.register.close()
        self.lines.close()
        os.close(self._log)


@pytest.fixture
async def desk(tmp_path: Path, queue: AlarmQueue, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(copier, "LOOK_MS", 20)
    desk = Desk(tmp_path, queue)
    yield desk
    await desk.close()


async def test_acts_are_copied_told_and_noted_in_redis_without_their_note_in_the_log(
    desk: Desk, queue: AlarmQueue, follower: Follower
) -> None:
    await follower.put("shop", event(1))
    alarm = await queue.claim("Anne", 60)
    assert alarm
    await queue.close(alarm.id, alarm.fence or 0, 1, "real", NOTE)
    await desk.copied(2)
    reader = RegisterReader(desk.folder)
    (_, claim), (_, close) = reader.acts(0, 10)
    reader.close()
    assert (claim.act, claim.operator, close.act, close.outcome, close.note) == ("claim", "Anne", "close", "real", NOTE)
    assert close.cursors == {J: 1}
    async with asyncio.timeout(5):
        while await queue.cursor(f"register:{desk.register.id}") != 2:  # noqa: ASYNC110 - Redis is asked
            await asyncio.sleep(0.01)
    position, digest = desk.register.head
    assert (await queue.heads())[f"register:{desk.register.id}"] == (position, digest.hex())
    desk.lines.close()
    told = [json.loads(line) for line in (desk.folder / "log").read_text().splitlines()]
    assert [line["event"] for line in told] == ["alarm_claimed", "alarm_closed"]
    assert (told[1]["alarm"], told[1]["operator"], told[1]["priority"], told[1]["outcome"]) == (
        alarm.id,
        "Anne",
        "intrusion",
        "real",
    )
    assert NOTE not in (desk.folder / "log").read_text()


async def test_the_receiver_learns_the_cursor_and_the_oldest_open_alarm(
    desk: Desk, queue: AlarmQueue, follower: Follower
) -> None:
    async def told(oldest: int | None) -> None:
        async with asyncio.timeout(5):
            while Delivered.read(desk.folder) != Delivered(J, desk.cursor, oldest):  # noqa: ASYNC110 - a file tells nothing
                await asyncio.sleep(0.01)

    await told(None)
    await follower.put("shop", event(1))
    await follower.put("bank", event(2))
    desk.cursor = 2
    await told(1)
    alarm = await queue.claim("Anne", 60)
    assert alarm
    await queue.close(alarm.id, alarm.fence or 0, 1, "real", "")
    await told(2)


async def test_a_redis_that_lost_what_was_copied_is_noticed(desk: Desk, queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("shop", event(1))
    assert await queue.claim("Anne", 60)
    await desk.copied(1)
    await asyncio.sleep(0.05)
    await queue._send("FLUSHALL")
    with pytest.raises(AlarmRefused, match="BEHIND"):
        await asyncio.wait_for(desk.task, 5)


async def test_an_emptied_redis_never_tells_that_nothing_is_open(desk: Desk, queue: AlarmQueue, follower: Follower) -> None:
    await follower.put("shop", event(1))
    desk.cursor = 1
    async with asyncio.timeout(5):
        while Delivered.read(desk.folder) != Delivered(J, 1, 1):  # noqa: ASYNC110 - a file tells nothing
            await asyncio.sleep(0.01)
    await queue._send("FLUSHALL")
    with pytest.raises(AlarmRefused, match="BEHIND"):
        await asyncio.wait_for(desk.task, 5)
    assert Delivered.read(desk.folder) == Delivered(J, 1, 1)


async def test_a_register_that_cannot_be_written_holds_nothing_up_and_gets_every_act_once_it_can(
    desk: Desk, queue: AlarmQueue, follower: Follower
) -> None:
    """Another program has its file; what was closed meanwhile counts as open, for whoever would have to refill Redis."""

    async def told(cursor: int, oldest: int | None) -> None:
        async with asyncio.timeout(10):
            while Delivered.read(desk.folder) != Delivered(J, cursor, oldest):  # noqa: ASYNC110 - a file tells nothing
                await asyncio.sleep(0.01)

    await follower.put("shop", event(1))
    desk.cursor = 1
    await told(1, 1)
    first = await queue.claim("Anne", 60)
    assert first
    await desk.copied(1)
    (file,) = (desk.folder / "register").glob("*.db")
    desk.register._ledger._segment._database.execute("PRAGMA busy_timeout = 20")
    with capture_logs() as said:
        taken = sqlite3.connect(file, isolation_level=None)
        taken.execute("BEGIN IMMEDIATE")
        await queue.close(first.id, first.fence or 0, 1, "real", "")
        await follower.put("bank", event(2))
        desk.cursor = 2
        await told(2, 1)
        assert desk.copier.failing
        assert not desk.task.done()
        taken.rollback()
        taken.close()
        await desk.copied(2)
        await told(2, 2)
        assert desk.copier.failing is None
    failed, again = said
    assert (failed["event"], failed["file"], again["event"]) == ("register_failed", "register", "register_written_again")
    assert "reports are dispatched" in failed["effect"]


async def test_a_file_for_the_receiver_that_cannot_be_written_is_told_and_written_later(
    desk: Desk, queue: AlarmQueue, follower: Follower
) -> None:
    in_its_way = desk.folder / "delivered.json.new"
    with capture_logs() as said:
        in_its_way.mkdir()
        await follower.put("shop", event(1))
        desk.cursor = 1
        async with asyncio.timeout(5):
            while not desk.copier.failing:  # noqa: ASYNC110 - it is asked, it does not tell
                await asyncio.sleep(0.01)
        assert await queue.claim("Anne", 60)
        await desk.copied(1)
        in_its_way.rmdir()
        async with asyncio.timeout(5):
            while desk.copier.failing:  # noqa: ASYNC110 - it is asked, it does not tell
                await asyncio.sleep(0.01)
    assert Delivered.read(desk.folder) == Delivered(J, 1, 1)
    assert [(line["event"], line.get("file")) for line in said] == [
        ("register_failed", "delivered.json"),
        ("register_written_again", None),
    ]
