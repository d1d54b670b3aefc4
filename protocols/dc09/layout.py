"""
What each byte of a frame is, in words: for people who compare a panel with the standard.

    frame -> Part(name, bytes, where they begin, what they say), in the frame's order; opened ciphertext follows what it was in
"""

from fastcrc.crc16 import arc

from protocols.dc09 import cipher
from protocols.dc09.frame import BODY, HEADER, PAIR, hide_key, moment
from protocols.link import Part, Policy

TOKENS = {
    "SIA-DCS": "events in SIA format (DC-03)",
    "ADM-CID": "an event in Contact ID (DC-05)",
    "NULL": "a link test: the panel lives and has nothing to report",
    "XNM": "a link test that carries data",
    "ACK": "a receiver's answer: taken",
    "NAK": "a receiver's answer: not taken, the time is wrong",
    "DUH": "a receiver's answer: not understood",
    "RSP": "an answer to a command",
}
EXTENDED = {
    "A": "authentication hash",
    "B": "vendor's own",
    "C": "supervision category",
    "G": "network path",
    "H": "when it happened",
    "I": "alarm text",
    "J": "network path, or JSON",
    "K": "an encryption key: a secret, never shown",
    "L": "where on the site",
    "M": "MAC address of the panel",
    "N": "network address",
    "O": "building",
    "P": "programming data",
    "R": "room",
    "S": "site",
    "T": "trigger",
    "V": "addresses of pictures or sound",
    "X": "longitude",
    "Y": "latitude",
    "Z": "altitude",
}
"""What the ids of extended data mean."""
_REST = "is no part of a frame, or of a text with a ] in it"


def layout(frame: bytes, policy: Policy | None = None) -> tuple[Part, ...]:
    """Return the parts of a raw frame; none where it has no header. policy: its keys open what is encrypted."""
    header = HEADER.match(frame)
    if header is None:
        return ()
    begin = header.end() - 1
    end = frame.find(b"\r", begin)
    body = hide_key(frame[begin : end if end >= 0 else len(frame)])
    parts = [Part("LF", 0, frame[:1], "a frame begins")] if frame[:1] == b"\n" else []
    parts.append(Part("checksum", header.start(1), header[1], _checksum(header[1], body)))
    length, counted = int(header[2], 16), len(body)
    fits = "as counted" if length == counted else f"but {counted} are there"
    parts.append(Part("length", header.start(2) - 1, b"0" + header[2], f"of the body, from quote to CR: {length} bytes, {fits}"))
    parts += _body(body, begin, policy or Policy())
    if end >= 0:
        parts.append(Part("CR", end, b"\r", "the frame ends"))
        if frame[end + 1 :]:
            parts.append(Part("rest", end + 1, frame[end + 1 :], "belongs to no frame"))
    return tuple(parts)


def _checksum(given: bytes, body: bytes) -> str:
    written = given.decode() if len(given) > 2 else f"{given.hex().upper()} as two raw bytes"  # noqa: PLR2004 - raw bytes
    wanted = int(given, 16) if len(given) > 2 else int.from_bytes(given)  # noqa: PLR2004 - the same
    if b"[K*" in body:
        return f"CRC-16/ARC: {written}; not counted here, where the key in the frame is hidden"
    computed = arc(body)
    if computed == wanted:
        return "CRC-16/ARC of the body: it fits"
    also = "; they fit with the CR" if arc(b"\r", computed) == wanted else ""
    return f"CRC-16/ARC: {written}, but the bytes give {computed:04X}{also}"


def _body(body: bytes, begin: int, policy: Policy) -> list[Part]:
    """Part the body; begin: where it stands in the frame. As Latin-1 a sign is a byte, whatever the text is."""
    match = BODY.match(body.decode("latin-1"))
    if match is None:
        return [Part("body", begin, body, 'cannot be read: it should be "id" seq Rrcvr Lpref #acct [data]')]

    def part(group: str, name: str, says: str, before: int = 0, after: int = 0) -> Part:
        start, end = match.start(group) - before, match.end(group) + after
        return Part(name, begin + start, body[start:end], says)

    encrypted = "encrypted; " if match["star"] else ""
    known = TOKENS.get(match["id_token"], "content that is kept and raised, not read")
    parts = [part("id_token", "token", f"{encrypted}{known}", 1 + bool(match["star"]), 1)]
    at = match.start("echo")
    parts.append(Part("sequence", begin + at, body[at : at + 4], "the answer repeats it, and so does a retransmission"))
    if match["receiver"] is not None:
        parts.append(part("receiver", "receiver", "", 1))
    if match["line"] is not None:
        parts.append(part("line", "line", "" if match["line"] else "without a digit", 1))
    if match["account"] is not None:
        parts.append(part("account", "account", "", 1))
    if match["data"] is not None:
        says = f"{len(match['data']) // 2} bytes of ciphertext" if match["star"] else "" if match["data"] else "empty"
        bracket = body[match.end("data") : match.end("data") + 1] == b"]"
        parts.append(part("data", "data", says, 1, int(bracket)))
    parts += _extended(body, match.start("extended"), match.end("extended"), begin) if match["extended"] else []
    if match["rest"]:
        parts.append(part("rest", "rest", _REST))
    if match["timestamp"]:
        parts.append(part("timestamp", "time", _time(match["timestamp"], policy), 1))
    return parts + (_opened(match["data"] or "", match["account"] or "", policy) if match["star"] else [])


def _extended(data: bytes, start: int, end: int, begin: int) -> list[Part]:
    pairs = PAIR.finditer(data.decode("latin-1"), start, end)
    return [
        Part(f"extended {pair[1]}".rstrip(), begin + pair.start(), data[pair.start() : pair.end()], _meaning(pair[1]))
        for pair in pairs
    ]


def _meaning(name: str) -> str:
    return EXTENDED.get(name, "a vendor's own")


def _opened(digits: str, account: str, policy: Policy) -> list[Part]:
    """Part what was encrypted: offsets count from its first plain byte."""
    try:
        opened = cipher.unseal_by(policy.keys, digits, account, empty=True) if policy.keys else None
    except ValueError:
        return []
    if opened is None:
        return []
    content = opened[1]
    at = content.pad
    parts = [Part("opened: pad", 0, b"", f"{content.pad} random bytes")]
    if content.data:
        parts.append(Part("opened: data", at, b"|" + hide_key(content.data), ""))
        at += 1 + len(content.data)
    behind, blocks = hide_key(b"]" + content.extended + content.rest), 1 + len(content.extended)
    parts += [Part(f"opened: {each.name}", each.at, each.data, each.says) for each in _extended(behind, 1, blocks, at)]
    if content.rest:
        parts.append(Part("opened: rest", at + blocks, behind[blocks:], _REST))
    time = content.timestamp.decode("latin-1")
    says = _time(time, policy) if time else "none, though an encrypted frame must have one"
    parts.append(Part("opened: time", at + len(behind), b"_" + content.timestamp if time else b"", says))
    return parts


def _time(written: str, policy: Policy) -> str:
    """Say which moment it is. policy: the zone in which the panel writes it."""
    zone = policy.time_zone.key if policy.time_zone else "UTC"
    at = moment(written, policy.time_zone)
    return f"when it was sent, {zone}" if at else "no time: it should be HH:MM:SS,MM-DD-YYYY"
