"""A frame's fields for people, whatever a receiver would do with it."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dc09 import Dc09, Frame, build, read_reply
from protocols.link import Policy
from tests.protocols.dc09.vectors import NOW

KEY = b"0123456789abcdef"
FRAME = Frame(id_token="SIA-DCS", sequence="0001", account="1234", data="#1234|NBA5", extended=(("I", "é"),), timestamp=NOW)


def test_a_sealed_frame_is_opened_by_its_key_and_shown_as_it_came_without() -> None:
    data = build(FRAME, key=KEY)
    opened = Dc09().explain(data, Policy(keys=(b"x" * 32, KEY)))
    assert opened
    assert (opened.encrypted, opened.data, opened.extended, opened.timestamp) == (True, FRAME.data, FRAME.extended, NOW)
    for policy in (None, Policy(), Policy(keys=(b"x" * 16,))):
        closed = Dc09().explain(data, policy)
        assert closed
        assert (closed.encrypted, closed.extended, closed.timestamp) == (True, (), None)
        assert closed.data == data.decode().partition("[")[2][:-1]
        assert build(closed) == data


@pytest.mark.parametrize("key", [b"", KEY])
def test_a_key_in_extended_data_is_not_shown(key: bytes) -> None:
    data = build(Frame(id_token="XNM", sequence="0001", account="1", extended=(("K", "SECRET"),), timestamp=NOW), key=key)
    shown = Dc09().explain(data, Policy(keys=(key,) if key else ()))
    assert shown
    assert shown.extended == (("K", "******"),)


def test_the_time_is_read_in_the_accounts_zone() -> None:
    shown = Dc09().explain(build(FRAME), Policy(time_zone=ZoneInfo("Europe/Paris")))
    assert shown
    assert shown.timestamp
    assert shown.timestamp.isoformat() == "2026-11-22T09:00:00+00:00"


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1", b'\n00000000"', b'\n00000000"SIA-DCS"', b"\n\r\n"])
def test_what_is_no_frame_has_no_fields(data: bytes) -> None:
    assert Dc09().explain(data) is None


@given(st.binary(max_size=120))
def test_any_bytes_may_be_asked_about(data: bytes) -> None:
    for each in (data, b'\n00000000"*SIA-DCS"0001L0#1234[' + data, build(FRAME, key=KEY)[:30] + data):
        Dc09().explain(each, Policy(keys=(KEY,)))
        read_reply(each, KEY)
