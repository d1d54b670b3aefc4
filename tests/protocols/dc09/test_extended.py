"""Extended data: what has a form is read, what has none is kept, a key is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dc09 import Frame, build, extended
from protocols.link import Message, Policy
from tests.protocols.dc09.vectors import NOW, receive

SCHEMES = ("https", "rtsp")


@pytest.mark.parametrize(
    ("block", "pair"),
    [
        ("X093W23.456", ("X", "-93.3909333")),
        ("Y45N23.456", ("Y", "45.3909333")),
        ("Y45S23.456", ("Y", "-45.3909333")),
        ("X006E07.777", ("X", "6.1296167")),
        ("X006E07.7777777", ("X", "6.1296296")),
        ("X180E00.0", ("X", "180.0000000")),
        ("X181E00.0", ("X?", "181E00.0")),
        ("X006N07.777", ("X?", "006N07.777")),
        ("Y45N60.1", ("Y?", "45N60.1")),
        ("Y91N00.0", ("Y?", "91N00.0")),
        ("Y45.39", ("Y?", "45.39")),
        ("Z123.2M", ("Z", "123.2")),
        ("Z-3M", ("Z", "-3")),
        ("Zhigh", ("Z?", "high")),
        ("K0011", ("K", "(secret)")),
        ("H09:59:58,11-22-2026", ("H", "09:59:58,11-22-2026")),
        ("$Pabc", ("$P", "abc")),
        ("Bvendor", ("B", "vendor")),
        ("", ("", "")),
    ],
)
def test_a_block_is_read_where_it_has_a_form(block: str, pair: tuple[str, str]) -> None:
    assert extended.read(f"[{block}]", SCHEMES) == (pair,)


def test_addresses_are_let_through_by_their_scheme() -> None:
    block = "[Vhttps://a.example/1?x=1,2,RTSP://b.example,http://c.example, javascript:alert(1),file:///etc/passwd][Vnowhere]"
    assert extended.read(block, SCHEMES) == (
        ("V", "https://a.example/1?x=1,2"),
        ("V", "RTSP://b.example"),
        ("V?", "http://c.example"),
        ("V?", "javascript:alert(1)"),
        ("V?", "file:///etc/passwd"),
        ("V?", "nowhere"),
    )


def test_repeats_are_kept_in_their_order_and_there_is_an_end() -> None:
    assert extended.read("[Ia][Mb][Ic]", SCHEMES) == (("I", "a"), ("M", "b"), ("I", "c"))
    assert len(extended.read("[I]" * 1000, SCHEMES)) == extended.PAIRS_MAX


@pytest.mark.parametrize("key", [b"", b"0123456789abcdef"])
def test_a_key_that_a_peer_sends_is_nowhere_in_what_comes_out(key: bytes) -> None:
    secret = "00112233445566778899AABBCCDDEEFF"
    blocks = (("I", "hall"), ("K", secret), ("K", "short"))
    frame = Frame(id_token="SIA-DCS", sequence="0001", account="1234", data="#1234|NBA5", extended=blocks, timestamp=NOW)
    (item,) = receive(build(frame, key=key), policy=Policy(keys=(key,) if key else ()))
    assert isinstance(item, Message)
    assert item.events[0].extended == (("I", "hall"), ("K", "(secret)"), ("K", "(secret)"))
    assert secret not in repr(item)
    assert "short" not in repr(item)
    if not key:
        assert len(item.frame) == len(build(frame))
        assert b"[K" + b"*" * 32 + b"]" in item.frame


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in extended.read(text, SCHEMES))
