"""
The vocabulary everyone else speaks: what a panel reported, whatever link and format brought it.

A code space is never converted into another: `code` stays as sent, and each table maps its codes to `Category` by itself.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

CENTRE: Final = "(centre)"
"""The account of what is said of the centre itself: its receivers, their lines. No account of a file can have this number."""


class Format(StrEnum):
    """The code space that `Event.code` belongs to."""

    CONTACT_ID = "contact_id"
    SIA = "sia"
    RAW = "raw"
    """Content that no format of ours reads: kept as text, raised as unknown."""
    ARCGATE = "arcgate"
    """Made by the gateway itself; its category is `generated`."""


class Qualifier(StrEnum):
    """What happened to the condition, as sent: Contact ID 1, 3, 6; for SIA, what the code's table says."""

    NEW = "new"
    RESTORE = "restore"
    STATUS = "status"


class Category(StrEnum):
    """What kind of thing happened, in the profession's words. The gateway's own taxonomy."""

    HOLD_UP = "hold_up"
    PANIC = "panic"
    DURESS = "duress"
    MEDICAL = "medical"
    LONE_WORKER = "lone_worker"
    FIRE = "fire"
    GAS = "gas"

    BURGLARY = "burglary"
    CONFIRMED = "confirmed"
    TAMPER = "tamper"
    ACCESS = "access"
    CANCEL = "cancel"
    EXIT_ERROR = "exit_error"

    WATER = "water"
    TEMPERATURE = "temperature"
    TECHNICAL = "technical"

    POWER = "power"
    FAULT = "fault"
    PATH = "path"

    OPENING = "opening"
    CLOSING = "closing"
    BYPASS = "bypass"
    TEST = "test"
    SERVICE = "service"
    REMOTE = "remote"
    VIDEO = "video"
    STATUS = "status"

    GENERATED = "generated"
    UNKNOWN = "unknown"


LIFE_SAFETY: Final = frozenset(
    {
        Category.HOLD_UP,
        Category.PANIC,
        Category.DURESS,
        Category.MEDICAL,
        Category.LONE_WORKER,
        Category.FIRE,
        Category.GAS,
    }
)
"""Never delayed, muted, batched into noise or suppressed by a rule."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One thing that one account reported. Text fields are as sent; an absent one is None."""

    account: str
    """The account's number as sent: "0042" is not "42"."""
    format: Format
    code: str
    """In its own code space: Contact ID "130", SIA "BA"; empty for raw content."""
    qualifier: Qualifier
    category: Category
    receiver: str | None = None
    line: str | None = None
    partition: str | None = None
    zone: str | None = None
    """As sent, leading zeros kept; compared without them."""
    user: str | None = None
    occurred_at: datetime | None = None
    """The panel's own word on when it happened, UTC; the time of receipt orders everything."""
    text: str | None = None
    extended: tuple[tuple[str, str], ...] = ()
    """What came beside it and has no field here: (id, value), in order, repeats kept. DC-09's ids are one capital, the modifiers
    of SIA two small letters."""
    old: bool = False
    """SIA: sent in an O block: the panel could not send it when it happened."""

    @property
    def life_safety(self) -> bool:
        """Whether a life may hang on it: a category of `LIFE_SAFETY` that is not a restore."""
        return self.category in LIFE_SAFETY and self.qualifier is not Qualifier.RESTORE
