"""
Whether each receiver still speaks: two heartbeats missing are a lost link, the next valid line restores it.

    counts of a listener, looked at each second -> Supervision.look() -> Faults

A quiet panel is no news; a receiver is never quiet, for its heartbeat says that the panels behind it would be heard.
"""

from collections.abc import Mapping

from receiver.config import Listener
from receiver.faults import LINK_LOST, Faults

MISSED: float = 2
"""So many heartbeats."""
LOOK_S: float = 1.0


class Supervision:
    """One listener's."""

    def __init__(self, listener: Listener, counts: Mapping[str, int], faults: Faults, now_s: float) -> None:
        """Begin to wait. counts: the listener's own. now_s: of a clock that never goes back."""
        self._listener, self._counts, self._faults = listener, counts, faults
        self._heard, self._heard_at = self._valid(), now_s

    def _valid(self) -> int:
        return self._counts.get("messages", 0) + self._counts.get("link_tests", 0)

    def look(self, now_s: float) -> None:
        """Compare what came since the last look with what should have."""
        valid, each_s = self._valid(), self._listener.heartbeat_s
        if each_s is None:
            return
        if valid != self._heard:
            self._heard, self._heard_at = valid, now_s
            self._faults.tell(self._listener.name, LINK_LOST, False, "the receiver is heard again")
        elif now_s - self._heard_at > MISSED * each_s:
            text = f"nothing was heard of the receiver for {now_s - self._heard_at:.0f} s, its heartbeat comes each {each_s:g} s"
            self._faults.tell(self._listener.name, LINK_LOST, True, text)
