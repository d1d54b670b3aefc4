"""What the operator sees: an alarm, how urgent it is, and what to do."""

from enum import IntEnum, StrEnum
from typing import Final

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


LEASE_S: Final = 30
"""A console renews every 10 s; a dead one's alarm is back after this."""
