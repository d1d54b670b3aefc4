"""What a frame means to an account: keys, zones, heartbeats, and in what words it is refused. See test_abuse.py too."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from protocols.dc09 import Dc09, Frame, build, read_reply
from protocols.dc09.frame import wrap
from protocols.errors import Reason
from protocols.link import LinkTest, Message, Policy, Rejected
from tests.protocols.dc09.vectors import NOW, receive

OLD, NEW = b"0123456789abcdef", b"fedcba9876543210"
FRAME = Frame(id_token="SIA-DCS", sequence="0001", account="1234", data="#1234|Nri1/BA005", timestamp=NOW)


def test_two_keys_during_a_rotation_and_each_is_answered_with_its_own() -> None:
    policy = Policy(keys=(NEW, OLD))
    for key, mark in ((NEW, ""), (OLD, "encrypted with an older key of its account")):
        (item,) = receive(build(FRAME, key=key), policy=policy)
        assert isinstance(item, Message)
        assert item.mark == mark
        assert read_reply(item.reply, key)
        assert read_reply(item.reply, NEW if key is OLD else OLD) is None


@pytest.mark.parametrize(
    ("right", "given", "words"),
    [
        (
            bytes.fromhex("00112233445566778899AABBCCDDEEFF"),
            b"00112233445566778899AABBCCDDEEFF",
            '"hex:..."; it was given as "ascii',
        ),
        (
            b"00112233445566778899AABBCCDDEEFF",
            bytes.fromhex("00112233445566778899AABBCCDDEEFF"),
            '"ascii:..."; it was given as "hex',
        ),
        (OLD, NEW, "decrypts to noise: was it given as hex: and is ASCII"),
    ],
)
def test_a_key_in_the_wrong_notation_is_told_as_that(right: bytes, given: bytes, words: str) -> None:
    (item,) = receive(build(FRAME, key=right), policy=Policy(keys=(given,)))
    assert isinstance(item, Rejected)
    assert item.error.reason is Reason.WRONG_KEY
    assert words in item.error.message
    assert given.decode("latin-1") not in item.error.message
    assert given.hex() not in item.error.message.lower()


@pytest.mark.parametrize(
    ("body", "policy", "becomes"),
    [
        (b'"SIA-DCS"0002L0[#1234|Nri1/BA5]', Policy(keys=(NEW,)), Reason.PLAIN),
        (b'"SIA-DCS"0002R1L0#[#1234|Nri1/OP1]', Policy(keys=(NEW,)), Reason.PLAIN),
        (b'"NULL"0000L0[#1234|]', Policy(keys=(NEW,)), Reason.PLAIN),
        (b'"ADM-CID"0002L0[#1234|1131 01 015]_08:00:00,11-22-2026', Policy(time="enforce_plain"), Reason.OLD_TIME),
        (b'"SIA-DCS"0002L0[#1234|Nri0/RP0000]', Policy(heartbeat=frozenset({"RP"})), LinkTest),
        (b'"SIA-DCS"0002L0[#1234|Nri1/BA5]', Policy(), Message),
    ],
)
def test_who_leaves_his_account_out_of_the_header_gets_around_no_rule_of_it(body: bytes, policy: Policy, becomes: Any) -> None:
    """Its events are of the account in the data, so that account's key, time and heartbeat hold."""
    link = Dc09().link(lambda _receiver, _line, account: policy if account == "1234" else None)
    (item,) = link.receive(wrap(body), NOW)
    assert (item.error.reason if isinstance(item, Rejected) else type(item)) == becomes
    assert (item.account if isinstance(item, LinkTest) else item.events[0].account) == "1234"


def test_the_policy_is_asked_once_a_frame_with_the_fields_as_sent() -> None:

    asked: list[tuple[str | None, str | None, str]] = []

    def policy(receiver: str | None, line: str | None, account: str) -> Policy:
        asked.append((receiver, line, account))
        return Policy()

    link = Dc09().link(policy)
    link.receive(build(Frame(id_token="NULL", sequence="0000", receiver="0a", line="00b", account="00c1")), NOW)
    link.receive(build(FRAME), NOW)
    assert asked == [("0a", "00b", "00c1"), (None, "0", "1234")]


def test_a_heartbeat_is_a_link_test_only_where_every_event_is_one() -> None:
    policy = Policy(heartbeat=frozenset({"RP", "602"}))
    for data, kind in (("#1234|Nri0/RP0000", LinkTest), ("#1234|Nri0/RP0000|Nri1/BA1", Message), ("#1234|rubbish", Message)):
        frame = Frame(id_token="SIA-DCS", sequence="0001", receiver="1", account="1234", data=data, timestamp=NOW)
        (item,) = receive(build(frame), policy=policy)
        assert type(item) is kind
        assert b'"ACK"0001R1L0#1234[]' in item.reply
    (test,) = receive(build(Frame(id_token="ADM-CID", sequence="0001", account="1234", data="#1234|1602 00 000")), policy=policy)
    assert isinstance(test, LinkTest)
    assert (test.account, test.receiver, test.line) == ("1234", None, "0")


@pytest.mark.parametrize("key", [b"", OLD])
@pytest.mark.parametrize("token", ["SIA-DCS", "NULL"])
def test_the_clock_is_measured_on_whatever_is_taken(token: str, key: bytes) -> None:
    for ahead_s in (-30, 15, 0):
        at = NOW + timedelta(seconds=ahead_s)
        frame = Frame(id_token=token, sequence="0001", account="1234", data="#1234|Nri1/BA005", timestamp=at)
        (item,) = receive(build(frame, key=key), policy=Policy(keys=(key,) if key else ()))
        assert isinstance(item, Message | LinkTest)
        assert (item.ahead_s, item.mark) == (ahead_s, "")


def test_a_strict_listener_names_each_dialect_it_refuses() -> None:
    frame = Frame(id_token="SIA-DCS", sequence="0001", line="", account="1", data="Nri1/BA005")
    (item,) = receive(build(frame, dialect="binary_crc"), strict=True)
    assert isinstance(item, Rejected)
    assert item.error.reason is Reason.DIALECT
    assert all(name in item.error.message for name in ("binary_crc", "line_empty", "account_odd", "inner_account_missing"))
    (taken,) = receive(build(FRAME, dialect="nul_after_cr"), strict=True)
    assert isinstance(taken, Message), "what follows a frame is no ground to refuse it"


def test_a_dialect_that_is_seen_inside_and_outside_is_one() -> None:
    (item,) = receive(build(FRAME, key=NEW, dialect="lower_case_hex"), policy=Policy(keys=(NEW,)))
    assert isinstance(item, Message)
    assert item.dialects == ("lower_case_hex",)


@pytest.mark.parametrize("key", [b"", OLD])
@pytest.mark.parametrize("text", ["a]b^", "a[1] b^|Nri1/FA6^]^", "a]b"])
def test_the_time_behind_a_bracket_in_a_text_is_the_frames_time(text: str, key: bytes) -> None:
    """It is checked like any other; and a retransmission with a new one is known as that, or it would be an alarm of its own."""
    policy = Policy(keys=(key,) if key else (), time="enforce_plain")
    frame = msgspec.structs.replace(FRAME, data=f"#1234|Nri1/BA5^{text}")
    again = msgspec.structs.replace(frame, timestamp=NOW + timedelta(seconds=11))
    late = msgspec.structs.replace(frame, timestamp=NOW - timedelta(seconds=60))
    first, repeat, refused = (receive(build(each, key=key), policy=policy)[0] for each in (frame, again, late))
    assert isinstance(first, Message)
    assert isinstance(repeat, Message)
    assert (first.identity, first.ahead_s, repeat.ahead_s) == (repeat.identity, 0, 11)
    assert isinstance(refused, Rejected)
    assert refused.error.reason is Reason.OLD_TIME


@pytest.mark.parametrize("key", [b"", OLD])
def test_a_bracket_in_a_text_cuts_off_no_event_and_hides_no_key(key: bytes) -> None:
    frame = msgspec.structs.replace(FRAME, data="#1234|Nri1/BA5^Hall ]1[^|Nri1/FA6", extended=(("K", "00" * 16),))
    (item,) = receive(build(frame, key=key), policy=Policy(keys=(key,) if key else ()))
    assert isinstance(item, Message)
    assert [(event.code, event.zone, event.text) for event in item.events] == [("BA", "5", "Hall ]1["), ("FA", "6", None)]
    assert item.events[0].extended == (("K", "(secret)"),)
    assert item.dialects == ("bracket_in_text",)


def test_the_panels_own_time_is_read_in_its_zone() -> None:

    frame = Frame(
        id_token="SIA-DCS", sequence="0001", account="1234", data="#1234|NBA5", extended=(("H", "10:59:58,11-22-2026"),)
    )
    (item,) = receive(build(frame), policy=Policy(time_zone=ZoneInfo("Europe/Paris")))
    assert isinstance(item, Message)
    assert item.events[0].occurred_at == NOW - timedelta(seconds=2)
