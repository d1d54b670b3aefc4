"""What the operator sees: an alarm, how urgent it is, and what to do."""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any, Final

import msgspec

from protocols.event import Category, Event


class Priority(IntEnum):
    """Fixed classes, most urgent first. Which category has which is data: `defaults.toml` and the sites' instructions."""

    LIFE = 0
    FIRE = 1
    CONFIRMED = 2
    INTRUSION = 3
    TECHNICAL = 4
    FAULT = 5
    SCHEDULE = 6
    LOG = 9
    """Kept in the journal; reaches no operator by itself."""


class AlarmState(StrEnum):
    """Where an alarm stands."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    CLOSED = "closed"


class Action(StrEnum):
    """What the queue does with an event."""

    RAISE = "raise"
    """Join the site's open alarm, else open one."""
    JOIN = "join"
    """Join the site's open alarm, else only the journal has it: a restore, an opening, a closing, a cancel."""
    LOG = "log"
    """Only the journal has it."""


class Placement(msgspec.Struct, frozen=True):
    """What `decide` says of one event."""

    id: str
    """The event's id, `<journal>-<position>-<n>`: sortable, and the same at each replay."""
    event: Event
    action: Action
    priority: Priority
    instruction: str
    """The name of the instruction that matched."""
    steps: tuple[str, ...]
    repeat_of: str | None = None
    """The id of the event that this one repeats, where its frame was a retransmission, or refused as one before it was."""
    mark: str = ""
    """What was wrong with its frame, where it is raised all the same."""
    needs: str | None = None
    """The id of an earlier event without whose entry this would have been decided otherwise: a refill begins there."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One thing for one person to handle: a site's events while it is open. As Redis holds it."""

    id: str
    """That of the event that opened it."""
    site: str
    name: str
    """The site's name, for people."""
    account: str
    priority: Priority
    category: Category
    label: str
    """What its most urgent event means."""
    instruction: str
    steps: tuple[str, ...]
    state: AlarmState
    opened_at: int
    """When the centre received the event that opened it, ms since 1970."""
    events: int
    repeats: int
    """Retransmissions that joined it."""
    returned: int
    """How often a lease ran out and the alarm came back to the queue."""
    owner: str | None = None
    fence: int | None = None
    lease_until: int | None = None
    """ms since 1970."""
    outcome: str | None = None
    note: str | None = None
    closed_at: int | None = None

    @classmethod
    def read(cls, fields: Mapping[bytes, bytes]) -> "Alarm":
        """Make an alarm of its hash, whose fields are all texts; one that cannot be read hides no other, and is shown as that."""
        values: dict[str, Any] = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
        try:
            values["steps"] = msgspec.json.decode(values["steps"])
            return msgspec.convert(values, cls, strict=False)
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            odd = {field: values.get(field, "") for field in ("id", "site", "name", "account", "instruction")}
            fence = values.get("fence", "")
            return cls(
                **odd,
                priority=Priority.TECHNICAL,
                category=Category.UNKNOWN,
                label=f"This alarm cannot be read: {error}",
                steps=(),
                state=AlarmState.CLAIMED if fence else AlarmState.WAITING,
                opened_at=0,
                events=0,
                repeats=0,
                returned=0,
                fence=int(fence) if fence.isdigit() else None,
            )


LEASE_S: Final = 30
"""A console renews every 10 s; a dead one's alarm is back after this."""
