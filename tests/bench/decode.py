"""Decoding alone, in one process: microseconds per frame, ours beside two independent codecs."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from pysiaalarm.account import SIAAccount
from pysiaalarm.event import SIAEvent
from siadc09.message import parse_frame

from protocols.dc09 import Dc09
from protocols.link import Policy
from tests.bench.client import KEY, burglaries, sealed_burglaries

FRAMES = 2000
ACCOUNTS = 1000
NAMES = ("here", "pysiaalarm", "siadc09")


def ours(key: bytes) -> Callable[[bytes], object]:
    """Frame to events and reply."""
    policy = Policy(keys=(key,)) if key else None
    link, now = Dc09().link(lambda *_: policy), datetime.now(UTC)
    return lambda frame: link.receive(frame, now)[0].reply


def pysiaalarm(key: bytes) -> Callable[[bytes], object]:
    """Frame to event and reply, as its server does it."""
    written = key.decode() if key else None
    accounts = {f"{account}": SIAAccount(f"{account}", written) for account in range(1000, 1000 + ACCOUNTS)}

    def take(frame: bytes) -> object:
        return SIAEvent.from_line(frame.decode("ascii").strip(), accounts).create_response()

    return take


def siadc09(key: bytes) -> Callable[[bytes], object]:
    """Frame to message; it makes no reply."""
    parse: Callable[[bytes, bytes | None], object] = parse_frame
    return lambda frame: parse(frame, key or None)


def microseconds(take: Callable[[bytes], object], frames: list[bytes]) -> float:
    """Return the mean time of one frame."""
    began = time.perf_counter()
    for frame in frames:
        assert take(frame)
    return (time.perf_counter() - began) / len(frames) * 1_000_000


def decode_us() -> dict[str, float]:
    """Return one round's times, by `decode NAME` and `decode NAME, AES-128`."""
    told = {}
    for kind, key in (("", b""), (", AES-128", KEY)):
        frames = sealed_burglaries(FRAMES, ACCOUNTS, 1000, datetime.now(UTC)) if key else burglaries(FRAMES, ACCOUNTS)
        for name, codec in zip(NAMES, (ours, pysiaalarm, siadc09), strict=True):
            told[f"decode {name}{kind}"] = microseconds(codec(key), frames)
    return told
