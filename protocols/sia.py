"""
Event format: SIA (DC-03), as DC-09, Sur-Gard and Bosch carry it.

    content  = block | block | ...
    block    = N or O, then pieces        a new or an old event
             | A, then text               it belongs to the event before
    pieces   = modifier / code address / ^text^ / ...        the slashes are optional

    Nda11-22-26/ti10:00:00/id12/ri2/CL|NBA001^kitchen^|Aback door

Modifiers hold for the codes after them in their block until they are replaced: da date, ti time, id user, ri area, pi device.
Those that no field of an event takes (ph, lv, va, vn ..., and unknown ones) are kept in `Event.extended` of the first event
after them. What can't be read becomes a raw event, so that nothing is lost.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from protocols import codes
from protocols.event import Category, Event, Format, Qualifier
from protocols.link import utc

EVENTS_MAX: Final = 64
"""From one content. Where it holds more, the last event is raw and has the whole content."""

_PLAIN: Final = re.compile(r"([NO])(?:ri([0-9]+)/?)?([A-Z]{2})([0-9]*)")
"""What nearly all panels send nearly always: one code, at most an area before it."""

_BLOCK: Final = re.compile(
    r"""
    A [^|]*+                                    # ASCII: to the next bar
    | (?: [^|^]++ | \^ [^^]*+ \^ | \^ )+        # a bar between ^ and ^ is text; a ^ without its second takes no bar in
    """,
    re.VERBOSE,
)
_PIECE: Final = re.compile(
    r"""
    \^ (?P<text> [^^]*+ ) \^?                                   # without its second ^, the rest of the block
    | (?P<modifier> [a-z]{2} | Da | Ti | Id | Ri | P[hit] | Ai | Lv | V[an] | Rg | Ss )
      (?P<value> (?: [^A-Za-z/^] | [A-Fa-f](?![A-Za-z])         # a lone hex letter is a digit, two letters are the next piece
                 | [a-f](?=[A-Z]{2}) )+
               | (?= [A-Z/] ) )
    | (?P<code> [A-Z]{2} )
      (?: [ ]*+ (?=[0-9]) )?                                    # `BA 01`
      (?: (?P<address> [0-9A-Fa-f]{1,4} (?![0-9A-Za-z])         # four hex digits by the standard,
                     | [0-9]++ )                                # any number of decimal ones in the field
        | (?![A-Za-z]) | (?= [a-z][a-z][0-9] ) )                # none: then no letter follows, but a modifier may
    | \* (?: ' (?P<name> [^'^]*+ ) ' [A-Z]{2} | (?P<units> [^/^]*+ ) )       # *'SITE'NM of one vendor; a measured value
    | (?<=/) A (?P<ascii> [^/^]++ )                             # the ASCII block joined by a slash, of another
    | (?P<unread> [^/^ ][^/^]*+ )
    """,
    re.VERBOSE,
)
_MODIFIERS: Final = frozenset({"da", "ti", "id", "ri", "pi", "ph", "pt", "ai", "lv", "va", "vn", "rg", "ss"})
"""Known by name. Another pair of small letters is one too, unless it is a code that somebody wrote small: that is raised."""
_TAKEN: Final = frozenset({"da", "ti", "id", "ri", "pi"})
"""Those of them that fields of an event take."""
_DATE: Final = re.compile(r"([0-9]{2})-([0-9]{2})-(?:20)?([0-9]{2})")
_TIME: Final = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?")


class _Reading(msgspec.Struct):
    """An event as far as it is read: text may still join it."""

    code: str = ""
    """Empty: no code was read yet, or what is in `texts` could not be read."""
    address: str | None = None
    modifiers: dict[str, str] = {}
    kept: list[tuple[str, str]] = []
    """Modifiers of which no field of an event takes the value."""
    texts: list[str] = []
    old: bool = False


def parse(  # noqa: PLR0913, PLR0917 - what the link knows of the event comes with its content
    content: str,
    now: datetime,
    account: str,
    receiver: str | None,
    line: str | None,
    occurred_at: datetime | None = None,
    extended: tuple[tuple[str, str], ...] = (),
    time_zone: ZoneInfo | None = None,
) -> tuple[Event, ...]:
    """
    Read the events of one content, in order, at most `EVENTS_MAX`. Empty where no code can be read in it; never raises.

    content: DC-03 blocks, without the `#account|` before them. now: the time of receipt, UTC; it completes a time without a date.
    occurred_at: the link's word, before the content's own. The rest is what the link knows, and
    goes into each event as it is; `extended` into the first alone. time_zone: that of the panel's clock; None: UTC.
    A code that the table does not know is kept, its category is `unknown`.
    """
    plain = _PLAIN.fullmatch(content)
    if plain is not None:
        block, area, code, address = plain.groups()
        qualifier, category, area, zone, user = _meaning(code, address or None, area, None, None)
        form, old = Format.SIA, block == "O"
        return (
            Event(account, form, code, qualifier, category, receiver, line, area, zone, user, occurred_at, None, extended, old),
        )
    readings = _read(content)
    if not any(reading.code for reading in readings):
        return ()
    if len(readings) > EVENTS_MAX:
        readings[EVENTS_MAX - 1 :] = [_Reading(texts=[content])]
    events = []
    for reading in readings:
        code, modifier = reading.code, reading.modifiers.get
        qualifier, category, partition, zone, user = _meaning(
            code, reading.address, modifier("ri"), modifier("pi"), modifier("id")
        )
        form = Format.SIA if code else Format.RAW
        at = _occurred_at(modifier("da"), modifier("ti"), now, time_zone, old=reading.old)
        taken = {"ri": partition, "pi": None if modifier("ri") else partition, "id": user}
        kept = [
            (name, value)
            for name, value in reading.kept
            if (at is None if name in {"da", "ti"} else name not in taken or value not in {"", taken[name]})
        ]
        text = " ".join([text for text in map(str.rstrip, reading.texts) if text]) or None
        at, more, old = occurred_at or at, (*extended, *kept), reading.old
        events.append(Event(account, form, code, qualifier, category, receiver, line, partition, zone, user, at, text, more, old))
        extended = ()  # once is enough: with each of 64 events it would be a burden that a peer could make us carry
    return tuple(events)


def _read(content: str) -> list[_Reading]:
    """Take `content` apart, block by block."""
    readings: list[_Reading] = []
    current = _Reading()  # takes the text that comes before the first code
    for block in map(str.strip, _BLOCK.findall(content)):
        match block[:1]:
            case "N" | "O":
                current = _read_pieces(block, readings, current)
            case "A":
                current.texts.append(block[1:].strip("^"))
            case "":
                pass
            case _:
                readings.append(_Reading(texts=[block]))
    return readings


def _read_pieces(block: str, readings: list[_Reading], current: _Reading) -> _Reading:
    """Add an N or O block's events to `readings`. Text goes to `current`; what it is after the block is returned."""
    modifiers: dict[str, str] = {}
    waiting: list[tuple[str, str]] = []  # modifiers that no event has yet
    ours = False
    for piece in _PIECE.finditer(block, 1):
        match piece.lastgroup:
            case "value":
                name, value = piece["modifier"].lower(), piece["value"].strip()
                if name not in _MODIFIERS and codes.sia(name.upper()):
                    readings.append(_Reading(texts=[piece[0]]))
                    continue
                if name in _TAKEN:
                    modifiers = {**modifiers, name: value}
                waiting.append((name, value))
            case "code" | "address":
                if current.code:
                    current = _Reading()
                current.code, current.address, current.modifiers, ours = piece["code"], piece["address"], modifiers, True
                current.kept, current.old, waiting = waiting, block[0] == "O", []
                readings.append(current)
            case "unread":
                readings.append(_Reading(texts=[piece["unread"]]))
            case "text" | "name" | "units" | "ascii" as group:
                current.texts.append(piece[group])
    if ours:
        # some panels write the area behind the only code: `NFA2/ri6`
        current.modifiers = {**modifiers, **current.modifiers}
        current.kept += waiting
    return current


def _meaning(
    code: str, address: str | None, area: str | None, peripheral: str | None, user: str | None
) -> tuple[Qualifier, Category, str | None, str | None, str | None]:
    """
    Say what a code means and what its address names.

    area, peripheral, user: the values of `ri`, `pi` and `id`. Gives qualifier, category, partition, zone and user.
    """
    known = codes.sia(code)
    if known is None:
        return Qualifier.NEW, Category.UNKNOWN, area or peripheral, address, user
    if known.address == "user":
        return known.qualifier, known.category, area or peripheral, None, address or user
    if known.address == "area" and not area:
        return known.qualifier, known.category, address or peripheral, None, user
    return known.qualifier, known.category, area or peripheral, address, user


def _occurred_at(day: str | None, moment: str | None, now: datetime, zone: ZoneInfo | None, *, old: bool) -> datetime | None:
    """
    Say when the panel says it happened: its date and time, or the time on the day that brings it nearest to `now`.

    What is old has happened: then it is the last time before `now` that the panel's clock showed it.
    """
    clock = _TIME.fullmatch(moment or "")
    calendar = _DATE.fullmatch(day or "")
    if clock is None or (day and calendar is None):
        return None
    try:
        hour, minute, second = (int(part or 0) for part in clock.groups())
        at = time(hour, minute, second)
        if calendar is not None:
            month, day_of_month, year = (int(part) for part in calendar.groups())
            return utc(datetime.combine(date(2000 + year, month, day_of_month), at), zone, now)
        today = now.astimezone(zone or UTC).date()
        # Two days back: where the clock goes forward at midnight, yesterday's last hour was never shown (America/Nuuk)
        moments = [utc(datetime.combine(today + timedelta(days=offset), at), zone, now) for offset in (-2, -1, 0, 1)]
    except (ValueError, OverflowError):  # no such date or time; or `now` stands at the end of all calendars
        return None
    return min((each for each in moments if each <= now or not old), key=lambda each: abs(each - now))


def build(event: Event) -> str:
    """
    Write `event` as `Nri1/BA005`: area, user where the number does not name one, code, number, text. The inverse of `parse`.

    It leaves out the time, for which the link has a field, and what is in `extended`.
    """
    known = codes.sia(event.code)
    is_user = known is not None and known.address == "user"
    area = f"ri{event.partition}/" if event.partition else ""
    user = f"id{event.user}/" if event.user and not is_user else ""
    address = event.user if is_user else event.zone
    text = f"^{event.text}^" if event.text else ""
    return f"{'O' if event.old else 'N'}{area}{user}{event.code}{address or ''}{text}"
