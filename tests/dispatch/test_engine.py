from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch import engine
from dispatch.alarm import Action, Placement, Priority
from dispatch.conditions import Between, CategoryIs, CodeIs, Condition, PartitionIs, ZoneIs
from dispatch.engine import DEFAULTS, NOT_APPLIED, Decision, decide
from dispatch.sites import Instruction, Site, WrittenPriority, ghost
from dispatch.state import Heard, Refused, SiteState
from protocols.errors import FrameError, Reason
from protocols.event import LIFE_SAFETY, Category, Event, Format, Qualifier
from receiver.journal import Entry, Report
from receiver.load import ConfigError

NOW = datetime(2026, 3, 2, 22, 30, tzinfo=UTC)  # 23:30 in Paris
SHOP = Site(("1234",), "shop", "Shop", time_zone="Europe/Paris")


def event(category: Category = Category.BURGLARY, qualifier: Qualifier = Qualifier.NEW, zone: str | None = "5") -> Event:
    return Event("1234", Format.SIA, "XX", qualifier, category, zone=zone)


def entry(*events: Event, identity: str = "", position: int = 7, mark: str = "", refused: Reason | None = None) -> Entry:
    error = FrameError(refused, "why") if refused else None
    return Entry(position, Report(NOW, "ip", "127.0.0.1:4711", "", events, identity, mark, error), "")


def told(code: str = "refused_old_time") -> Event:
    """What the gateway says of an account."""
    return Event("1234", Format.ARCGATE, code, Qualifier.NEW, Category.GENERATED, text="Reports are being refused: why")


def refused(state: SiteState, position: int, *reported: Event, reason: Reason = Reason.OLD_TIME, identity: str = "X") -> Decision:
    """What becomes of a refused frame."""
    subject = entry(told(f"refused_{reason}"), *reported, identity=identity, position=position, refused=reason)
    return decide(SHOP, state, subject, "j", NOW)


def place(subject: Event, *instructions: Instruction, language: str = "en", site: Site = SHOP) -> Placement:
    site = Site(site.accounts, site.id, site.name, site.time_zone, language, instructions=instructions)
    (placement,) = decide(site, SiteState(), entry(subject), "j", NOW).placements
    return placement


def instruction(priority: WrittenPriority, *when: Condition, name: str = "the site's") -> Instruction:
    return Instruction(name, priority, when, ("do this",))


def test_the_first_instruction_whose_conditions_all_hold_is_followed() -> None:
    placement = place(
        event(),
        instruction("life", ZoneIs(("5",)), CategoryIs((Category.FIRE,)), name="one of two"),
        instruction("technical", ZoneIs(("5",)), CategoryIs((Category.BURGLARY,)), name="both"),
        instruction("life", name="always, but later"),
    )
    assert placement == Placement("j-000000000007-0", event(), Action.RAISE, Priority.TECHNICAL, "both", ("do this",))


def test_a_time_of_day_is_the_site_s() -> None:
    night = instruction("confirmed", Between("23:00", "00:00"))
    assert place(event(), night).priority is Priority.CONFIRMED
    elsewhere = Site((), "shop", "Shop", time_zone="UTC")
    assert place(event(), night, site=elsewhere).priority is Priority.INTRUSION


@pytest.mark.parametrize("category", Category)
@pytest.mark.parametrize("language", ["en", "fr"])
def test_each_category_has_its_default_in_both_languages(category: Category, language: str) -> None:
    placement = place(event(category), language=language)
    assert placement.instruction == f"centre default: {category}"
    assert placement.steps == DEFAULTS.category[language][category].steps
    assert placement.priority is DEFAULTS.category["en"][category].priority


@pytest.mark.parametrize(
    ("form", "code", "category", "priority", "name"),
    [
        (Format.SIA, "CI", Category.STATUS, Priority.SCHEDULE, "not opened or closed as planned"),
        (Format.CONTACT_ID, "454", Category.STATUS, Priority.SCHEDULE, "not opened or closed as planned"),
        (Format.SIA, "DL", Category.ACCESS, Priority.TECHNICAL, "door left open or forced"),
        (Format.CONTACT_ID, "606", Category.VIDEO, Priority.TECHNICAL, "listen-in"),
        (Format.CONTACT_ID, "415", Category.REMOTE, Priority.FAULT, "the system watches less"),
        (Format.SIA, "YX", Category.SERVICE, Priority.FAULT, "service wanted"),
    ],
)
@pytest.mark.parametrize("language", ["en", "fr", "de"])
def test_a_code_may_need_somebody_though_its_category_does_not(  # noqa: PLR0913, PLR0917 - the table's columns
    form: Format, code: str, category: Category, priority: Priority, name: str, language: str
) -> None:
    report = Event("1234", form, code, Qualifier.NEW, category)
    placement = place(report, language=language)
    assert (placement.action, placement.priority) == (Action.RAISE, priority)
    assert placement.instruction == f"centre default: {name}"
    assert placement.steps == DEFAULTS.code["fr" if language == "fr" else "en"][form, code].steps
    assert place(report, instruction("log")).priority is Priority.LOG
    restored = place(Event("1234", form, code, Qualifier.RESTORE, category))
    assert (restored.action, restored.priority) == (Action.JOIN, Priority.LOG)


def test_a_language_that_the_defaults_lack_is_english() -> None:
    assert place(event(), language="de").steps == DEFAULTS.category["en"][Category.BURGLARY].steps


@pytest.mark.parametrize("category", [Category.HOLD_UP, Category.DURESS])
def test_the_premises_are_not_called_first_under_threat(category: Category) -> None:
    assert "Do NOT call the premises" in DEFAULTS.category["en"][category].steps[0]
    assert "Ne PAS appeler le site" in DEFAULTS.category["fr"][category].steps[0]


@pytest.mark.parametrize(
    ("category", "action"),
    [
        (Category.OPENING, Action.JOIN),
        (Category.CLOSING, Action.JOIN),
        (Category.CANCEL, Action.JOIN),
        (Category.TEST, Action.LOG),
        (Category.STATUS, Action.LOG),
        (Category.UNKNOWN, Action.RAISE),
        (Category.POWER, Action.RAISE),
        (Category.FIRE, Action.RAISE),
    ],
)
def test_what_needs_nobody_is_logged_and_what_tells_of_people_joins(category: Category, action: Action) -> None:
    assert place(event(category)).action is action


@pytest.mark.parametrize("category", Category)
def test_a_restore_joins_and_makes_nothing_more_urgent(category: Category) -> None:
    placement = place(event(category, Qualifier.RESTORE))
    if category is Category.UNKNOWN:
        assert (placement.action, placement.priority) == (Action.RAISE, Priority.TECHNICAL)
    else:
        assert (placement.action, placement.priority) == (Action.JOIN, Priority.LOG)


def test_a_site_may_raise_an_opening_or_closing_and_never_a_restore() -> None:
    wanted = instruction("schedule")
    assert place(event(Category.OPENING), wanted).action is Action.RAISE
    assert place(event(Category.CLOSING, Qualifier.RESTORE), wanted).action is Action.RAISE  # as Contact ID sends it
    assert place(event(Category.POWER, Qualifier.RESTORE), wanted).action is Action.JOIN
    assert place(event(Category.BURGLARY, Qualifier.RESTORE), instruction("intrusion")).priority is Priority.LOG


def test_a_site_may_log_what_hangs_on_no_life() -> None:
    placement = place(event(), instruction("log"))
    assert (placement.action, placement.priority) == (Action.LOG, Priority.LOG)


@pytest.mark.parametrize("category", sorted(LIFE_SAFETY))
@pytest.mark.parametrize("qualifier", [Qualifier.NEW, Qualifier.STATUS])
@pytest.mark.parametrize("written", Priority)
def test_an_instruction_makes_life_safety_more_urgent_and_never_less(
    category: Category, qualifier: Qualifier, written: Priority
) -> None:
    placement = place(event(category, qualifier), instruction(written))
    assert placement.action is Action.RAISE
    assert placement.priority is min(written, DEFAULTS.category["en"][category].priority)
    assert placement.instruction == "the site's"


@pytest.mark.parametrize(
    ("category", "priority"),
    [(Category.BURGLARY, Priority.INTRUSION), (Category.TEST, Priority.TECHNICAL), (Category.FIRE, Priority.FIRE)],
)
def test_a_condition_that_fails_is_the_fallback(category: Category, priority: Priority) -> None:
    """A time zone that is gone since the site was loaded, say."""
    site = Site((), "shop", "Shop", time_zone="Mars/Olympus")
    placement = place(event(category), instruction("log", Between("00:00", "23:59"), name="night"), site=site)
    assert (placement.action, placement.priority) == (Action.RAISE, priority)
    assert placement.instruction == "fallback: a condition of 'night' failed"
    assert placement.steps == DEFAULTS.fallback["en"].steps


def test_each_event_of_a_retransmission_names_the_one_it_repeats() -> None:
    two = (event(), event(Category.FIRE))
    first = decide(SHOP, SiteState(), entry(*two, identity="A", position=7), "j", NOW)
    again = decide(SHOP, first.state, entry(*two, identity="A", position=8), "j", NOW)
    third = decide(SHOP, again.state, entry(*two, identity="A", position=9), "j", NOW)
    assert [p.repeat_of for p in first.placements] == [None, None]
    for n, decision in ((8, again), (9, third)):
        assert [p.id for p in decision.placements] == [f"j-00000000000{n}-0", f"j-00000000000{n}-1"]
        assert [p.repeat_of for p in decision.placements] == ["j-000000000007-0", "j-000000000007-1"]


def test_a_refused_frame_is_raised_at_a_site_and_logged_for_an_account_that_nobody_knows() -> None:
    assert place(event(Category.GENERATED)).action is Action.RAISE
    unknown = ghost("ip", "1234")
    assert place(event(Category.GENERATED), site=unknown).action is Action.LOG
    assert place(event(Category.BURGLARY), site=unknown).action is Action.RAISE


def test_a_stranger_to_the_sites_whom_the_centre_gave_a_key_is_raised_where_he_is_refused() -> None:
    unknown = ghost("ip", "1234")
    known = {"refused_wrong_key", "refused_plain", "refused_old_time"}
    for code in ("refused_no_key", "refused_unknown_account", "refused_length", "clock_off", *known):
        assert (place(told(code), site=unknown).action is Action.RAISE) == (code in known), code


def test_what_an_old_frame_reported_is_raised_from_the_second_on() -> None:
    """Marked, at its own priority; it hangs on the refusal before it."""
    hold_up, burglary = event(Category.HOLD_UP), event(Category.BURGLARY)
    first = refused(SiteState(), 7, hold_up, burglary)
    assert [p.action for p in first.placements] == [Action.RAISE, Action.LOG, Action.LOG]
    assert [p.id for p in first.placements] == [f"j-000000000007-{n}" for n in range(3)]
    second = refused(first.state, 8, hold_up, burglary)
    assert [(p.action, p.priority) for p in second.placements] == [
        (Action.RAISE, Priority.TECHNICAL),
        (Action.RAISE, Priority.LIFE),
        (Action.RAISE, Priority.INTRUSION),
    ]
    assert [p.repeat_of for p in second.placements] == ["j-000000000007-0", None, None]
    assert [p.mark for p in second.placements] == ["why", "refused: why", "refused: why"]
    assert [p.needs for p in second.placements] == [None, "j-000000000007-0", "j-000000000007-0"]
    third = refused(second.state, 9, hold_up, burglary)
    assert [p.repeat_of for p in third.placements] == ["j-000000000007-0", "j-000000000008-1", "j-000000000008-2"]
    assert [p.needs for p in third.placements] == [None, "j-000000000008-0", "j-000000000008-0"]


@pytest.mark.parametrize(
    ("category", "qualifier"),
    [
        (Category.BURGLARY, Qualifier.RESTORE),
        (Category.HOLD_UP, Qualifier.RESTORE),
        (Category.UNKNOWN, Qualifier.RESTORE),
        (Category.OPENING, Qualifier.NEW),
        (Category.CLOSING, Qualifier.RESTORE),
        (Category.CANCEL, Qualifier.NEW),
    ],
)
def test_good_news_of_an_old_frame_is_kept_in_the_journal_alone(category: Category, qualifier: Qualifier) -> None:
    first = refused(SiteState(), 7, event(category, qualifier))
    _, placement = refused(first.state, 8, event(category, qualifier)).placements
    assert (placement.action, placement.priority, placement.mark) == (Action.LOG, Priority.LOG, "why")


def test_an_accepted_frame_ends_the_row_and_what_the_gateway_says_does_not() -> None:
    first = refused(SiteState(), 7, event(Category.FIRE))
    clock = decide(SHOP, first.state, entry(told("clock_off"), position=8), "j", NOW)
    assert refused(clock.state, 9, event(Category.FIRE)).placements[1].action is Action.RAISE
    accepted = decide(SHOP, clock.state, entry(event(), identity="A", position=9), "j", NOW)
    assert refused(accepted.state, 10, event(Category.FIRE)).placements[1].action is Action.LOG


def test_another_reason_or_another_account_is_another_row() -> None:
    first = refused(SiteState(), 7, reason=Reason.WRONG_KEY)
    second = refused(first.state, 8, event(Category.FIRE))
    assert [p.repeat_of for p in second.placements] == [None, None]
    assert second.placements[1].action is Action.LOG


def test_an_old_link_test_counts_as_the_first() -> None:
    assert refused(refused(SiteState(), 7).state, 8, event(Category.FIRE)).placements[1].priority is Priority.FIRE


@pytest.mark.parametrize("reason", [Reason.PLAIN, Reason.WRONG_KEY, Reason.NO_KEY, Reason.UNKNOWN_TOKEN])
def test_frames_refused_for_one_reason_are_counted_on_the_first(reason: Reason) -> None:
    """Whatever they are: who sends a thousand different ones makes one event."""
    state = SiteState()
    for position in range(7, 12):
        decision = refused(state, position, reason=reason, identity=f"frame {position}")
        (placement,) = decision.placements
        assert placement.repeat_of == (None if position == 7 else "j-000000000007-0")
        state = decision.state
    assert not state.heard


def test_refused_frames_do_not_push_out_those_by_which_a_repetition_is_known() -> None:
    state = decide(SHOP, SiteState(), entry(event(), identity="A", position=1), "j", NOW).state
    for position in range(2, 20):
        state = refused(state, position, reason=Reason.PLAIN, identity=f"frame {position}").state
    (placement,) = decide(SHOP, state, entry(event(), identity="A", position=20), "j", NOW).placements
    assert placement.repeat_of == "j-000000000001-0"


def test_what_was_wrong_though_taken_is_marked() -> None:
    (placement,) = decide(SHOP, SiteState(), entry(event(), mark="the panel's clock is 50 s behind"), "j", NOW).placements
    assert (placement.mark, placement.action) == ("the panel's clock is 50 s behind", Action.RAISE)


def test_a_clock_that_is_off_is_a_fault_and_is_restored() -> None:
    off = place(told("clock_off"), language="fr")
    assert (off.action, off.priority, off.instruction) == (
        Action.RAISE,
        Priority.FAULT,
        "centre default: the panel's clock is off",
    )
    assert "l'horloge" in off.steps[1]
    back = Event("1234", Format.ARCGATE, "clock_off", Qualifier.RESTORE, Category.GENERATED)
    assert (place(back).action, place(back).priority) == (Action.JOIN, Priority.LOG)


def test_an_entry_without_events_changes_nothing() -> None:
    assert decide(SHOP, SiteState(), entry(), "j", NOW) == Decision(SiteState(), ())


TEXTS = st.one_of(st.text(max_size=5), st.sampled_from(["5", "005", "BA", "1", ""]))
FEW = st.lists(TEXTS, max_size=3).map(tuple)
TIMES = st.sampled_from(["00:00", "06:00", "22:00"])
EVENTS = st.builds(
    Event,
    account=TEXTS,
    format=st.sampled_from(Format),
    code=TEXTS,
    qualifier=st.sampled_from(Qualifier),
    category=st.sampled_from(Category),
    zone=st.none() | TEXTS,
    partition=st.none() | TEXTS,
    text=st.none() | st.text(),
)
CONDITIONS = st.one_of(
    st.builds(CodeIs, FEW, st.sampled_from([None, "sia", "contact_id"])),
    st.builds(CategoryIs, st.lists(st.sampled_from(Category), max_size=5).map(tuple)),
    st.builds(ZoneIs, FEW),
    st.builds(PartitionIs, FEW),
    st.tuples(TIMES, TIMES).filter(lambda window: window[0] != window[1]).map(lambda window: Between(*window)),
)
INSTRUCTIONS = st.builds(
    Instruction,
    name=TEXTS,
    written_priority=st.sampled_from(Priority) | st.sampled_from(["life", "log"]) | st.just("no priority"),
    when=st.lists(CONDITIONS, max_size=3).map(tuple),
    steps=FEW,
)
SITES = st.builds(
    Site,
    accounts=st.just(()),
    id=st.sampled_from(["shop", "ghost:1"]),
    name=TEXTS,
    time_zone=st.sampled_from(["UTC", "Europe/Paris", "Mars/Olympus", ""]),
    language=st.sampled_from(["en", "fr", "de", ""]),
    instructions=st.lists(INSTRUCTIONS, max_size=3).map(tuple),
)
STATES = st.builds(
    SiteState,
    st.dictionaries(
        TEXTS, st.lists(st.builds(Heard, TEXTS, st.integers(-(2**53), 2**53), TEXTS), max_size=6).map(tuple), max_size=20
    ),
    st.dictionaries(TEXTS, st.dictionaries(TEXTS, st.builds(Refused, TEXTS, TEXTS), max_size=3), max_size=70),
)
MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(SITES, STATES, st.lists(EVENTS, max_size=4), TEXTS, MOMENTS, st.none() | st.sampled_from(Reason))
def test_there_is_an_answer_to_everything(  # noqa: PLR0913, PLR0917 - all that there is
    site: Site, state: SiteState, events: list[Event], identity: str, now: datetime, reason: Reason | None
) -> None:
    """Whatever the site, its past and its events: one placement each, in order, twice the same, and life-safety is raised."""
    subject = entry(*events, identity=identity, refused=reason)
    decision = decide(site, state, subject, "j", now)
    assert decision == decide(site, state, subject, "j", now)
    assert [placement.event for placement in decision.placements] == events
    assert len({placement.id for placement in decision.placements}) == len(events)
    for placement in decision.placements:
        if placement.instruction == NOT_APPLIED:
            assert reason
            assert placement.action is Action.LOG
            continue
        assert isinstance(placement.priority, Priority)
        assert (placement.action is Action.RAISE) == (placement.priority is not Priority.LOG)
        if placement.event.life_safety:
            assert placement.priority <= DEFAULTS.category["en"][placement.event.category].priority


def test_defaults_that_leave_something_out_are_refused(tmp_path: Path) -> None:
    good = Path(engine.__file__).with_name("defaults.toml").read_text()
    path = tmp_path / "defaults.toml"
    path.write_text(good.replace("[category.water]", "[category.wter]"))
    with pytest.raises(ConfigError) as caught:
        engine.load_defaults(path)
    assert str(caught.value) == f"{path}: category.wter: unknown category; did you mean `water`?"
    path.write_text(
        good.replace('[category.gas]\npriority = "fire"', '[category.gas]\npriority = "log"').replace(
            'steps.fr = ["Pour information : essai"]\n', ""
        )
    )
    with pytest.raises(ConfigError) as caught:
        engine.load_defaults(path)
    assert str(caught.value).splitlines() == [
        f"{path}: category.gas.priority: must be life or fire: it is life-safety",
        f"{path}: category.test.steps.fr: is missing: every default needs its steps in English and in French",
    ]
    path.write_text(good[: good.index("[category.unknown]")])
    with pytest.raises(ConfigError, match=r"category\.unknown: is missing: every category needs a default"):
        engine.load_defaults(path)


def test_a_default_for_a_code_that_is_none_or_that_a_life_hangs_on_is_refused(tmp_path: Path) -> None:
    good = Path(engine.__file__).with_name("defaults.toml").read_text()
    path = tmp_path / "defaults.toml"
    path.write_text(good.replace('["LF"]', '["LF", "FA", "Q9"]'))
    with pytest.raises(ConfigError) as caught:
        engine.load_defaults(path)
    assert str(caught.value).splitlines() == [
        f"{path}: code[2].sia: FA is life-safety: it has its category's default",
        f"{path}: code[2].sia: Q9 is in no table of codes",
    ]
