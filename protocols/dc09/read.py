"""
What a frame with a right checksum means, and what it is answered.

    body -> fields -> policy of its account -> opened -> its time -> events -> Message | LinkTest | Rejected

The questions in their order: is it readable, no answer, of a known account, encrypted with the right key, in the standard's
words where the listener is strict, of the right time, of a known token? The first no is the reason of the refusal.
"""

import re
from datetime import datetime
from typing import Final, Literal

import msgspec
from fastcrc.crc64 import ecma_182

from protocols import contact_id, sia
from protocols.dc09 import cipher, clock, extended
from protocols.dc09.build import build_nak, build_reply, build_sealed_ack
from protocols.dc09.explain import clear
from protocols.dc09.frame import BODY, DIALECTS, STRICT_BODY, moment, rejoin, text
from protocols.errors import FrameError, Reason
from protocols.event import CENTRE, Category, Event, Format, Qualifier
from protocols.link import LinkTest, Message, Policies, Policy, Received, Rejected

LINK_TESTS: Final = frozenset({"NULL", "XNM"})
ANSWERS: Final = frozenset({"ACK", "NAK", "DUH", "RSP"})
UNINTERPRETED: Final = frozenset(
    {"SIA-PUL", "SIA-S2K", "ACR-SF", "ADM-41E", "ADM-42E", "ADM-HS", "DSC-43", "FBI-SF", "ITI-I", "SCN-S8", "SCN-S16", "SCN-S24"}
    | {"SCT", "SES-SS", "SK-FSK1", "SK-FSK2", "VIS-BBA", "VIS-ACK"}
)
"""Tokens of the standard and of vendors whose content we keep and raise without reading it."""
REPORTS: Final = frozenset({"SIA-DCS", "ADM-CID"}) | UNINTERPRETED
_MARKED: Final = frozenset({"length", "eldes"})
"""Dialects that whoever handles the event should know of: they may as well be a fault."""
_ACCOUNT: Final = re.compile(r"[0-9A-Fa-f]{3,16}")
_USUAL: Final = Policy()
_AFTER: Final = frozenset({"nul_after_cr", "lf_after_cr"})
"""Seen only where the byte came in the same read: no ground to refuse a frame."""
_PLAIN: Final = (
    "account {} has a key here and sent a plain frame: switch encryption on in the panel, or take the key out of the account; "
    "where two panels have this number, list each at its receiver or line"
)
_HEADER: Final = 'the header cannot be read: {!r}; it should be "id" seq Rrcvr Lpref #acct [data]'
_ANSWER: Final = "{} is a receiver's answer; an answer to it would make a loop"
_TOKEN: Final = "the token {!r} is in no list of DC-09: the panel is answered DUH, which means not understood"
_STRANGER: Final = "no account {} is known here, and this listener is silent to such: add it to accounts/"
_NO_KEY: Final = (
    'the frame is encrypted, and account {} has no key here: give it the panel\'s, key = "hex:..." or "ascii:...", or switch '
    "encryption off in the panel"
)


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a listener says of DC-09, beside its accounts."""

    strict: bool = False
    """Whether a frame that departs from the standard is refused, by the name of its dialect."""
    nak: Literal["A0", "#0"] = "A0"
    """How a NAK writes its account: R0L0A0 up to 2013, R0L0#0 since."""
    undecryptable: Literal["silence", "duh"] = "silence"
    """What an encrypted frame gets that no key opens."""
    unknown_accounts: Literal["raise", "silence"] = "raise"
    """What a frame of an account gets that the centre does not know: an ACK and an alarm, or nothing."""
    url_schemes: tuple[str, ...] = ("http", "https", "rtsp", "rtsps")
    """Of the addresses in V (pictures, sound) that reach the operator as such."""


class _Opened(msgspec.Struct, gc=False):
    """What an encrypted frame holds, as text."""

    data: str
    inner: str | None
    """The account at the head of the data, where it is that of the header."""
    extended: str
    rest: str
    timestamp: str
    dialects: tuple[str, ...]
    key: bytes
    pad: str
    """For the answer."""
    mark: str


class _Refusal(Exception):  # noqa: N818 - no error: the way out at the first no; it never leaves this file
    def __init__(self, reason: Reason, message: str, reply: bytes = b"", events: tuple[Event, ...] = ()) -> None:
        """Keep why. events: those of the frame, where they may still be raised."""
        super().__init__()
        self.error, self.reply, self.events = FrameError(reason, message), reply, events


class Reader:
    """Reads the frames of a link, one by one, and remembers nothing of them."""

    def __init__(self, policies: Policies, rules: Rules) -> None:
        """Take what the centre says of its accounts, and of this listener."""
        self._policies, self._rules = policies, rules
        self._of_strangers = _USUAL if rules.unknown_accounts == "raise" else None

    def read(  # noqa: C901, PLR0912 - the questions in their order, one branch each
        self,
        frame: bytes,
        body: bytes,
        now: datetime,
        dialects: tuple[str, ...] = (),
        binary: bool = False,  # noqa: FBT001, FBT002 - on the way of each frame a keyword costs
    ) -> Received:
        """
        Read a body whose checksum is right.

        frame: the raw bytes, for the journal. now: the time of receipt, UTC. dialects: what was seen of them around the body.
        binary: whether the checksum was, and is to be in the answer.
        """
        try:
            string = body.decode()
        except UnicodeDecodeError:
            string, dialects = text(body)[0], (*dialects, "cp1252")
        match = STRICT_BODY.match(string) or BODY.match(string)
        if match is None:
            return _unreadable(frame, string)
        star, token, echo, receiver, line, account, data, inner, blocks, rest, timestamp = match.groups()
        if token in ANSWERS:
            return Rejected(frame, FrameError(Reason.ANSWER, _ANSWER.format(token)))
        data, mark, key, pad, ahead_s = data or "", "", b"", "", None
        account = account or ("" if star else _named_in(data))  # who leaves it out of the header gets around no key
        try:
            policy = self._policies(receiver, line, account) or self._of_strangers
            if policy is None:
                raise _Refusal(Reason.UNKNOWN_ACCOUNT, _STRANGER.format(account))  # noqa: TRY301 - the way out, see _Refusal
            if star:
                opened = self._open(match, policy, binary, dialects)
                data, inner, blocks, rest, timestamp = opened.data, opened.inner, opened.extended, opened.rest, opened.timestamp
                dialects, key, pad, mark = opened.dialects, opened.key, opened.pad, opened.mark
            elif policy.keys:
                raise _Refusal(Reason.PLAIN, _PLAIN.format(account))  # noqa: TRY301 - the way out, see _Refusal
            if rest or match.re is not STRICT_BODY or (data and inner is None):
                data, blocks, rest, timestamp, departures = _departures(match, data, blocks or "", rest, timestamp)
                dialects += departures
            if dialects:
                mark = self._judge(dialects, mark)
            events: tuple[Event, ...] = ()
            if token not in LINK_TESTS:
                events = self._events(token, receiver, line, account, data, inner, blocks, rest, policy, now)
            if timestamp or policy.time == "enforce_plain" or (star and policy.time == "enforce"):
                ahead_s, trouble = self._check_time(timestamp, star, policy, events, now, binary)
                mark = f"{trouble}; {mark}" if trouble and mark else trouble or mark
            if token not in REPORTS and token not in LINK_TESTS:
                raise _Refusal(Reason.UNKNOWN_TOKEN, _TOKEN.format(token), build_reply("DUH", echo, binary))  # noqa: TRY301 - the way out
        except _Refusal as refusal:
            return _refuse(frame, (account, receiver, line), refusal, f'"{token}"{echo}[{data}]{blocks or ""}{rest}')
        reply = build_sealed_ack(echo, key, pad, now, binary=binary) if key else build_reply("ACK", echo, binary)
        if not events:
            return LinkTest(frame, account, reply, receiver, line, mark, dialects, ahead_s)
        identity = _identity(f'"{token}"{echo}[{data}]{blocks or ""}{rest}')
        return Message(frame, events, reply, identity, mark, dialects, ahead_s)

    def _open(self, match: re.Match[str], policy: Policy, binary: bool, seen: tuple[str, ...]) -> _Opened:  # noqa: FBT001 - passed on
        """Open an encrypted frame with a key of its account, or refuse it. seen: the dialects around it; each is told once."""
        token, echo, account, digits = match.group("id_token", "echo", "account", "data")
        account, digits = account or "", digits or ""
        duh = build_reply("DUH", echo, binary) if self._rules.undecryptable == "duh" else b""
        if not policy.keys:
            raise _Refusal(Reason.NO_KEY, _NO_KEY.format(account), duh)
        try:
            opened = cipher.unseal_by(policy.keys, digits, account, empty=policy.time == "ignore" or token in LINK_TESTS)
        except ValueError as error:
            raise _Refusal(Reason.MALFORMED, str(error)) from None
        if opened is None:
            raise _Refusal(Reason.WRONG_KEY, _wrong_key(policy.keys, digits, account), duh)
        place, content = opened
        data, blocks, rest, timestamp, named = clear(content)
        dialects = [*seen, *named, *content.dialects]
        if digits != digits.upper():
            dialects.append("lower_case_hex")
        if match.end("data") != len(match.string):
            dialects.append("bracket_in_clear")
        pad = digits[: 27 if content.pad >= cipher.BLOCK else 11]
        mark = "encrypted with an older key of its account" if place else ""
        inner = f"#{account}|"
        told = tuple(dict.fromkeys(dialects)) if dialects else ()
        inner_sent = inner if data.startswith(inner) else None
        return _Opened(data, inner_sent, blocks, rest, timestamp, told, policy.keys[place], pad, mark)

    def _judge(self, dialects: tuple[str, ...], mark: str) -> str:
        """Refuse a dialect where the listener is strict; else return the mark, with what is worth telling of it."""
        strict = self._rules.strict
        told = [f"{name}: {DIALECTS[name]}" for name in dialects if name in _MARKED or (strict and name not in _AFTER)]
        if strict and told:
            raise _Refusal(Reason.DIALECT, f"this listener is strict, and refuses {'; '.join(told)}")
        return "; ".join([mark, *told] if mark else told)

    def _check_time(  # noqa: PLR0913, PLR0917 - what a refusal needs
        self,
        timestamp: str | None,
        star: str | None,
        policy: Policy,
        events: tuple[Event, ...],
        now: datetime,
        binary: bool,  # noqa: FBT001 - passed on
    ) -> tuple[float | None, str]:
        """
        Say how far the panel's clock is ahead, and what is wrong with its time.

        Where the policy enforces it, a wrong or missing time is refused with a NAK, from which the panel may set its clock; the
        frame's events go along.
        """
        ahead_s, trouble = clock.check(timestamp, policy.time_zone, now) if timestamp else (None, "its time is missing")
        if trouble and (policy.time == "enforce_plain" or (star and policy.time == "enforce")):
            nak = build_nak(now, self._rules.nak, binary=binary)
            raise _Refusal(Reason.OLD_TIME, f"{trouble}; it is answered NAK, with the right time", nak, events)
        return ahead_s, trouble

    def _events(  # noqa: PLR0913, PLR0917 - the fields of a frame
        self,
        token: str,
        receiver: str | None,
        line: str | None,
        account: str,
        data: str,
        inner: str | None,
        blocks: str | None,
        rest: str,
        policy: Policy,
        now: datetime,
    ) -> tuple[Event, ...]:
        """
        Read the content by its token; what cannot be read is one unknown event, so that it is raised and not lost.

        inner: the account at the head of the data, where it is that of the header. Empty where all of it is a heartbeat.
        """
        if inner:
            content = data[len(inner) :]
        else:
            inner, bar, content = data.partition("|")
            if not bar or (inner and inner[0] != "#"):  # no inner account: a bar is part of the content
                content = data
        pairs: tuple[tuple[str, str], ...] = ()
        at = None
        if blocks:
            pairs = extended.read(blocks, self._rules.url_schemes)
            at = next((moment(value, policy.time_zone, now) for key, value in pairs if key == "H"), None)
        events: tuple[Event, ...] = ()
        if token == "SIA-DCS":
            events = sia.parse(content, now, account, receiver, line, at, pairs, policy.time_zone)
        elif token == "ADM-CID":
            events = contact_id.parse(content, account, receiver, line, at, pairs)
        if events:
            return () if policy.heartbeat and all(event.code in policy.heartbeat for event in events) else events
        unread = f"{token} {data}{rest}".rstrip()
        known = (receiver, line, None, None, None, at, unread, pairs)
        return (Event(account, Format.RAW, "", Qualifier.NEW, Category.UNKNOWN, *known),)


def _named_in(data: str) -> str:
    """Return the account at the head of the data; empty where none is."""
    inner, bar, _ = data.partition("|")
    return inner[1:] if bar and inner[:1] == "#" else ""


def _departures(
    match: re.Match[str], data: str, blocks: str, rest: str, timestamp: str | None
) -> tuple[str, str, str, str | None, tuple[str, ...]]:
    """
    Name what departs from the standard in the fields, and give data, blocks, rest and timestamp as they are meant.

    data and what follows: opened, where they were encrypted. rest: what is no time.
    """
    if rest[:1] == "_" and not timestamp:
        timestamp, rest = rest[1:], ""
    before, (data, blocks, rest) = data, rejoin(data, blocks, rest)
    star, token, echo, receiver, line, account = match.group("star", "id_token", "echo", "receiver", "line", "account")
    inner, bar, _ = data.partition("|")
    missing = inner[:1] != "#" or not bar
    has_inner = token in {"SIA-DCS", "ADM-CID"} or (token in LINK_TESTS and data)
    asked = {
        "sequence_hex": not echo[:4].isdigit(),
        "receiver_odd": receiver is not None and not 0 < len(receiver) < 7,  # noqa: PLR2004 - digits, by the standard
        "line_missing": line is None,
        "line_empty": line == "",
        "line_odd": line is not None and len(line) > 6,  # noqa: PLR2004 - digits, by the standard
        "account_missing": not account,
        "account_odd": account and _ACCOUNT.fullmatch(account) is None,
        "inner_account_missing": has_inner and missing,
        "inner_account_other": has_inner and not missing and inner[1:].upper() != (account or "").upper(),
        "bracket_missing": not star and match.string[match.end("data") : match.end("data") + 1] != "]",
        "bracket_in_text": data != before,
        "trailer": rest,
    }
    return data, blocks, rest, timestamp, tuple(name for name, departs in asked.items() if departs)


def _wrong_key(keys: tuple[bytes, ...], digits: str, account: str) -> str:
    """Say what is wrong with the keys; where one fits that was written in the other notation, say that."""
    for key in keys:
        for notation, other in cipher.other_notations(key):
            if cipher.unseal_by((other,), digits, account, empty=False):
                wrong = "ascii" if notation == "hex" else "hex"
                return f'the key of account {account} opens the frame as "{notation}:..."; it was given as "{wrong}:..."'
    sizes = " and ".join(f"{len(key) * 8} bits" for key in keys)
    return (
        f"the key of account {account} ({sizes}) has a right length, but decrypts to noise: was it given as hex: and is ASCII, "
        "or the other way round? Is it the key of another panel, or of before?"
    )


def _refuse(frame: bytes, at: tuple[str, str | None, str | None], refusal: _Refusal, content: str) -> Rejected:
    """Refuse a frame whose checksum fits: it may be a hold-up, so it is told to whoever watches `at`: account, receiver, line."""
    (account, receiver, line), error = at, refusal.error
    if not account or error.reason is Reason.UNKNOWN_ACCOUNT:
        return Rejected(frame, error, refusal.reply)
    code, told = f"refused_{error.reason}", f"Reports are being refused: {error.message}"
    event = Event(account, Format.ARCGATE, code, Qualifier.NEW, Category.GENERATED, receiver, line, text=told)
    return Rejected(frame, error, refusal.reply, (event, *refusal.events), _identity(f"{error.reason}:{content}"))


def _unreadable(frame: bytes, body: str) -> Rejected:
    """Refuse a frame whose checksum fits and whose header says of nobody we know: it may be a hold-up, so the centre is told."""
    error = FrameError(Reason.MALFORMED, _HEADER.format(body[:40]))
    event = Event(
        CENTRE,
        Format.ARCGATE,
        "refused_malformed",
        Qualifier.NEW,
        Category.GENERATED,
        text=f"A report is refused: {error.message}",
    )
    return Rejected(frame, error, b"", (event,), _identity(body))


def _identity(content: str) -> str:
    """
    Return what tells a frame from all but its retransmissions.

    Panels repeat a frame with the same sequence number and a new time (seen with Ajax). A 64-bit checksum tells an account's
    last few frames apart; who could forge one could as well repeat the frame. A refused frame is another than the same, taken.
    """
    return ecma_182(content.encode()).to_bytes(8).hex()
