"""
Encrypted DC-09: what stands in clear behind the key.

    [hex( pad | data ] [x...] _timestamp )          no closing bracket in clear; id, seq, R, L and #acct are not encrypted
    pad ] _timestamp                                no data: NULL, ACK

AES-CBC with a key of 128, 192 or 256 bits and zeros for IV; nothing else fills the last block but the pad before the data: any
bytes but `|`, `[` and `]`, 0..15 of them up to 2021, 16..31 since 2026. There is no MAC: a key is taken for the right one
where the content ends in a bracket and a time, as it must.
"""

import re
from binascii import unhexlify
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from protocols.dc09.frame import TIME

BLOCK: Final = 16
"""Bytes."""
_IV: Final = bytes(BLOCK)
_STAMP: Final = TIME.encode()
_BLOCKS: Final = rb"""
    (?P<pad> [^|\[\]]* )
    (?: \| (?P<data> [^\]]* ) )?
    (?P<extended> \] (?: \[ [^\]]* \] )* )
"""
_FLAGS: Final = re.VERBOSE | re.DOTALL
_CONTENT: Final = re.compile(_BLOCKS + rb"(?: _ (?P<timestamp> [^\]\[]* ) )? \Z", _FLAGS)
_TRAILED: Final = re.compile(_BLOCKS + rb"(?P<rest> .*? ) (?: _ (?P<timestamp>" + _STAMP + rb") )? \Z", _FLAGS)
"""A text had a ] in it: the plain frame's grammar takes that too."""
_USUAL: Final = re.compile(rb"([^|\[\]]*)(?:\|([^\]]+))?\]((?:\[[^\]]*\])*)_(" + _STAMP + rb")")
"""As the standard wants it: pad, data, extended, timestamp."""
_TIME: Final = re.compile(b"_" + _STAMP)
_NO_PAD: Final = re.compile(rb"[|\[\]]")
"""What ends a pad, so that none may hold it."""
_READABLE: Final = re.compile(rb"#[ -~\x80-\xFF]*\|[ -~\x80-\xFF]*")


class Content(msgspec.Struct, frozen=True, gc=False):
    """What was encrypted."""

    data: bytes
    extended: bytes
    timestamp: bytes
    """Empty where none was sent."""
    pad: int
    """How many bytes: the answer has as many as is the custom of the panel's year."""
    dialects: tuple[str, ...] = ()
    """Where it departs from the standard, by name."""
    rest: bytes = b""
    """What stands between the last bracket and the time."""


class _Cbc:
    """AES-CBC of one key, made ready once: that is most of what a short frame costs. Not to be shared by threads."""

    def __init__(self, key: bytes) -> None:
        cipher = Cipher(AES(key), CBC(_IV))
        self._encryptor, self._decryptor = cipher.encryptor(), cipher.decryptor()
        self._before = int.from_bytes(_IV)

    def decrypt(self, ciphertext: bytes) -> bytes:
        # A block is mixed with the ciphertext before it: so the IV goes ahead as ciphertext, and what came before is forgotten
        return self._decryptor.update(_IV + ciphertext)[BLOCK:]

    def encrypt(self, content: bytes) -> bytes:
        # The same the other way: the first block is mixed with the last ciphertext twice, which is not at all
        first = int.from_bytes(content[:BLOCK]) ^ self._before
        ciphertext = self._encryptor.update(first.to_bytes(BLOCK) + content[BLOCK:])
        self._before = int.from_bytes(ciphertext[-BLOCK:])
        return ciphertext


_cbc: Final = lru_cache(maxsize=16_384)(_Cbc)


def decrypt(key: bytes, ciphertext: bytes) -> bytes:
    """Return the plain bytes of whole blocks. key: 16, 24 or 32 bytes."""
    assert not len(ciphertext) % BLOCK
    return _cbc(key).decrypt(ciphertext)


def encrypt(key: bytes, content: bytes, pad: bytes) -> str:
    """Return the upper-case hexadecimal of pad and content; the pad is repeated until the blocks are full."""
    count = len(pad) + -(len(pad) + len(content)) % BLOCK
    filled = pad if len(pad) == count else ((pad or b"0") * (count // len(pad or b"0") + 1))[:count]
    return _cbc(key).encrypt(filled + content).hex().upper() if filled or content else ""


def unseal(key: bytes, ciphertext: bytes, account: bytes, *, empty: bool) -> Content | None:
    """
    Open what a key encrypted; None where it was another key.

    account: that of the header. empty: whether a content without data and time is believed: that is little to tell a right key
    by, for a wrong one passes once in 256.
    """
    plain = decrypt(key, ciphertext)
    usual = _USUAL.fullmatch(plain)
    if usual is not None:
        pad, data, extended, timestamp = usual.groups()
        if data.startswith(b"#%b|" % account) if data else b"|" not in plain:
            return Content(data or b"", extended, timestamp, len(pad))
    return _unseal_odd(plain, account, empty=empty)


def _unseal_odd(filled: bytes, account: bytes, *, empty: bool) -> Content | None:
    """
    Read a content that is not by the standard, in what `dialects` says, or without a time.

    Where the account or a time stands in its place, the key is the right one, whatever else is odd.
    """
    plain = filled.rstrip(b"\0")
    timed = _TIME.fullmatch(plain, max(0, len(plain) - 20)) is not None
    match = _CONTENT.fullmatch(plain)
    inner = plain.find(b"|#%b|" % account)
    begin = -1
    if inner >= 0 and (match is None or match.start("data") < inner):
        begin = inner
    elif match is None and timed:  # without the account before them, the data begin at the first bar, if there are any
        begin = plain.find(b"|") if b"|" in plain else plain.rfind(b"]")
    if begin >= 0:
        match = _CONTENT.fullmatch(plain, begin) or _TRAILED.fullmatch(plain, begin)
    if match is None:
        return None
    data: bytes = match["data"] or b""
    if not (timed or (_READABLE.fullmatch(data) is not None if data else empty)):
        return None
    pad = match.end("pad")
    odd = _NO_PAD.search(plain, 0, pad) is not None
    asked = {"pad_odd": odd, "nul_padding": plain != filled, "bar_without_data": match["data"] == b""}
    dialects = tuple(name for name, departs in asked.items() if departs)
    rest = match["rest"] if match.re is _TRAILED else b""
    return Content(data, match["extended"][1:], match["timestamp"] or b"", pad, dialects, rest)


def unseal_by(keys: Sequence[bytes], digits: str, account: str, *, empty: bool) -> tuple[int, Content] | None:
    """
    Open a frame's ciphertext with the first key that fits: its place in `keys`, and the content; None where none does.

    digits: as sent. Raises ValueError where they are not hexadecimal, or no whole blocks: the message says which.
    """
    if not digits or len(digits) % (2 * BLOCK):
        raise ValueError(f"the ciphertext has {len(digits)} digits, which is no multiple of {2 * BLOCK}: was it cut?")
    try:
        ciphertext = unhexlify(digits)
    except ValueError:
        raise ValueError("the ciphertext is not hexadecimal: is it another cipher's, or Base64?") from None
    for place, key in enumerate(keys):
        if content := unseal(key, ciphertext, account.encode(), empty=empty):
            return place, content
    return None


def other_notations(key: bytes) -> Iterator[tuple[str, bytes]]:
    """
    Say what a key might have been meant to be, where it was written in the wrong notation: `hex` or `ascii`, and the key.

    32 characters are the digits of an AES-128 key to one maker, and the characters of an AES-256 key to another.
    """
    if len(key) == BLOCK:
        yield "ascii", key.hex().upper().encode()
        yield "ascii", key.hex().encode()
    elif len(key) == 2 * BLOCK and re.fullmatch(rb"[0-9A-Fa-f]+", key):
        yield "hex", bytes.fromhex(key.decode())
