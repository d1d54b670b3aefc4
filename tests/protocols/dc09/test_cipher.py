"""What stands behind the key: pads of every kind, right keys and wrong ones."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from protocols.dc09 import cipher

KEYS = [bytes(range(size)) for size in (16, 24, 32)]
TIME = b"_10:00:00,11-22-2026"
digit = st.sampled_from(b"0123456789")
pads = st.binary(max_size=40).map(lambda pad: bytes(byte for byte in pad if byte not in b"|[]"))
text = st.text(st.characters(exclude_characters="[]|", exclude_categories=["Cs"]), max_size=40).map(str.encode)


def sealed(key: bytes, content: bytes, pad: bytes = b"") -> bytes:
    return bytes.fromhex(cipher.encrypt(key, content, pad))


@given(st.sampled_from(KEYS), pads, text, st.lists(text, max_size=3))
def test_what_was_sealed_is_opened_whatever_the_pad(key: bytes, pad: bytes, data: bytes, blocks: list[bytes]) -> None:
    extended = b"".join(b"[I%b]" % block for block in blocks)
    content = (b"|" + data if data else b"") + b"]" + extended + TIME
    opened = cipher.unseal(key, sealed(key, content, pad), b"1234", empty=False)
    assert opened
    assert (opened.data, opened.extended, opened.timestamp) == (data, extended, TIME[1:])
    assert opened.pad >= len(pad)


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 4).flatmap(lambda n: st.binary(min_size=16 * n, max_size=16 * n))))
)
def test_a_kept_cipher_remembers_nothing_of_the_frames_before(turns: list[tuple[bytes, bytes]]) -> None:
    """Each answer and each frame stands alone: CBC from an IV of zeros, as another implementation does it afresh."""
    for key, content in turns:
        anew = Cipher(algorithms.AES(key), modes.CBC(bytes(16)))
        ciphertext = anew.encryptor().update(content)
        assert sealed(key, content) == ciphertext
        assert cipher.decrypt(key, ciphertext) == content
        assert cipher.decrypt(key, content) == anew.decryptor().update(content)


@pytest.mark.parametrize("pad", [b"a|b", b"a]b", b"[", b"]]", b"|", b"|x]"])
def test_a_pad_that_holds_its_own_end_is_found_by_the_account(pad: bytes) -> None:
    opened = cipher.unseal(KEYS[0], sealed(KEYS[0], b"|#1234|Nri1/BA5]" + TIME, pad), b"1234", empty=False)
    assert opened
    assert (opened.data, opened.dialects) == (b"#1234|Nri1/BA5", ("pad_odd",))


@pytest.mark.parametrize("pad", [b"", b"~~", b"a]b"])
@pytest.mark.parametrize("rest", [b"b^]", b" x][M001122334455]", b"]", b"junk", b"[Ihello"])
@pytest.mark.parametrize("data", [b"#1234|Nri1/HA5^a", b"#0000|Nri1/HA5^a", b"Nri1/HA5^a"])
def test_a_bracket_in_a_text_is_not_a_wrong_key(data: bytes, rest: bytes, pad: bytes) -> None:
    """A bracket and a time at the end are what tells a right key: a hold-up in a hall called [1] must not end as silence."""
    opened = cipher.unseal(KEYS[0], sealed(KEYS[0], b"|%b][Ihall]%b" % (data, rest) + TIME, pad), b"1234", empty=False)
    assert opened
    assert (opened.data, opened.extended, opened.rest, opened.timestamp) == (data, b"[Ihall]", rest, TIME[1:])


def test_a_bracket_in_a_text_without_a_time_is_opened_where_the_account_is_in_it() -> None:
    for data, opens in ((b"#1234|Nri1/HA5^a", True), (b"#0000|Nri1/HA5^a", False)):
        opened = cipher.unseal(KEYS[0], sealed(KEYS[0], b"|%b]b^]" % data), b"1234", empty=True)
        assert (opened is not None) is opens


@given(st.binary(min_size=16, max_size=160).map(lambda data: data[: len(data) // 16 * 16]))
def test_noise_is_nobodys_content(ciphertext: bytes) -> None:
    """A time at the end is 20 bytes that chance does not give."""
    for key in KEYS:
        assert cipher.unseal(key, ciphertext, b"1234", empty=False) is None


def test_a_key_is_taken_by_its_place_and_a_wrong_one_never() -> None:
    digits = cipher.encrypt(KEYS[1], b"|#1234|Nri1/BA5]" + TIME, b"")
    assert [cipher.unseal_by(keys, digits, "1234", empty=False) is not None for keys in ([], KEYS[:1], KEYS[2:])] == [False] * 3
    for keys, place in ((KEYS, 1), (KEYS[1:], 0), (KEYS[:2], 1)):
        opened = cipher.unseal_by(keys, digits, "1234", empty=False)
        assert opened
        assert opened[0] == place


def test_the_time_may_be_missing_where_the_data_can_be_read() -> None:
    assert cipher.unseal(KEYS[0], sealed(KEYS[0], b"|#1234|Nri1/BA5]"), b"1234", empty=False)
    assert cipher.unseal(KEYS[0], sealed(KEYS[0], b"|#1234|\x01\x02\x03\x04]"), b"1234", empty=False) is None
    assert cipher.unseal(KEYS[0], sealed(KEYS[0], b"]"), b"1234", empty=True)
    assert cipher.unseal(KEYS[0], sealed(KEYS[0], b"]"), b"1234", empty=False) is None


@pytest.mark.parametrize(
    ("digits", "message"), [("", "0 digits"), ("00" * 17, "no multiple"), ("0G" * 16, "not hexadecimal"), ("0 " * 16, "not hexa")]
)
def test_what_is_no_ciphertext_is_told(digits: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cipher.unseal_by(KEYS, digits, "1234", empty=True)


def test_the_other_notation_of_a_key() -> None:
    written = "00112233445566778899AABBCCDDEEFF"
    assert ("ascii", written.encode()) in cipher.other_notations(bytes.fromhex(written))
    assert list(cipher.other_notations(written.encode())) == [("hex", bytes.fromhex(written))]
    assert list(cipher.other_notations(KEYS[1])) == list(cipher.other_notations(KEYS[2])) == []
