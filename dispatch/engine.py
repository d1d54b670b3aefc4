"""
What the centre makes of a report.

    site, state, entry, now -> decide() -> Decision(state, placements)

For each event the first of: the site's instructions, the centre's defaults by code and by category (defaults.toml). A
condition that fails is the fallback instruction. Pure: the same answer at each replay. Total: there is an answer to everything.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from dispatch.alarm import Action, Placement, Priority
from dispatch.conditions import Between, Condition
from dispatch.sites import GHOST, PRIORITIES, Site, WrittenPriority, clock
from dispatch.state import SiteState
from protocols import codes
from protocols.errors import Reason
from protocols.event import LIFE_SAFETY, Category, Event, Format, Qualifier
from receiver.journal import Entry, Report
from receiver.load import ConfigError, Mistake, toml

JOINING: Final = frozenset({Category.OPENING, Category.CLOSING, Category.CANCEL})
"""Where they need nobody, an operator still sees them in an open alarm: they say whether people are there."""

_LANGUAGES: Final = ("en", "fr")

SILENT: Final = frozenset({Category.HOLD_UP, Category.DURESS, Category.PANIC})
"""Nothing about these goes to the premises first: whatever else fails, their own steps are shown."""
NO_RESTORES: Final = frozenset({Category.OPENING, Category.CLOSING, Category.UNKNOWN})
"""Contact ID sends a closing as a restore, and a restore of nobody knows what may be bad news."""


KNOWN_ACCOUNT: Final = frozenset(f"refused_{reason}" for reason in (Reason.WRONG_KEY, Reason.PLAIN, Reason.OLD_TIME))
"""These refusals are of accounts to whom the centre gave a key or a rule, though it may have written no site yet."""
NOT_APPLIED: Final = "refused"
"""Stands in the place of an instruction where a refused event is kept in the journal alone."""


class Decision(msgspec.Struct, frozen=True):
    """What follows from one entry: the site's next state, and one placement for each event."""

    state: SiteState
    placements: tuple[Placement, ...]


class Order(msgspec.Struct, frozen=True):
    """What an instruction says once it applies, in one language."""

    name: str
    priority: Priority
    steps: tuple[str, ...]


class _Default(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    priority: WrittenPriority
    steps: dict[str, tuple[str, ...]]


class _CodeDefault(_Default, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    sia: tuple[str, ...]
    contact_id: tuple[str, ...]
    arcgate: tuple[str, ...] = ()
    """Of the gateway's own events."""

    def codes(self) -> list[tuple[Format, str]]:
        """Give each code with its format."""
        spaces = {Format.SIA: self.sia, Format.CONTACT_ID: self.contact_id, Format.ARCGATE: self.arcgate}
        return [(form, code) for form, written in spaces.items() for code in written]


class _Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fallback: _Default
    category: dict[Category, _Default]
    code: tuple[_CodeDefault, ...]


class Defaults(msgspec.Struct, frozen=True):
    """The centre's own instructions."""

    category: Mapping[str, Mapping[Category, Order]]
    """By language, then by category: every category is there in English and in French."""
    code: Mapping[str, Mapping[tuple[Format, str], Order]]
    """By language, then by format and code: the codes of which their category says too little."""
    fallback: Mapping[str, Order]
    """By language: for an event whose site's instructions could not be followed."""


def load_defaults(path: Path) -> Defaults:
    """Read the centre's defaults. Raises ConfigError where one is missing, has no steps in a language, or mutes life-safety."""
    mistakes: list[Mistake] = []
    content = toml(path, _Defaults, mistakes)
    if content is None:
        raise ConfigError(mistakes)
    for category in Category:
        default = content.category.get(category)
        if default is None:
            mistakes.append(Mistake(str(path), f"category.{category}", "is missing: every category needs a default"))
        elif category in LIFE_SAFETY and PRIORITIES[default.priority] > Priority.FIRE:
            mistakes.append(Mistake(str(path), f"category.{category}.priority", "must be life or fire: it is life-safety"))
    mistakes += _wrong_codes(path, content.code)
    written = {f"category.{category}": default for category, default in content.category.items()} | {"fallback": content.fallback}
    written |= {f"code[{n}]": default for n, default in enumerate(content.code)}
    mistakes += [
        Mistake(str(path), f"{place}.steps.{language}", "is missing: every default needs its steps in English and in French")
        for place, default in written.items()
        for language in _LANGUAGES
        if not default.steps.get(language)
    ]
    if mistakes:
        raise ConfigError(mistakes)
    return Defaults(
        {lang: {c: _order(f"centre default: {c}", content.category[c], lang) for c in Category} for lang in _LANGUAGES},
        {
            lang: {code: _order(f"centre default: {d.name}", d, lang) for d in content.code for code in d.codes()}
            for lang in _LANGUAGES
        },
        {lang: _order("fallback", content.fallback, lang) for lang in _LANGUAGES},
    )


def _wrong_codes(path: Path, defaults: tuple[_CodeDefault, ...]) -> Iterator[Mistake]:
    for n, default in enumerate(defaults):
        for form, code in default.codes():
            if form is Format.ARCGATE:
                continue
            known = codes.sia(code) if form is Format.SIA else codes.contact_id(code)
            if known is None:
                yield Mistake(str(path), f"code[{n}].{form}", f"{code} is in no table of codes")
            elif known.category in LIFE_SAFETY:
                yield Mistake(str(path), f"code[{n}].{form}", f"{code} is life-safety: it has its category's default")


def _order(name: str, default: _Default, language: str) -> Order:
    return Order(name, PRIORITIES[default.priority], default.steps[language])


DEFAULTS: Final = load_defaults(Path(__file__).with_name("defaults.toml"))


def decide(site: Site, state: SiteState, entry: Entry, journal: str, now: datetime) -> Decision:
    """
    Decide what becomes of an entry's events at a site.

    state: the site's, before the entry. journal: the id of the journal that the entry is from. now: the entry's time of
    receipt, never the clock's. Never raises.
    """
    report = entry.report
    place = f"{journal}-{entry.position:012d}"
    if not report.events:
        return Decision(state, ())
    account = report.events[0].account
    if report.error is not None:
        return _decide_refused(site, state, report, place, now)
    if report.events[0].format is not Format.ARCGATE:  # what the gateway says of an account is no frame of it
        state = state.accept(account)
    state, original = state.hear(account, report.identity, place, now)
    placements = [
        _place(site, event, f"{place}-{n}", None if original is None else f"{original}-{n}", now, report.mark)
        for n, event in enumerate(report.events)
    ]
    return Decision(state, tuple(placements))


def _decide_refused(site: Site, state: SiteState, report: Report, place: str, now: datetime) -> Decision:
    """
    Decide what becomes of a refused frame: its first event says that it was refused, the others are what it reported.

    As long as an account is refused for the same reason, that is one event, counted. What a frame reported is told where its
    time alone was wrong: the panel was asked to set its clock, and to send it again. Where the time is wrong again, it is raised,
    marked; but good news is not taken, nor that somebody came or went: anyone may have kept the frame, and sent it later.
    """
    told, *reported = report.events
    why = report.error.message if report.error else ""
    state, before = state.refuse(told.account, told.code, place)
    placements = [_place(site, told, f"{place}-0", f"{before.first}-0" if before else None, now, why)]
    original = None
    if reported and before:
        state, original = state.hear(told.account, report.identity, place, now)
    for n, event in enumerate(reported, 1):
        event_id = f"{place}-{n}"
        if before is None or event.qualifier is Qualifier.RESTORE or event.category in JOINING:
            placements.append(Placement(event_id, event, Action.LOG, Priority.LOG, NOT_APPLIED, (), mark=why))
        else:
            placement = _place(site, event, event_id, None if original is None else f"{original}-{n}", now, f"refused: {why}")
            placements.append(msgspec.structs.replace(placement, needs=f"{before.last}-0"))
    return Decision(state, tuple(placements))


def _place(site: Site, event: Event, event_id: str, repeat_of: str | None, now: datetime, mark: str) -> Placement:  # noqa: PLR0913, PLR0917 - a placement
    language = site.language if site.language in _LANGUAGES else "en"
    default = DEFAULTS.code[language].get((event.format, event.code)) or DEFAULTS.category[language][event.category]
    order = _follow(site, event, default, now) if site.instructions else default
    priority = order.priority
    restored = event.qualifier is Qualifier.RESTORE and event.category not in NO_RESTORES
    if event.life_safety:
        priority = min(priority, default.priority)
    elif restored:
        priority = Priority.LOG  # good news needs nobody, whatever the bad news needed
    if event.category is Category.GENERATED and site.id.startswith(GHOST) and event.code not in KNOWN_ACCOUNT:
        action, priority = Action.LOG, Priority.LOG  # a refused frame of an account that nobody knows
    elif priority is not Priority.LOG:
        action = Action.RAISE
    else:
        action = Action.JOIN if restored or event.category in JOINING else Action.LOG
    return Placement(event_id, event, action, priority, order.name, order.steps, repeat_of, mark)


def _follow(site: Site, event: Event, default: Order, now: datetime) -> Order:
    """Give the site's first instruction that applies, else the default; where a condition fails, the fallback."""
    for instruction in site.instructions:
        try:
            if _holds(instruction.when, site, event, now):
                return Order(instruction.name, instruction.priority, instruction.steps)
        except Exception:  # noqa: BLE001 - a rule with a fault must not lose an alarm, whatever the fault
            fallback = DEFAULTS.fallback.get(site.language) or DEFAULTS.fallback["en"]
            name = f"{fallback.name}: a condition of {instruction.name!r} failed"
            steps = default.steps if event.category in SILENT else fallback.steps
            return Order(name, min(fallback.priority, default.priority), steps)
    return default


def _holds(when: tuple[Condition, ...], site: Site, event: Event, now: datetime) -> bool:
    local = now
    for condition in when:
        if isinstance(condition, Between) and local is now:
            local = now.astimezone(clock(site.time_zone))
        if not condition.holds(event, local):
            return False
    return True
