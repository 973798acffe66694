"""The call budget: how many calls the control plane may get, and in which order.

- Repeats of questions whose first attempt failed come first: they hold a place in flight already.
- Questions about endpoints, of the engine and of users, come next.
- The catalog gets spare calls only and leaves half of the burst to questions. While questions would take every call, it
  gets one in :data:`BACKGROUND_SHARE`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

BACKGROUND_SHARE = 10
"""While questions take every call, one in this many goes to the catalog."""


BEHIND = 0.01
"""Seconds by which choosing waits for each question under way that flows wait for."""
LONGEST_BEHIND = 0.25
"""Seconds by which it waits for all of them at most."""


def choosing_pause(cost: float, hurried: int) -> float:
    """Seconds between two choices of questions; ``cost``: CPU seconds of one. ``hurried``: questions of a fleet's host
    that are under way, and that flows wait for.

    Choosing reads every flow; with a million of them it must not take more than a twentieth of a core. In a fleet many
    questions can be under way: a new one waits with them for the shared budget, so it need not be chosen at once.
    """
    return max(20 * cost, min(BEHIND * hurried, LONGEST_BEHIND))


class CallBudget:
    """A token bucket with a limit on calls in flight. Time is an argument, in monotonic seconds."""

    def __init__(self, *, rate: float, burst: int, max_in_flight: int) -> None:
        """``rate``: calls a second on average; ``burst``: calls that may start at once after a pause."""
        self.in_flight = 0
        self.configure(rate=rate, burst=burst, max_in_flight=max_in_flight)
        self._tokens = float(burst)
        self._filled_at: float | None = None

    def configure(self, *, rate: float, burst: int, max_in_flight: int) -> None:
        """Change the limits; saved tokens and calls in flight stay."""
        self.rate = rate
        self.burst = burst
        self.max_in_flight = max_in_flight
        self._kept = burst // 2

    def available(self, now: float) -> int:
        """Number of calls that may start now."""
        self._fill(now)
        return max(0, min(int(self._tokens), self.max_in_flight - self.in_flight))

    def start(self, now: float) -> None:
        """Start a call; one must be available."""
        self._fill(now)
        self._tokens -= 1
        self.in_flight += 1

    def may_repeat(self, now: float) -> bool:
        """Whether a call in flight may be repeated now."""
        self._fill(now)
        return self._tokens >= 1

    def repeat(self) -> None:
        """Repeat a call in flight; :meth:`may_repeat` must be true."""
        self._tokens -= 1

    def finish(self) -> None:
        """End a call, with or without an answer."""
        self.in_flight -= 1

    def spare(self, now: float) -> bool:
        """Whether a call may start now that leaves half of the burst."""
        return self.available(now) > 0 and self._tokens >= self._kept + 1

    def next_at(self, now: float, *, spare: bool = False) -> float:
        """When the next token is available, ignoring calls in flight; ``spare``: one that leaves half of the burst."""
        self._fill(now)
        wanted = 1 + (self._kept if spare else 0)
        return now if self._tokens >= wanted else now + (wanted - self._tokens) / self.rate

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            self._tokens = min(float(self.burst), self._tokens + max(0.0, now - self._filled_at) * self.rate)
        self._filled_at = now


class Permits:
    """Grants calls of the engine's budget to other threads: repeats of questions, and the catalog.

    :meth:`wait` and :meth:`give_back` may be called from any thread, the others from the engine's thread only.
    """

    def __init__(self, budget: CallBudget) -> None:
        self._wake: Callable[[], None] = lambda: None
        self._budget = budget
        self._repeats: deque[Future[None]] = deque()
        self._background: deque[Future[None]] = deque()
        self._given_back: deque[None] = deque()
        self._passed_over = 0

    def __len__(self) -> int:
        """Number of calls that wait."""
        return len(self._repeats) + len(self._background)

    def on_request(self, wake: Callable[[], None]) -> None:
        """Call ``wake``, from any thread, when there is a request for the engine."""
        self._wake = wake

    def wait(self, *, repeat: bool) -> Future[None]:
        """A future that is done when the call may start; cancel it if the call is not wanted any more.

        ``repeat``: of a question in flight. Any other call must be given back when it has ended.
        """
        future: Future[None] = Future()
        (self._repeats if repeat else self._background).append(future)
        self._wake()
        return future

    def give_back(self) -> None:
        """End a call that was not a repeat."""
        self._given_back.append(None)
        self._wake()

    def apply_given_back(self) -> None:
        """Charge the calls that were given back to the budget."""
        while self._given_back:
            self._given_back.popleft()
            self._budget.finish()

    def grant_first(self, now: float) -> None:
        """Grant repeats, and the catalog's call if its turn has come. Call it before questions start."""
        while self._repeats and self._budget.may_repeat(now) and (permit := _next_wanted(self._repeats)):
            self._budget.repeat()
            permit.set_result(None)
        if self._passed_over >= BACKGROUND_SHARE - 1 and self._budget.available(now):
            self._grant_background(now)

    def count_question(self) -> None:
        """Count a question that started while the catalog waits."""
        self._passed_over += bool(self._background)

    def grant_spare(self, now: float) -> None:
        """Grant calls to the catalog. Call it when no question waits."""
        while self._background and self._budget.spare(now):
            self._grant_background(now)

    def next_at(self, now: float) -> float:
        """When a waiting call may be granted; infinite if a call in flight must end first."""
        if self._repeats:
            return self._budget.next_at(now)
        if self._background and self._budget.in_flight < self._budget.max_in_flight:
            return self._budget.next_at(now, spare=self._passed_over < BACKGROUND_SHARE - 1)
        return math.inf

    def _grant_background(self, now: float) -> None:
        if permit := _next_wanted(self._background):
            self._budget.start(now)
            permit.set_result(None)
        self._passed_over = 0


def _next_wanted(waiting: deque[Future[None]]) -> Future[None] | None:
    """The first that was not cancelled; it cannot be cancelled any more."""
    while waiting:
        permit = waiting.popleft()
        if permit.set_running_or_notify_cancel():
            return permit
    return None
