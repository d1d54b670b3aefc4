"""Until the codec's own: what a panel's side needs of it."""

from datetime import UTC, datetime
from typing import Literal

from protocols import dc09
from protocols.dc09 import Dc09, Frame
from protocols.errors import Reason
from protocols.link import Rejected

Dialect = Literal["", "binary_crc", "eldes", "lower_case_hex", "no_lf"]


def build(frame: Frame, *, key: bytes = b"", dialect: str = "") -> bytes:  # noqa: ARG001 - comes
    """Build."""
    return dc09.build(frame)


def read_reply(data: bytes, key: bytes = b"") -> Frame | None:  # noqa: ARG001 - comes
    """Read."""
    (item,) = Dc09().link().receive(data, datetime.now(UTC))
    return Dc09().explain(data) if isinstance(item, Rejected) and item.error.reason == Reason.ANSWER else None
