"""What the gateway says of itself is an alarm that an operator can claim and close."""

from datetime import UTC, datetime, timedelta

from dispatch import own_site
from dispatch.alarm_queue import AlarmQueue
from tests.dispatch.desk import J

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


async def test_it_opens_one_alarm_and_what_comes_later_joins_it(queue: AlarmQueue) -> None:
    await own_site.tell(queue, J, "disk_full", "The disk is full", ("Make room",), NOW)
    await own_site.tell(queue, J, "disk_full", "The disk is full", ("Make room",), NOW)
    await own_site.tell(queue, J, "disk_full", "The disk is full again", ("Make room",), NOW + timedelta(minutes=5))
    (alarm,) = await queue.open_alarms(10)
    assert (alarm.site, alarm.name, alarm.label, alarm.steps, alarm.events) == (
        "(centre)",
        "This centre",
        "The disk is full",
        ("Make room",),
        2,
    )
    assert [event["text"] for event in await queue.events(alarm.id, 0, -1)] == ["The disk is full", "The disk is full again"]
    claimed = await queue.claim("Anne", 60)
    assert claimed
    await queue.close(claimed.id, claimed.fence or 0, 2, "mended", "")
    assert await queue.open_alarms(10) == []


async def test_no_cursor_moves(queue: AlarmQueue) -> None:
    await own_site.tell(queue, J, "disk_full", "The disk is full", (), NOW)
    assert await queue.cursors() == {}
