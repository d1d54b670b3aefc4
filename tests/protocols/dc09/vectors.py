"""The vectors of fixtures/dc09, and how a row is received."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from protocols.dc09 import Dc09
from protocols.link import LinkTest, Message, Policy, Received, Rejected

FIXTURES = Path(__file__).parents[3] / "fixtures" / "dc09"
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
KINDS = {Message: "message", LinkTest: "link_test", Rejected: "rejected"}


def rows(name: str) -> list[Any]:
    return [json.loads(line) for line in (FIXTURES / name).read_text().splitlines()]


FRAMES = rows("frames.jsonl")
STREAMS = rows("streams.jsonl")


def policy_of(row: Any) -> Policy | None:
    """What the centre says of the row's account: its `key` and `policy`; `"policy": null` is an account that it does not know."""
    told = row.get("policy", {})
    if told is None:
        return None
    zone = ZoneInfo(told["time_zone"]) if "time_zone" in told else None
    keys = (bytes.fromhex(row["key"]),) if "key" in row else ()
    return Policy(keys=keys, time=told.get("time", "enforce"), time_zone=zone, heartbeat=frozenset(told.get("heartbeat", ())))


def now_of(row: Any) -> datetime:
    return datetime.fromisoformat(row["now"]) if "now" in row else NOW


def receive(*chunks: bytes, policy: Policy | None = None, now: datetime = NOW, **rules: Any) -> list[Received]:
    link = Dc09(**rules).link(lambda *_: policy)
    return [item for chunk in chunks for item in link.receive(chunk, now)] + link.finish()


def receive_row(row: Any, *chunks: bytes) -> list[Received]:
    return receive(*chunks, policy=policy_of(row), now=now_of(row), **row.get("rules", {}))
