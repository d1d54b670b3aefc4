"""A table of abuse: what each attempt is answered, what it is called, and whether somebody is told."""

from datetime import timedelta
from typing import Any

import pytest

from protocols.dc09 import Frame, build, build_reply
from protocols.dc09.frame import stamp, wrap
from protocols.event import CENTRE, Category
from protocols.link import LinkTest, Message, Policy, Received, Rejected
from tests.protocols.dc09.vectors import NOW, receive

KEY, OTHER = b"0123456789abcdef", b"fedcba9876543210fedcba9876543210"
KEYED, USUAL = Policy(keys=(KEY,)), Policy()
ECHO = "0001L0#1234"
DATA = "#1234|Nri1/HA005"


def frame(word: str = "SIA-DCS", data: str = DATA, ahead_s: float | None = 0, **more: Any) -> Frame:
    at = None if ahead_s is None else NOW + timedelta(seconds=ahead_s)
    return Frame(id_token=word, sequence="0001", account="1234", data=data, timestamp=at, **more)


def plain(text: str) -> bytes:
    return wrap(text.encode())


GOOD, SEALED = build(frame()), build(frame(), key=KEY)
ACK = build_reply("ACK", ECHO)
DUH = build_reply("DUH", ECHO)
NAK = wrap(b'"NAK"0000R0L0A0[]' + stamp(NOW).encode())
SECRET = "00112233445566778899AABBCCDDEEFF"
NO = b""

Probe = tuple[str, bytes, Policy | None, dict[str, Any], str, bytes, int]
PROBES: list[Probe] = [
    # what, bytes, policy, rules, what it becomes (or the reason of its refusal), reply, events
    ("a downgrade: plain, where there is a key", GOOD, KEYED, {}, "plain", NO, 1),
    ("a downgrade: a plain link test", build(frame("NULL", "")), KEYED, {}, "plain", NO, 1),
    ("a downgrade: plain with a key in it", build(frame(extended=(("K", KEY.hex()),))), KEYED, {}, "plain", NO, 1),
    ("a downgrade: plain, with a star in the token", plain(f'"**SIA-DCS"{ECHO}[{DATA}]'), KEYED, {}, "malformed", NO, 1),
    ("a star without ciphertext", plain(f'"*SIA-DCS"{ECHO}[{DATA}]{stamp(NOW)}'), KEYED, {}, "malformed", NO, 1),
    ("a star and nothing", plain(f'"*NULL"{ECHO}[]'), KEYED, {}, "malformed", NO, 1),
    ("a wrong key", build(frame(), key=OTHER), KEYED, {}, "wrong_key", NO, 1),
    ("a wrong key, DUH by option", build(frame(), key=OTHER), KEYED, {"undecryptable": "duh"}, "wrong_key", DUH, 1),
    ("no key", SEALED, USUAL, {}, "no_key", NO, 1),
    ("no key, DUH by option", SEALED, USUAL, {"undecryptable": "duh"}, "no_key", DUH, 1),
    ("an unknown account, encrypted", SEALED, None, {}, "no_key", NO, 1),
    ("an unknown account, encrypted, silence", SEALED, None, {"unknown_accounts": "silence"}, "unknown_account", NO, 0),
    ("an unknown account, plain", GOOD, None, {}, "message", ACK, 1),
    ("an unknown account, plain, silence", GOOD, None, {"unknown_accounts": "silence"}, "unknown_account", NO, 0),
    ("a replay of an hour ago", build(frame(ahead_s=-3600), key=KEY), KEYED, {}, "old_time", NAK, 2),
    ("a replay of 41 s ago", build(frame(ahead_s=-41), key=KEY), KEYED, {}, "old_time", NAK, 2),
    ("from 21 s ahead", build(frame(ahead_s=21), key=KEY), KEYED, {}, "old_time", NAK, 2),
    ("an old link test", build(frame("NULL", "", -3600), key=KEY), KEYED, {}, "old_time", NAK, 1),
    ("no time", build(frame(ahead_s=None), key=KEY), KEYED, {}, "old_time", NAK, 2),
    ("a plain replay where time is enforced", build(frame(ahead_s=-3600)), Policy(time="enforce_plain"), {}, "old_time", NAK, 2),
    ("a plain replay", build(frame(ahead_s=-3600)), USUAL, {}, "message", ACK, 1),
    ("a length of 0", GOOD[:5] + b"0000" + GOOD[9:], USUAL, {}, "message", ACK, 1),
    ("a length of 4095", GOOD[:5] + b"0FFF" + GOOD[9:], USUAL, {}, "message", ACK, 1),
    ("a length one short", GOOD[:5] + b"0038" + GOOD[9:], USUAL, {}, "message", ACK, 1),
    ("a length of 0, strict", GOOD[:5] + b"0000" + GOOD[9:], USUAL, {"strict": True}, "dialect", NO, 1),
    ("a wrong checksum", b"\n0000" + GOOD[5:], USUAL, {}, "crc", NO, 0),
    ("a flipped bit", GOOD.replace(b"HA", b"HB"), USUAL, {}, "crc", NO, 0),
    ("a flipped bit in the encrypted time", wrap(SEALED[9:-3] + b"00"), KEYED, {}, "old_time", NAK, 2),
    ("the encrypted time cut off", wrap(SEALED[9:-33]), KEYED, {}, "old_time", NAK, 2),
    ("ciphertext of half a block", wrap(SEALED[9:-17]), KEYED, {}, "malformed", NO, 1),
    ("ciphertext with blanks in it", wrap(SEALED[9:-3] + b"  "), KEYED, {}, "malformed", NO, 1),
    ("an unknown token", build(frame("SIA-XYZ")), USUAL, {}, "unknown_token", DUH, 1),
    ("a token in lower case", build(frame("sia-dcs")), USUAL, {}, "unknown_token", DUH, 1),
    ("an unknown token, encrypted: DUH in clear", build(frame("SIA-XYZ"), key=KEY), KEYED, {}, "unknown_token", DUH, 1),
    ("an unknown token, plain, where there is a key", build(frame("SIA-XYZ")), KEYED, {}, "plain", NO, 1),
    ("a token of 200 signs", build(frame("A" * 200)), USUAL, {}, "malformed", NO, 1),
    ("an unknown SIA code", build(frame(data="#1234|NQZ1")), USUAL, {}, "message", ACK, 1),
    ("an unknown Contact ID code", build(frame("ADM-CID", "#1234|1999 01 001")), USUAL, {}, "message", ACK, 1),
    ("content that nobody reads", build(frame("ADM-CID", "#1234|rubbish")), USUAL, {}, "message", ACK, 1),
    ("no content", build(frame(data="")), USUAL, {}, "message", ACK, 1),
    ("an ACK", build(frame("ACK", "")), USUAL, {}, "answer", NO, 0),
    ("an encrypted ACK", build(frame("ACK", ""), key=KEY), KEYED, {}, "answer", NO, 0),
    ("an ACK that hands out a key", build(frame("ACK", f"K{SECRET}")), USUAL, {}, "answer", NO, 0),
    ("a NAK", NAK, USUAL, {}, "answer", NO, 0),
    ("a DUH, to make a loop", DUH, USUAL, {}, "answer", NO, 0),
    ("an RSP", build(frame("RSP")), USUAL, {}, "answer", NO, 0),
    ("None for R", plain(f'"SIA-DCS"0001NoneL0#1234[{DATA}]'), USUAL, {}, "malformed", NO, 1),
    ("a key in extended data", build(frame(extended=(("K", SECRET),))), USUAL, {}, "message", ACK, 1),
    ("a key, encrypted", build(frame(extended=(("K", SECRET),)), key=KEY), KEYED, {}, "message", b"*ACK", 1),
    (
        "a key, encrypted, without the bracket before it",
        build(frame(data=f"#1234|Nri1/BA5[K{SECRET}"), key=KEY),
        KEYED,
        {},
        "message",
        b"*ACK",
        2,
    ),
    ("a key in a text, encrypted", build(frame(data=f"#1234|Nri1/BA5|A[K{SECRET}"), key=KEY), KEYED, {}, "message", b"*ACK", 1),
    ("a key for content", build(frame(data=f"K{SECRET}")), USUAL, {}, "message", ACK, 1),
    ("no sequence", plain(f'"SIA-DCS"L0#1234[{DATA}]'), USUAL, {}, "malformed", NO, 1),
    ("no L, strict", plain(f'"SIA-DCS"0001#1234[{DATA}]'), USUAL, {"strict": True}, "dialect", NO, 1),
    ("an account of 40 signs", plain(f'"SIA-DCS"0001L0#{"1" * 40}[{DATA}]'), USUAL, {}, "malformed", NO, 1),
    (
        "an account with a quote in it",
        plain(f'"SIA-DCS"0001L0#12"34[{DATA}]'),
        USUAL,
        {},
        "message",
        build_reply("ACK", '0001L0#12"34'),
        1,
    ),
    ("an account with an LF in it", plain(f'"SIA-DCS"0001L0#12\n34[{DATA}]'), USUAL, {}, "malformed", NO, 1),
    ("only quotes", plain('""""'), USUAL, {}, "malformed", NO, 1),
    ("an empty body", wrap(b""), USUAL, {}, "noise", NO, 0),
]


def became(item: Received) -> str:
    return item.error.reason if isinstance(item, Rejected) else "message" if isinstance(item, Message) else "link_test"


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe[0])
def test_each_attempt_is_answered_as_it_should_be(probe: Probe) -> None:
    what, data, policy, rules, becomes, reply, events = probe
    for chunks in ([data], [data[i : i + 1] for i in range(len(data))]):
        (item,) = receive(*chunks, policy=policy, **rules)
        assert (what, became(item)) == (what, becomes)
        told = () if isinstance(item, LinkTest) else item.events
        assert len(told) == events
        if reply == b"*ACK":
            assert b'"*ACK"' in item.reply
        else:
            assert item.reply == reply
        assert b"None" not in item.reply
        shown = repr(item)
        assert all(secret not in shown for secret in (KEY.decode(), OTHER.decode(), SECRET, KEY.hex()))


def test_glued_and_split_frames_are_each_answered_for_themselves() -> None:
    bad = b"\n0000" + GOOD[5:]
    data = GOOD + bad + SEALED + b"\0" + DUH + GOOD[:20] + GOOD
    policies = (
        (USUAL, ["message", "crc", "no_key", "answer", "noise", "message"]),
        (KEYED, ["plain", "crc", "message", "answer", "noise", "plain"]),
    )
    for policy, wanted in policies:
        for size in (1, 7, 50, len(data)):
            chunks = [data[i : i + size] for i in range(0, len(data), size)]
            assert [became(item) for item in receive(*chunks, policy=policy)] == wanted


def test_a_refused_frame_is_told_to_its_account_and_is_no_retransmission_of_the_taken_one() -> None:
    enforced = Policy(time="enforce_plain")
    (taken,), (plainly,), (strictly,), (late,) = (
        receive(GOOD, policy=USUAL),
        receive(GOOD, policy=KEYED),
        receive(build(frame(), dialect="binary_crc"), policy=USUAL, strict=True),
        receive(build(frame(ahead_s=-3600)), policy=enforced),
    )
    assert isinstance(taken, Message)
    identities = {taken.identity}
    for item in (plainly, strictly, late):
        assert isinstance(item, Rejected)
        assert (item.events[0].account, item.events[0].code) == ("1234", f"refused_{item.error.reason}")
        identities.add(item.identity)
    assert len(identities) == 4
    assert isinstance(late, Rejected)
    assert [event.code for event in late.events] == ["refused_old_time", "HA"]


def test_a_frame_whose_header_names_nobody_is_told_to_the_centre() -> None:
    """Its checksum fits: whoever sent it speaks DC-09, and what it reports is not known."""
    first, again, another = (receive(plain(f'"SIA-DCS"{n}L0#1234[{DATA}]'))[0] for n in ("x", "x", "y"))
    assert isinstance(first, Rejected)
    (event,) = first.events
    assert (event.account, event.code, event.category) == (CENTRE, "refused_malformed", Category.GENERATED)
    assert "the header cannot be read" in (event.text or "")
    assert first == again
    assert isinstance(another, Rejected)
    assert first.identity != another.identity


def test_a_repeat_with_a_new_pad_and_time_has_the_identity_of_the_first() -> None:
    first, again, another, clear = (
        receive(data, policy=policy)[0]
        for data, policy in (
            (build(frame(), key=KEY), KEYED),
            (build(frame(ahead_s=-9), key=KEY, pad=b"q" * 17), KEYED),
            (build(frame(data="#1234|Nri1/HA006"), key=KEY), KEYED),
            (build(frame()), USUAL),
        )
    )
    assert all(isinstance(item, Message) for item in (first, again, another, clear))
    assert first.identity == again.identity == clear.identity != another.identity  # type: ignore[union-attr] # messages, as asserted
