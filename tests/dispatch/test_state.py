from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dispatch.state import ACCOUNTS_KEPT, FRAMES_KEPT, REPEAT_S, SiteState, decode, encode

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


@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4), st.datetimes(timezones=st.just(UTC)))))
def test_any_past_stays_within_its_bounds_and_is_read_back(frames: list[tuple[str, str, datetime]]) -> None:
    state = SiteState()
    for n, (account, identity, now) in enumerate(frames):
        state, _ = state.hear(account, identity, f"j-{n}", now)
    assert len(state.heard) <= ACCOUNTS_KEPT
    assert all(0 < len(kept) <= FRAMES_KEPT for kept in state.heard.values())
    assert decode(encode(state)) == state


@given(st.one_of(st.none(), st.binary(), st.text()))
def test_a_state_that_cannot_be_read_is_an_empty_one(data: bytes | str | None) -> None:
    assert isinstance(decode(data), SiteState)
    assert decode(b'{"h": 7}') == SiteState()
