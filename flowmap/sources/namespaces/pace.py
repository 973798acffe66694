"""The pace of full reads of many namespaces: together they take a fixed share of a core.

Each dump of sockets walks the table of the whole kernel, so its cost follows the number of namespaces, however few
sockets are in each.
"""

from __future__ import annotations

SHARE = 0.015
"""Share of one core that the full reads of all namespaces but the daemon's own may take."""
FIRST = 0.003
"""Seconds that a first read counts at most: it costs more than later ones, since all its flows are new."""
SLICE = 0.05
"""Seconds of full reads at a time, so that the engine can do other work."""


class SharedPace:
    """The pause of each namespace between two full reads, from what the reads of all of them cost."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        """Shortest pause in seconds."""
        self.share = SHARE
        self.total = 0.0
        """Seconds that one full read of each namespace takes together."""
        self._costs: dict[int, float] = {}

    @property
    def pause(self) -> float:
        """The pause now: the interval, or longer if the reads cost more than their share."""
        return max(self.interval, self.total / self.share)

    def note(self, number: int, seconds: float) -> float:
        """Note what a full read of a namespace cost; returns the pause until its next one."""
        before = self._costs.get(number)
        self._costs[number] = cost = min(seconds, FIRST) if before is None else seconds
        self.total += cost - (before or 0.0)
        return self.pause

    def forget(self, number: int) -> None:
        """The namespace is gone."""
        self.total -= self._costs.pop(number, 0.0)
        if not self._costs:
            self.total = 0.0
