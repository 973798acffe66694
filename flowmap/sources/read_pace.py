"""The pause between full reads, in which open connections get their counters and the proof that they are alive."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST = 2.0
"""Shortest pause in seconds between the ends of two full reads."""
SHARE = 0.02
"""Share of one core that full reads may take, except that the pause never exceeds the configured one."""


def pause_after(seconds: float, at_most: float) -> float:
    """Seconds to wait after a full read that cost ``seconds``; ``at_most`` is the configured interval."""
    return min(at_most, max(LEAST, seconds / SHARE))


class Stopwatch:
    """Measures one full read, from when it is made."""

    def __init__(self, clock: Callable[[], float], cpu: Callable[[], float] = time.process_time) -> None:
        """``clock``: seconds; ``cpu``: seconds of cores that this process has used."""
        self._clock, self._cpu = clock, cpu
        self._began, self._cpu_before = clock(), cpu()

    def seconds(self) -> float:
        """The time since then."""
        return self._clock() - self._began

    def cost(self) -> float:
        """The same without the time in which this process waited: for the kernel, or for a processor."""
        return min(self.seconds(), self._cpu() - self._cpu_before)
