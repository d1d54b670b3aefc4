"""A panel that sends a frame again: it is always acknowledged and journalled, and an operator sees it once, with a count."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from dispatch.alarm import Alarm
from dispatch.alarm_queue import AlarmQueue, connect
from protocols.dc09 import Frame, build
from tests.acceptance.conftest import Centre
from tests.conftest import sia
from tests.valkey import Valkey


def again(frame: Frame, seconds: int) -> Frame:
    """The same frame as some panels repeat it: with a new timestamp."""
    return msgspec.structs.replace(frame, timestamp=datetime.now(UTC) + timedelta(seconds=seconds))


async def open_alarms(centre: Centre) -> list[Alarm]:
    async with connect(centre.redis_url, centre.state_dir) as redis:
        return await AlarmQueue(redis, "main").open_alarms(100)


async def close_first(centre: Centre) -> str:
    """Claim and close the most urgent alarm; gives its id."""
    async with connect(centre.redis_url, centre.state_dir) as redis:
        queue = AlarmQueue(redis, "main")
        alarm = await queue.claim("anna", 30)
        assert alarm
        assert alarm.fence
        await queue.close(alarm.id, alarm.fence, alarm.events, "handled", "")
        return alarm.id


def told(alarms: list[Alarm]) -> list[tuple[str, int, int]]:
    return [(alarm.site, alarm.events, alarm.repeats) for alarm in alarms]


async def test_over_one_connection_over_another_and_after_a_restart(centre: Centre) -> None:
    frame = sia("1001", "Nri1/BA5")
    centre.start()
    await centre.send(frame, again(frame, 1), again(frame, 12))
    await centre.send(again(frame, 13))
    assert centre.stop() == 0
    centre.start()
    await centre.send(again(frame, 14))
    assert centre.stop() == 0
    centre.start()
    await centre.send(again(frame, 15))
    assert told(await open_alarms(centre)) == [("site 1", 1, 5)]
    assert len(centre.entries()) == 6
    assert len({entry.report.identity for entry in centre.entries()}) == 1


async def test_after_the_close_it_is_raised_anew_once(centre: Centre) -> None:
    frame = sia("1001", "Nri1/BA5")
    centre.start()
    await centre.send(frame, again(frame, 1))
    closed = await close_first(centre)
    await centre.send(again(frame, 2), again(frame, 3), again(frame, 4))
    alarms = await open_alarms(centre)
    assert told(alarms) == [("site 1", 1, 2)]
    assert alarms[0].id != closed


async def test_a_sequence_that_never_changes_is_no_repetition_of_other_data(centre: Centre) -> None:
    """Some panels send everything with 0000."""
    frames = [sia("1001", f"Nri1/BA{zone}", 0) for zone in range(1, 4)]
    centre.start()
    await centre.send(*frames, again(frames[0], 1))
    assert told(await open_alarms(centre)) == [("site 1", 3, 1)]


async def test_what_differs_in_account_line_receiver_or_sequence_is_another_report(centre: Centre) -> None:
    frame = sia("1001", "Nri1/BA5")
    others = [
        msgspec.structs.replace(frame, sequence="0002"),
        msgspec.structs.replace(frame, line="1"),
        msgspec.structs.replace(frame, receiver="1"),
        msgspec.structs.replace(frame, extended=(("I", "Shop door"),)),
    ]
    centre.start()
    await centre.send(frame, *others[:3], frame, sia("1002", "Nri1/BA5"), others[3])
    assert sorted(told(await open_alarms(centre))) == [("site 1", 5, 1), ("site 2", 1, 0)]


async def test_it_is_known_among_the_last_four_frames_of_its_account(centre: Centre) -> None:
    first, *others = [sia("1001", f"Nri1/BA{zone}", zone) for zone in range(1, 6)]
    centre.start()
    await centre.send(first, *others[:3], again(first, 1), *others, first)
    assert told(await open_alarms(centre)) == [("site 1", 6, 4)]


async def test_refused_frames_of_an_account_are_counted_and_hide_nothing(centre: Centre) -> None:
    hold_up = sia("1001", "Nri1/HA3", 77)
    centre.start()
    await centre.send(hold_up)
    host, _, port = (await centre.address()).rpartition(":")
    for _ in range(2):
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in range(50):
            writer.write(build(Frame(id_token="XYZ", sequence=f"{number:04}", account="1001", data="")))
            assert b'"DUH"' in await asyncio.wait_for(reader.readuntil(b"\r"), 5)
        writer.close()
    await centre.send(again(hold_up, 5))
    (alarm,) = await open_alarms(centre)
    assert (alarm.site, alarm.category, alarm.events, alarm.repeats) == ("site 1", "hold_up", 2, 100)
    assert len(centre.entries()) == 102


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Centre, Centre]]:
    """Two gateways with a journal each, and one Redis."""
    server = Valkey(tmp_path / "valkey")
    server.start()
    made = []
    for name in ("north", "south"):
        (tmp_path / name).mkdir()
        node = Centre(tmp_path / name, server.url)
        node.config.write_text(f'node = "{name}"\n{node.config.read_text()}')
        made.append(node)
    yield made[0], made[1]
    for node in made:
        assert node.stop() == 0
    server.stop()


async def test_at_another_node_also_while_the_first_is_down(nodes: tuple[Centre, Centre]) -> None:
    """A panel that gets no answer goes to its other receiver, whose journal has not got the original."""
    north, south = nodes
    frame = sia("1001", "Nri1/BA5")
    north.start()
    south.start()
    await north.send(frame)
    await south.send(again(frame, 1))
    assert north.stop() == 0
    await south.send(again(frame, 2))
    assert told(await open_alarms(south)) == [("site 1", 1, 2)]
    await close_first(south)
    await south.send(again(frame, 3))
    north.start()
    await north.send(again(frame, 4))
    (alarm,) = await open_alarms(north)
    assert told([alarm]) == [("site 1", 1, 1)]
    assert alarm.id.startswith("south-")
    assert (len(north.entries()), len(south.entries())) == (2, 3)
