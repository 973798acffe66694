"""The JobManager's clock against this host's, from answers that carry the time at which they were made."""

from __future__ import annotations

from collections.abc import Iterable

from flowmap.control.clock import Clock

MILLISECOND = 0.001
"""What the JobManager's times are rounded to."""
UNKNOWN = 60.0
"""Seconds by which the JobManager's clock may be off before the first note."""


class ClockOffset:
    """Bounds of what to add to the JobManager's epoch seconds to get this host's monotonic ones."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        offset = clock.monotonic() - clock.wall()
        self.low, self.high = offset - UNKNOWN, offset + UNKNOWN
        self.skew: float | None = None
        """Seconds by which the JobManager's clock is ahead of this host's; None before the first note."""

    def note(self, made: Iterable[float], asked: float, arrived: float) -> None:
        """Narrow the bounds by times of the JobManager's clock, all read between ``asked`` and ``arrived``."""
        times = tuple(made)
        if not times:
            return
        low, high = asked - min(times) - MILLISECOND, arrived - max(times) + MILLISECOND
        # Bounds that exclude each other: a clock was set, or they drifted apart.
        agrees = self.skew is not None and max(low, self.low) <= min(high, self.high)
        self.low, self.high = (max(low, self.low), min(high, self.high)) if agrees else (low, high)
        self.skew = (self._clock.monotonic() - (self.low + self.high) / 2) - self._clock.wall()
