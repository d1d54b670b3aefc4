"""A frame's fields, for people and for a panel's side: whatever a receiver would do with it."""

import re
from datetime import datetime

from fastcrc.crc16 import arc

from protocols.dc09 import cipher
from protocols.dc09.frame import BODY, HEADER, PAIR, Frame, hide_key, moment, rejoin, text
from protocols.link import Policy


def explain(frame: bytes, policy: Policy | None = None, now: datetime | None = None) -> Frame | None:
    """
    Return the fields of a raw frame, refused or not; None where the bytes are no frame of this protocol.

    policy: an encrypted frame is opened where it has the key; the time is read in its zone. now: see `moment`.
    """
    header = HEADER.match(frame)
    match = header and BODY.match(text(hide_key(frame[header.end() - 1 :].rstrip(b"\0\r\n")))[0])
    return fields(match, policy or Policy(), now) if match else None


def read_reply(data: bytes, key: bytes = b"") -> Frame | None:
    """
    Read a receiver's answer as a panel would; None where it is damaged, or encrypted and not with this key.

    data: one whole answer. `R0L0A0` of a NAK is read as the line 0A0, without an account.
    """
    header = HEADER.match(data)
    if header is None or data[-1:] != b"\r":
        return None
    body, crc = data[header.end() - 1 : -1], header[1]
    wanted = int.from_bytes(crc) if len(crc) == 2 else int(crc, 16)  # noqa: PLR2004 - raw bytes
    match = BODY.match(text(body)[0])
    if arc(body) != wanted or int(header[2], 16) != len(body) or match is None:
        return None
    frame = fields(match, Policy(keys=(key,) if key else ()))
    return None if frame.encrypted and frame.timestamp is None else frame


def fields(match: re.Match[str], policy: Policy, now: datetime | None = None) -> Frame:
    """Return the fields of a body that the grammar fits, opened where the policy has the key."""
    data, extended, rest, timestamp = (match[name] or "" for name in ("data", "extended", "rest", "timestamp"))
    if match["star"] and policy.keys:
        try:
            opened = cipher.unseal_by(policy.keys, data, match["account"] or "", empty=True)
        except ValueError:
            opened = None
        if opened:
            data, extended, rest, timestamp, _ = clear(opened[1])
    data, extended, _ = rejoin(data, extended, rest)
    return Frame(
        id_token=match["id_token"],
        encrypted=bool(match["star"]),
        sequence=match["echo"][:4],
        receiver=match["receiver"],
        line=match["line"],
        account=match["account"] or "",
        data=data,
        extended=tuple(PAIR.findall(extended)),
        timestamp=moment(timestamp, policy.time_zone, now),
    )


def clear(content: cipher.Content) -> tuple[str, str, str, str, tuple[str, ...]]:
    """Return an opened content's data, extended blocks, rest and time as text, a key hidden; and the dialects of its text."""
    data, named = text(hide_key(content.data))
    timestamp = content.timestamp.decode("ascii", "replace")
    if not content.extended and not content.rest:
        return data, "", "", timestamp, named
    behind, also = hide_key(b"]" + content.extended + content.rest)[1:], len(content.extended)
    extended, of_blocks = text(behind[:also])
    rest, of_rest = text(behind[also:])
    return data, extended, rest, timestamp, named or of_blocks or of_rest
