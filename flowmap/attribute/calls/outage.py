"""Whether the control plane answers at all, judged by its answers and failures."""

from __future__ import annotations

import math


class Outage:
    """When the control plane last answered, and since when and why it fails. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._last_answer = self._last_failure = -math.inf
        self._failing_since = math.inf
        self._cause = ""

    def end(self, at: float) -> float:
        """An answer arrived. Returns for how many seconds every question had failed; negative if none had."""
        seconds, self._failing_since = at - self._failing_since, math.inf
        self._last_answer = max(self._last_answer, at)
        return seconds

    def fail(self, at: float, cause: str) -> None:
        """Note that a question failed; not one that its fleet gave up, which says nothing about the control plane."""
        if cause.startswith("fleet: "):
            return
        self._last_failure, self._cause = at, cause
        self._failing_since = min(self._failing_since, at)

    @property
    def lasts(self) -> bool:
        """Whether the newest results are failures only."""
        return self._failing_since < math.inf

    def cause(self, since: float) -> str:
        """Why there was no answer after ``since``; empty if there was one, or if no question failed."""
        if self._last_failure > self._last_answer and self._last_answer < since:
            return f"breaker: the control plane does not answer; {self._cause}"
        return ""
