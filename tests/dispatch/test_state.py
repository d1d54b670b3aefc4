from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dispatch.state import (
    ACCOUNTS_KEPT,
    FRAMES_KEPT,
    LINE_REPEAT_S,
    REFUSED_KEPT,
    REPEAT_S,
    Heard,
    Refused,
    SiteState,
    decode,
    encode,
)

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def hear_all(identities: str, state: SiteState | None = None) -> SiteState:
    """The state after one frame a second of account 1234, each with a letter as its identity and its place."""
    state = state or SiteState()
    for second, identity in enumerate(identities):
        state, _ = state.hear("1234", identity, f"j-{identity}{second}", NOW + timedelta(seconds=second))
    return state


def test_a_new_frame_is_no_retransmission() -> None:
    _, original = SiteState().hear("1234", "A", "j-1", NOW)
    assert original is None


def test_a_retransmission_names_the_original_however_often_it_comes() -> None:
    state, _ = SiteState().hear("12ab", "A", "j-1", NOW)
    for second in range(5):
        state, original = state.hear("12AB", "A", f"j-{second + 2}", NOW + timedelta(seconds=second))
        assert original == "j-1"


def test_it_is_known_among_the_last_four_frames_only() -> None:
    assert hear_all("ABCD").hear("1234", "A", "j-9", NOW)[1] == "j-A0"
    assert hear_all("ABCDE").hear("1234", "A", "j-9", NOW)[1] is None


def test_a_frame_that_is_repeated_often_does_not_push_the_others_out() -> None:
    assert hear_all("ABBBBB").hear("1234", "A", "j-9", NOW)[1] == "j-A0"


def test_it_is_known_for_300_s_from_when_it_was_last_received() -> None:
    state, _ = SiteState().hear("1234", "A", "j-1", NOW)
    state, original = state.hear("1234", "A", "j-2", NOW + timedelta(seconds=REPEAT_S))
    assert original == "j-1"
    state, original = state.hear("1234", "A", "j-3", NOW + timedelta(seconds=2 * REPEAT_S))
    assert original == "j-1"
    state, original = state.hear("1234", "A", "j-4", NOW + timedelta(seconds=3 * REPEAT_S, milliseconds=1))
    assert original is None
    _, original = state.hear("1234", "A", "j-5", NOW + timedelta(seconds=3 * REPEAT_S + 1))
    assert original == "j-4"


def test_a_receiver_s_line_is_a_retransmission_of_the_last_frame_alone_for_a_minute() -> None:
    """It has no sequence number: a fire, its end and a fire again are three events, over however many connections they come."""
    fire, end = "line-aa", "line-bb"
    state, _ = SiteState().hear("1234", fire, "j-1", NOW)
    state, original = state.hear("1234", fire, "j-2", NOW + timedelta(seconds=LINE_REPEAT_S))
    assert original == "j-1"
    assert state.hear("1234", fire, "j-3", NOW + timedelta(seconds=2 * LINE_REPEAT_S, milliseconds=1))[1] is None
    state, original = state.hear("1234", end, "j-3", NOW + timedelta(seconds=61))
    assert original is None
    state, original = state.hear("1234", fire, "j-4", NOW + timedelta(seconds=62))
    assert original is None


def test_a_line_that_was_surely_new_is_known_when_it_is_repeated_over_another_connection() -> None:
    state, _ = SiteState().hear("1234", "line-aa", "j-1", NOW)
    state, original = state.hear("1234", "line-aa@1.000", "j-2", NOW)
    assert original is None
    assert state.hear("1234", "line-aa@1.000", "j-3", NOW)[1] == "j-2"
    assert state.hear("1234", "line-aa", "j-3", NOW)[1] == "j-2"


def test_an_empty_identity_is_never_repeated() -> None:
    state, original = SiteState().hear("1234", "", "j-1", NOW)
    assert original is None
    assert state.hear("1234", "", "j-2", NOW) == (SiteState(), None)


def test_the_same_identity_of_another_account_is_another_frame() -> None:
    assert hear_all("A").hear("9999", "A", "j-9", NOW)[1] is None


def test_the_accounts_heard_last_are_kept() -> None:
    state = hear_all("A")
    for number in range(ACCOUNTS_KEPT - 1):
        state, _ = state.hear(str(number), "A", "j-1", NOW)
    state, original = state.hear("1234", "A", "j-2", NOW)
    assert original == "j-A0"
    state, _ = state.hear("one more", "A", "j-3", NOW)
    assert len(state.heard) == ACCOUNTS_KEPT
    assert "1234" in state.heard
    assert "0" not in state.heard


def test_a_refusal_knows_the_first_and_the_last_of_its_kind_until_a_frame_is_accepted() -> None:
    state, before = SiteState().refuse("12ab", "refused_old_time", "j-1")
    assert before is None
    state, before = state.refuse("12AB", "refused_old_time", "j-2")
    assert before == Refused("j-1", "j-1")
    state, before = state.refuse("12ab", "refused_plain", "j-3")
    assert before is None
    state, before = state.refuse("12ab", "refused_old_time", "j-4")
    assert before == Refused("j-1", "j-2")
    assert state.refuse("99", "refused_old_time", "j-5")[1] is None
    assert state.accept("99") is state
    assert state.accept("12Ab") == SiteState()
    assert state.accept("12ab").refuse("12ab", "refused_old_time", "j-6")[1] is None


def test_what_is_heard_and_what_is_refused_leave_each_other_alone() -> None:
    state, _ = hear_all("A").refuse("1234", "refused_plain", "j-9")
    state, original = state.hear("1234", "A", "j-10", NOW)
    assert original == "j-A0"
    assert state.refuse("1234", "refused_plain", "j-11")[1] == Refused("j-9", "j-9")
    assert state.accept("1234").heard == state.heard


def test_the_accounts_refused_last_are_kept() -> None:
    state = SiteState()
    for number in (*range(REFUSED_KEPT), 0, REFUSED_KEPT):
        state, _ = state.refuse(str(number), "refused_plain", "j-1")
    assert len(state.refused) == REFUSED_KEPT
    assert "0" in state.refused
    assert "1" not in state.refused


def test_a_state_of_before_refusals_were_remembered_is_read() -> None:
    assert decode('{"h":{"1234":[["A",7,"j-1"]]}}') == SiteState({"1234": (Heard("A", 7, "j-1"),)})


@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4), st.datetimes(timezones=st.just(UTC)))))
def test_any_past_stays_within_its_bounds_and_is_read_back(frames: list[tuple[str, str, datetime]]) -> None:
    state = SiteState()
    for n, (account, identity, now) in enumerate(frames):
        if n % 3 == 0:
            state, _ = state.refuse(account, identity, f"j-{n}")
        state, _ = state.hear(account, identity, f"j-{n}", now)
    assert len(state.heard) <= ACCOUNTS_KEPT
    assert len(state.refused) <= REFUSED_KEPT
    assert all(0 < len(kept) <= FRAMES_KEPT for kept in state.heard.values())
    assert decode(encode(state)) == state


@given(st.one_of(st.none(), st.binary(), st.text()))
def test_a_state_that_cannot_be_read_is_an_empty_one(data: bytes | str | None) -> None:
    assert isinstance(decode(data), SiteState)
    assert decode(b'{"h": 7}') == SiteState()
