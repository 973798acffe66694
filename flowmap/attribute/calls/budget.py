"""How many calls the control plane may get, and who gets them.

Three kinds want calls: the writer's questions about addresses, the repeats of questions that failed, and the catalog.
A repeat goes first: its question holds a place in flight already. The catalog takes what questions leave, and leaves
half of the burst to them; while questions would take every call, one in ten is the catalog's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

BACKGROUND_SHARE = 10
"""While questions take every call, the catalog gets one in so many."""


class CallBudget:
    """A token bucket with a limit on calls in flight. Time is an argument, in monotonic seconds."""

    def __init__(self, *, rate: float, burst: int, max_in_flight: int) -> None:
        """``rate``: calls a second over time; ``burst``: calls that may come at once after a pause."""
        self.in_flight = 0
        self.configure(rate=rate, burst=burst, max_in_flight=max_in_flight)
        self._tokens = float(burst)
        self._filled_at: float | None = None

    def configure(self, *, rate: float, burst: int, max_in_flight: int) -> None:
        """Other limits from now on; what was saved up and what is in flight stays."""
        self.rate = rate
        self.burst = burst
        self.max_in_flight = max_in_flight
        self._kept = burst // 2

    def available(self, now: float) -> int:
        """Calls that may be started now."""
        self._fill(now)
        return max(0, min(int(self._tokens), self.max_in_flight - self.in_flight))

    def start(self, now: float) -> None:
        """A call is started; the caller has seen that one is available."""
        self._fill(now)
        self._tokens -= 1
        self.in_flight += 1

    def may_repeat(self, now: float) -> bool:
        """Whether a call in flight may be made once more."""
        self._fill(now)
        return self._tokens >= 1

    def repeat(self) -> None:
        """A call in flight is made once more."""
        self._tokens -= 1

    def finish(self) -> None:
        """A call is over, whatever came of it."""
        self.in_flight -= 1

    def spare(self, now: float) -> bool:
        """Whether a call may be started that still leaves half of the burst."""
        return self.available(now) > 0 and self._tokens >= self._kept + 1

    def next_at(self, now: float, *, spare: bool = False) -> float:
        """When a token will be there (``spare``: one that leaves half of the burst), calls in flight aside."""
        self._fill(now)
        wanted = 1 + (self._kept if spare else 0)
        return now if self._tokens >= wanted else now + (wanted - self._tokens) / self.rate

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            self._tokens = min(float(self.burst), self._tokens + max(0.0, now - self._filled_at) * self.rate)
        self._filled_at = now


class Permits:
    """What else wants calls of the writer's budget, from other threads: repeats of questions, and the catalog.

    :meth:`wait` and :meth:`give_back` may be called from any thread; the rest is the owner's of the budget.
    """

    def __init__(self, budget: CallBudget) -> None:
        self._wake: Callable[[], None] = lambda: None
        self._budget = budget
        self._repeats: deque[Future[None]] = deque()
        self._background: deque[Future[None]] = deque()
        self._given_back: deque[None] = deque()
        self._passed_over = 0

    def __len__(self) -> int:
        """Calls that wait."""
        return len(self._repeats) + len(self._background)

    def on_request(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when there is something to do for the owner of the budget."""
        self._wake = wake

    def wait(self, *, repeat: bool) -> Future[None]:
        """Done when the call may be made. A ``repeat`` is of a question in flight; any other call has to be given
        back when it is over. Cancel what is not wanted any more."""
        future: Future[None] = Future()
        (self._repeats if repeat else self._background).append(future)
        self._wake()
        return future

    def give_back(self) -> None:
        """A call that was no repeat is over."""
        self._given_back.append(None)
        self._wake()

    def settle(self) -> None:
        """Take in what was given back."""
        while self._given_back:
            self._given_back.popleft()
            self._budget.finish()

    def grant_first(self, now: float) -> None:
        """Before questions are started: repeats, and the catalog where its turn has come."""
        while self._repeats and self._budget.may_repeat(now) and (permit := _next_wanted(self._repeats)):
            self._budget.repeat()
            permit.set_result(None)
        if self._passed_over >= BACKGROUND_SHARE - 1 and self._budget.available(now):
            self._grant_background(now)

    def passed_over(self) -> None:
        """A question was started; if the catalog waits, it waits for one call longer."""
        self._passed_over += bool(self._background)

    def grant_spare(self, now: float) -> None:
        """When no question wants a call."""
        while self._background and self._budget.spare(now):
            self._grant_background(now)

    def next_at(self, now: float) -> float:
        """When a token for what waits may be there; never, where a call in flight has to end first."""
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
