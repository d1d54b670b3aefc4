"""The primary dies, and its replica was behind: no two consoles hold one alarm, and dispatch brings the replica up by itself."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dispatch.alarm import Alarm, AlarmState
from dispatch.alarm_queue import AlarmQueue, AlarmRefused, connect
from tests.acceptance.conftest import Centre
from tests.conftest import sia
from tests.dispatch.desk import claim, fence, refused
from tests.valkey import Valkey, events_in_alarms

SITES = 10


class Pair:
    """A primary and its replica, and a gateway that finds the one in charge by a name."""

    def __init__(self, home: Path) -> None:
        self.primary, self.replica, self._name = Valkey(home / "p"), Valkey(home / "r"), home / "v.sock"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = str(free.getsockname()[1])
        self.primary.start(port=self._port, bind="127.0.0.1", **{"repl-diskless-sync-delay": "0"})
        self.replica.start()
        self._name.symlink_to(self.primary.socket)
        self.centre = Centre(home, f"unix://{self._name}", SITES)

    async def replicate(self, primary: Redis, replica: Redis) -> None:
        """Return when the replica has all that the primary has."""
        await replica.replicaof("127.0.0.1", self._port)
        async with asyncio.timeout(10):
            while (await replica.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110 - Redis is asked
                await asyncio.sleep(0.02)
            while not await primary.wait(1, 1000):
                pass

    async def promote(self) -> None:
        """Give its name to the replica; return when dispatch has brought it up."""
        self._name.unlink()
        self._name.symlink_to(self.replica.socket)
        await self.centre.says("dispatching", 2, s_max=20)
        await self.centre.settled()

    def stop(self) -> None:
        self.centre.stop(signal.SIGKILL)
        self.primary.stop()
        self.replica.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.stop()


async def copied(centre: Centre, queue: AlarmQueue) -> None:
    """Wait until the register has what was done."""
    async with asyncio.timeout(5):
        while 4 not in [position for name, position in (await queue.cursors()).items() if ":" in name]:  # noqa: ASYNC110 - Redis is asked
            await asyncio.sleep(0.01)
    assert len(centre.told("register", "list")) == 4


async def test_a_replica_that_was_behind_takes_over(pair: Pair) -> None:
    """
    On the primary Anne closed one alarm and holds two others, of which the replica knows nothing.

    There Bob claims the first two at once: he loses what was closed, keeps what Anne held, and she keeps what he did not take.
    """
    centre = pair.centre
    centre.start()
    async with connect(pair.primary.url, Path()) as primary, connect(pair.replica.url, Path()) as replica:
        await centre.send(*(sia(str(1000 + n), f"Nri1/BA{n + 1}") for n in range(6)))
        await pair.replicate(primary, replica)
        await replica.replicaof("NO", "ONE")
        before, after = AlarmQueue(primary, "main"), AlarmQueue(replica, "main")
        closed, taken, kept = [await claim(before, "anne", 60) for _ in range(3)]
        await before.close(closed.id, fence(closed), 1, "false_alarm", "")
        await centre.send(*(sia(str(1000 + n), f"Nri1/FA{n + 1}", 2) for n in range(3, SITES)))
        await copied(centre, before)
        pair.primary.stop()

        of_bob = [await claim(after, "bob", 60) for _ in range(2)]
        assert [alarm.id for alarm in of_bob] == [closed.id, taken.id]
        assert all(fence(alarm) > fence(kept) for alarm in of_bob)
        await no_more_his(after, taken)
        with pytest.raises(AlarmRefused, match="NOTYET"):
            await after.close(taken.id, fence(of_bob[1]), 1, "real", "")
        await pair.promote()

        await no_more_his(after, taken)
        await no_more_his(after, of_bob[0])
        for alarm, owner in ((of_bob[1], "bob"), (kept, "anne")):
            await after.renew(alarm.id, fence(alarm), 60)
            now = await after.alarm(alarm.id)
            assert now
            assert (now.state, now.owner, now.fence) == (AlarmState.CLAIMED, owner, alarm.fence)
            await after.close(alarm.id, fence(alarm), 1, "real", "")
        assert len(await after.open_alarms(100)) == SITES - 3
        events = await events_in_alarms(replica, "main")
        assert (len(events), set(events.values())) == (6 + SITES - 3, {1})
        for what in ("journal", "register"):
            (told,) = centre.told(what, "verify")
            assert told["ok"]
    assert centre.stop() == 0
    (head,) = centre.logged("register_head")
    assert (head["position"], head["digest"]) == (told["entries"], told["digest"])
    assert "Traceback" not in centre.log.read_text()


async def no_more_his(queue: AlarmQueue, alarm: Alarm) -> None:
    """Whoever has this claim may do nothing with it."""
    await refused("FENCED", queue.renew(alarm.id, fence(alarm), 60))
    await refused("FENCED", queue.release(alarm.id, fence(alarm)))
    await refused("FENCED", queue.close(alarm.id, fence(alarm), 99, "real", ""))
