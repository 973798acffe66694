"""Decides when calls to an endpoint are suspended: a breaker after failures, a pause on the server's request. Pure.

Times are monotonic seconds, given as ``now=``.
"""

from __future__ import annotations

FAILURES = 5
"""Failed attempts in a row that open the breaker."""

FIRST_REST = 5.0
"""Seconds for which the breaker opens first; doubled after each failed probe."""

LONGEST_REST = 60.0


class Breaker:
    """Counts failures in a row. After :data:`FAILURES` it opens, then admits one probe at a time."""

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
        """Whether it is open: from the failure that opened it until an attempt succeeds."""
        return self._open_until is not None

    def remaining(self, *, now: float) -> float:
        """Seconds until a probe is admitted; 0 if the breaker is closed."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def admit(self, *, now: float) -> bool:
        """Whether an attempt may start. Each admitted attempt must call one of the three methods below at its end."""
        if self._open_until is None:
            return True
        if self._probing or now < self._open_until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The endpoint answered, possibly with a refusal."""
        self._failures = 0
        self._rest = self._first
        self._open_until = None
        self._probing = False

    def failed(self, *, now: float) -> None:
        """The attempt got no answer of the API."""
        self._failures += 1
        if self._open_until is not None and not self._probing:
            return  # it began before the breaker opened
        if self._failures >= self._limit:
            if self._probing:
                self._rest = min(self._rest * 2, self._longest)
            self._open_until = now + self._rest
        self._probing = False

    def abandoned(self) -> None:
        """The attempt was cancelled."""
        self._probing = False


class Pause:
    """A pause that the endpoint asked for."""

    def __init__(self) -> None:
        self._until = 0.0

    def extend(self, seconds: float, *, now: float) -> None:
        """Pause for ``seconds``; a longer pause stays."""
        self._until = max(self._until, now + seconds)

    def remaining(self, *, now: float) -> float:
        """Seconds left; 0 without a pause."""
        return max(0.0, self._until - now)
