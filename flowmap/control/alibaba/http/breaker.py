"""When to leave the endpoint alone: a breaker for one that fails, a pause for one that asks for it. Pure.

Times are monotonic seconds, given as ``now=``.
"""

from __future__ import annotations

FAILURES = 5
"""Failed attempts in a row that open the breaker."""

FIRST_REST = 5.0
"""Seconds the breaker stays open the first time; doubled each time the probe after it fails too."""

LONGEST_REST = 60.0


class Breaker:
    """Counts failures in a row; after :data:`FAILURES` it refuses, then lets one probe through at a time."""

    def __init__(self, *, failures: int = FAILURES, rest: float = FIRST_REST, longest: float = LONGEST_REST) -> None:
        self._limit = failures
        self._first = rest
        self._longest = longest
        self._rest = rest
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """True from the failure that opened it until an attempt succeeds."""
        return self._open_until is not None

    def remaining(self, *, now: float) -> float:
        """Seconds until a probe is let through; 0 if one is now, or if the breaker is closed."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def admit(self, *, now: float) -> bool:
        """Whether an attempt may start. Each admitted attempt must end in one of the three methods below."""
        if self._open_until is None:
            return True
        if self._probing or now < self._open_until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The endpoint answered, be it with a refusal."""
        self._failures = 0
        self._rest = self._first
        self._open_until = None
        self._probing = False

    def failed(self, *, now: float) -> None:
        """The attempt got no answer of the API."""
        self._failures += 1
        if self._open_until is not None and not self._probing:
            return  # an attempt from before the opening; its failure is no news
        if self._failures >= self._limit:
            if self._probing:
                self._rest = min(self._rest * 2, self._longest)
            self._open_until = now + self._rest
        self._probing = False

    def abandoned(self) -> None:
        """The attempt was cancelled and says nothing."""
        self._probing = False


class Pause:
    """A time for which nobody asks, because the endpoint said so."""

    def __init__(self) -> None:
        self._until = 0.0

    def extend(self, seconds: float, *, now: float) -> None:
        """Ask nobody for ``seconds``; a longer pause already running stays."""
        self._until = max(self._until, now + seconds)

    def remaining(self, *, now: float) -> float:
        """Seconds still to wait; 0 if none."""
        return max(0.0, self._until - now)
