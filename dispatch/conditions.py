"""
When an instruction applies: one class per rule, and the union of them.

    { rule = "category",  in = ["burglary", "tamper"] }
    { rule = "code",      in = ["BA", "130"], format = "sia" }
    { rule = "zone",      in = ["5", "012"] }
    { rule = "partition", in = ["1"] }
    { rule = "between",   from = "22:00", to = "06:00", days = ["fri", "sat"] }

Pure: an event and a time in, yes or no out. A new rule is one class here and one word in `Condition`.
"""

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, field

from protocols.event import Category, Event

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DayName = Annotated[Day, Meta(description=f"one of {' '.join(_DAYS)}")]

_Texts = Annotated[
    tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1, description='a list of one text or more: ["1"]')
]
_Time = Annotated[str, Meta(pattern=r"\A([01]\d|2[0-3]):[0-5]\d\Z", description='a time of day in quotes, "00:00" to "23:59"')]


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="rule"):
    """What all rules share: how they are written."""


class CodeIs(_Rule, frozen=True, tag="code"):
    """The panel's code is one of these, compared without case."""

    codes: _Texts = field(name="in")
    format: Literal["sia", "contact_id"] | None = None
    """Only in this code space; None: in any."""

    def holds(self, event: Event, local: datetime) -> bool:  # noqa: ARG002 - every rule is asked alike
        """Say whether the event has such a code."""
        return self.format in {None, event.format} and event.code.upper() in map(str.upper, self.codes)


class CategoryIs(_Rule, frozen=True, tag="category"):
    """The event is of one of these categories."""

    categories: Annotated[tuple[Category, ...], Meta(min_length=1, description="a list of one category or more")] = field(
        name="in"
    )

    def holds(self, event: Event, local: datetime) -> bool:  # noqa: ARG002 - every rule is asked alike
        """Say whether the event is of such a category."""
        return event.category in self.categories


class ZoneIs(_Rule, frozen=True, tag="zone"):
    """It happened in one of these zones, compared without leading zeros. An event without a zone is in none."""

    zones: _Texts = field(name="in")

    def holds(self, event: Event, local: datetime) -> bool:  # noqa: ARG002 - every rule is asked alike
        """Say whether the event has such a zone."""
        return event.zone is not None and plain(event.zone) in map(plain, self.zones)


class PartitionIs(_Rule, frozen=True, tag="partition"):
    """It happened in one of these partitions, compared without leading zeros. An event without one is in none."""

    partitions: _Texts = field(name="in")

    def holds(self, event: Event, local: datetime) -> bool:  # noqa: ARG002 - every rule is asked alike
        """Say whether the event has such a partition."""
        return event.partition is not None and plain(event.partition) in map(plain, self.partitions)


class Between(_Rule, frozen=True, tag="between"):
    """
    The centre received it in this window of the day, by the clocks at the site: `start` belongs to it, `end` does not.

    A window over midnight belongs to the day on which it starts. Wall clock times are compared, so the window lasts an hour
    less or more where the clocks change within it.
    """

    start: _Time = field(name="from")
    end: _Time = field(name="to")
    days: Annotated[tuple[_DayName, ...], Meta(min_length=1, description="a list of one day or more")] = _DAYS

    def __post_init__(self) -> None:
        """Refuse a window without length: is it never, or all day."""
        if self.start == self.end:
            raise ValueError("`from` and `to` are the same: leave the rule out for all day")

    def holds(self, event: Event, local: datetime) -> bool:  # noqa: ARG002 - every rule is asked alike
        """Say whether `local`, the time of receipt in the site's zone, is in the window."""
        time = f"{local.hour:02}:{local.minute:02}"  # of fixed width, so text sorts as time does
        today, yesterday = _DAYS[local.weekday()], _DAYS[local.weekday() - 1]
        if self.start < self.end:
            return self.start <= time < self.end and today in self.days
        return (time >= self.start and today in self.days) or (time < self.end and yesterday in self.days)


Condition = CodeIs | CategoryIs | ZoneIs | PartitionIs | Between


def plain(number: str) -> str:
    """Give a zone's or partition's number in the form in which it is compared: "005" is "5", "0a" is "A", "000" is "0"."""
    return number.lstrip("0").upper() or number[:1]
