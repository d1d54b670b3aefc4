"""
What is sent: a receiver's answers, and a panel's frames with all their dialects.

    "ACK"<echo>[]                               to a plain frame
    "*ACK"<echo>[hex(pad ] _now)                to an encrypted one, with the key that opened it
    "DUH"<echo>[]                               not understood; never encrypted
    "NAK"0000R0L0A0[]_now                       wrong time: set your clock; never encrypted
"""

from datetime import datetime
from typing import Literal

from protocols.dc09 import cipher
from protocols.dc09.frame import Dialect, Frame, stamp, wrap


def build_reply(id_token: str, echo: str, binary: bool = False) -> bytes:  # noqa: FBT001, FBT002 - on the way of each frame a keyword costs
    """
    Return a plain answer: it repeats sequence, R, L and account byte for byte [SIA DC-09-2013, 5.5.3.1].

    binary: whether the frame had a binary checksum; it is answered in kind.
    """
    return wrap(f'"{id_token}"{echo}[]'.encode(), binary)


def build_sealed_ack(echo: str, key: bytes, pad: str, now: datetime, *, binary: bool = False) -> bytes:
    """
    Return an encrypted ACK.

    pad: its first signs are the answer's pad; the frame's own ciphertext serves, which is as good as random and never the same.
    """
    content = cipher.encrypt(key, f"]{stamp(now)}".encode(), pad.encode())
    return wrap(f'"*ACK"{echo}[{content}'.encode(), binary)


def build_nak(now: datetime, spelling: Literal["A0", "#0"] = "A0", *, binary: bool = False) -> bytes:
    """Return the answer to a wrong time: the right one. spelling: of the account, `A0` up to 2013 or `#0` since."""
    return wrap(f'"NAK"0000R0L0{spelling}[]{stamp(now)}'.encode(), binary=binary)


def build(frame: Frame, *, key: bytes = b"", pad: bytes = b"", dialect: Dialect = "") -> bytes:
    """
    Return the bytes of a frame as a panel sends it, checksum and length included: the inverse of reading it.

    key: encrypts it, where given; without one, the data of a frame that says `encrypted` are its ciphertext. pad: stands before
    the encrypted data, and is repeated until the blocks are full. dialect: what to do otherwise than the standard.
    """
    encoding = "cp1252" if dialect == "cp1252" else "utf-8"
    extended = "".join(f"[{name}{value}]" for name, value in frame.extended)
    tail = f"]{extended}{stamp(frame.timestamp) if frame.timestamp else ''}"
    star, data = "", f"{frame.data}{tail}"
    if key:
        content = f"|{frame.data}{tail}" if frame.data else tail
        star, data = "*", cipher.encrypt(key, content.encode(encoding, "replace"), pad)
    elif frame.encrypted:
        star, data = "*", frame.data
    if dialect == "bracket_in_clear" and star:
        data += "]"
    if dialect == "lower_case_hex" and star:
        data = data.lower()
    body = f'"{star}{frame.id_token}"{frame.echo}[{data}'.encode(encoding, "replace")
    return _dialects(body, dialect)


def _dialects(body: bytes, dialect: Dialect) -> bytes:
    whole = wrap(body, binary=dialect == "binary_crc")
    match dialect:
        case "eldes":
            whole = wrap(body + b"\r")[:-1]
        case "lower_case_hex":
            whole = whole[:9].lower() + whole[9:]
        case "no_lf":
            whole = whole[1:]
        case "nul_after_cr":
            whole += b"\0"
        case "lf_after_cr":
            whole += b"\n"
        case "length":  # written in decimal, as one panel did
            whole = b"%b%04d%b" % (whole[:5], len(body) % 1000, whole[9:])
    return whole
