"""The shared server's clock as this host sees it, with bounds.

Every exchange is a sample: the server read its clock between the sending of the request and the arrival of the reply.
So the difference of the clocks lies in an interval as wide as the round trip. Samples are intersected, and the interval
widens with time, since clocks drift. A sample outside shows that the server's clock was set, or that another server
answers: earlier bounds are wrong then, and so is what they were used for.
"""

from __future__ import annotations

from typing import NamedTuple

DRIFT = 0.001
"""Seconds by which the two clocks may drift apart in one second; NTP slews by half of it."""

RESOLUTION = 0.000_002
"""Seconds to which the server's clock is given."""


class Bounds(NamedTuple):
    """An instant, or a difference, that lies between the two."""

    earliest: float
    latest: float

    @property
    def width(self) -> float:
        """How uncertain it is, in seconds."""
        return self.latest - self.earliest

    def plus(self, other: Bounds) -> Bounds:
        """The sum of two uncertain values."""
        return Bounds(self.earliest + other.earliest, self.latest + other.latest)

    def minus(self, other: Bounds) -> Bounds:
        """The difference of two uncertain values."""
        return Bounds(self.earliest - other.latest, self.latest - other.earliest)


class ServerClock:
    """Seconds by which the server's clock is ahead of this host's monotonic clock."""

    def __init__(self) -> None:
        self._ahead: Bounds | None = None
        self._at = 0.0

    def observe(self, *, sent: float, received: float, server: float) -> bool:
        """Take the server's time from an exchange; ``sent`` and ``received`` are monotonic seconds of this host.

        Returns False if the sample contradicts earlier ones; then these are dropped.
        """
        error = RESOLUTION + DRIFT * (received - sent)
        sample = Bounds(server - received - error, server - sent + error)
        known, self._at = self.ahead(received), received
        if known is None:
            self._ahead = sample
            return True
        both = Bounds(max(known.earliest, sample.earliest), min(known.latest, sample.latest))
        fits = both.earliest <= both.latest
        self._ahead = both if fits else sample
        return fits

    def ahead(self, now: float) -> Bounds | None:
        """The difference as of the monotonic instant ``now``; None before the first exchange."""
        if self._ahead is None:
            return None
        drift = DRIFT * abs(now - self._at)
        return Bounds(self._ahead.earliest - drift, self._ahead.latest + drift)
