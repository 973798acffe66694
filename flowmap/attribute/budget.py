"""How many calls the control plane may get."""

from __future__ import annotations


class CallBudget:
    """A token bucket with a limit on calls in flight. Time is an argument, in monotonic seconds."""

    def __init__(self, *, rate: float, burst: int, max_in_flight: int) -> None:
        """``rate``: calls a second over time; ``burst``: calls that may come at once after a pause."""
        self.rate = rate
        self.burst = burst
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        self._tokens = float(burst)
        self._filled_at: float | None = None

    def available(self, now: float) -> int:
        """Calls that may be started now."""
        self._fill(now)
        return max(0, min(int(self._tokens), self.max_in_flight - self.in_flight))

    def start(self, now: float) -> None:
        """A call is started; the caller has seen that one is available."""
        self._fill(now)
        self._tokens -= 1
        self.in_flight += 1

    def finish(self) -> None:
        """A call is over, whatever came of it."""
        self.in_flight -= 1

    def next_at(self, now: float) -> float:
        """When a token will be there, calls in flight aside."""
        self._fill(now)
        return now if self._tokens >= 1 else now + (1 - self._tokens) / self.rate

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            self._tokens = min(float(self.burst), self._tokens + max(0.0, now - self._filled_at) * self.rate)
        self._filled_at = now
