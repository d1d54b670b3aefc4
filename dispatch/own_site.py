"""
The centre's own site: what the gateway has to say of itself becomes an alarm like any other, as long as Redis lives.

    full disk -> tell() -> AlarmQueue.put() -> the site `(centre)`
"""

from datetime import datetime
from typing import Final

import msgspec

from dispatch.alarm import Action, Priority
from dispatch.alarm_queue import AlarmQueue, PutEvent, SiteChange
from dispatch.sites import Site
from protocols.event import CENTRE, Category, Event, Format, Qualifier

ID: Final = CENTRE
"""No site of a file can have this id."""
NAME: Final = "This centre"
OWN: Final = Site((), ID, NAME)
"""Where what receivers say of themselves and of their lines is filed: events of the account `(centre)`."""


async def tell(queue: AlarmQueue, journal: str, what: str, text: str, steps: tuple[str, ...], now: datetime) -> None:  # noqa: PLR0913, PLR0917 - an alarm
    """
    Raise an alarm of the centre, or join the one that is open. No cursor moves: it is said again if it is true later.

    journal: the id of this node's. what: one word for the log. text: for the operator, who also reads the steps. Raises what
    `AlarmQueue.put` raises.
    """
    event_id = f"{journal}-{what}-{int(now.timestamp())}"
    event = Event(CENTRE, Format.ARCGATE, what, Qualifier.NEW, Category.GENERATED, text=text)
    head = {
        "id": event_id,
        "received_at": now,
        "label": text,
        "priority": Priority.TECHNICAL,
        "instruction": "the gateway's own",
    }
    put = PutEvent(
        id=event_id,
        at=int(now.timestamp() * 1000),
        action=Action.RAISE,
        priority=Priority.TECHNICAL,
        life=False,
        account=event.account,
        category=event.category,
        label=text,
        instruction="the gateway's own",
        steps=msgspec.json.encode(steps).decode(),
        body=msgspec.json.encode(head | msgspec.to_builtins(event)).decode(),
    )
    version = -1
    while True:
        change = SiteChange(site=ID, name=NAME, version=version, state="", position=0, events=(put,))
        result = await queue.put(journal, 0, [change])
        if not result.moved:
            return
        version = result.moved[0].version
