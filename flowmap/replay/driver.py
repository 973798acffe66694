"""Applies recorded or captured steps to an accounting, as the engine does live, without its thread, clock and calls.

The clock is that of the steps. Between two steps the driver runs rounds like those of the engine: it asks a function
the questions that are due, delivers the answers at the times the function gives, decides and tidies. It attributes
capture files, and computes the cost of a recording.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import NamedTuple

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.calls.budget import CallBudget
from flowmap.attribute.calls.schedule import UNKNOWN_CHANGES, AnswerChanges
from flowmap.attribute.questions import Question
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Apply, Ask, Decide, Deliver, GiveUp, QuestionResult, TakeStep, Tidy
from flowmap.model.deployment import DeploymentInfo
from flowmap.sources.base import Step

TURN = 0.1
"""Seconds between two rounds while a question waits or is being answered."""
IDLE_TURN = 1.0
"""Shortest time between two rounds otherwise: they run when an answer must be confirmed, and to tidy."""
TIDY_EVERY = 30.0
QUIET = 600.0
"""Seconds without a step after which the remaining silence is skipped; due questions are asked after it."""


class TimedStep(NamedTuple):
    """A step of a source, read between two times (seconds of any clock that never goes back).

    The answers for a flow count only after a ``CaughtUp`` with a time after their arrival.
    """

    step: Step
    now: float
    read_at: float


class Reply(NamedTuple):
    """The result of a question, and the time of its arrival."""

    result: QuestionResult
    arrives: float


Answerer = Callable[[Question, float], Reply]
"""Gives the reply to a question asked at a time of the steps' clock."""
Changes = Callable[[float], AnswerChanges]
"""Gives the last time up to the given one at which answers may have changed, and the next time after it."""


def answer(question: Question, asked: float, deployments: Iterable[DeploymentInfo], *, latency: float) -> Reply:
    """A reply with ``deployments`` (all can own an endpoint), ``latency`` seconds after the question."""
    infos = tuple(deployments)
    given = Answer(asked, asked + latency, frozenset(info.owner for info in infos))
    return Reply(QuestionResult(question, given, infos), asked + latency)


def failure(question: Question, asked: float, cause: str, *, latency: float, retry_after: float | None = None) -> Reply:
    """A reply without an answer. ``retry_after``: seconds until the question can be asked again."""
    return Reply(QuestionResult(question, None, cause=cause, retry_after=retry_after), asked + latency)


class ReplayDriver:
    """Applies steps to an accounting. ``calls``: number of questions asked."""

    def __init__(
        self,
        accounting: FlowAccounting,
        answerer: Answerer | None,
        *,
        budget: CallBudget | None = None,
        give_up_after: float = math.inf,
        tidy_every: float = TIDY_EVERY,
        apply: Apply | None = None,
        changes: Changes | None = None,
    ) -> None:
        """``answerer``: None asks no questions. ``budget``: None asks all due questions at once. Times are in seconds.

        ``apply``: that of a recorder, used instead of the accounting's. ``changes``: when answers can change, if known.
        """
        self.accounting = accounting
        self._apply: Apply = accounting.apply if apply is None else apply
        self.calls = 0
        self._answerer = answerer
        self._changes = changes
        self._budget = budget
        self._give_up_after = give_up_after
        self._tidy_every = tidy_every
        self._arriving: list[tuple[float, int, Reply]] = []
        self._order = count()
        self._questions: deque[Question] = deque()
        self._now = self._turned = self._tidied = -math.inf
        self._changed = False  # a step was taken since the last turn

    def run(self, steps: Iterable[TimedStep]) -> Iterator[TimedStep]:
        """Apply the steps in order, with rounds between them; yields each step after it was applied."""
        for timed in steps:
            self._pass_time(timed.now)
            self._apply(TakeStep(*timed))
            self._now, self._changed = timed.now, True
            yield timed
        if self._changed:
            self._turn(self._now)

    @property
    def waits(self) -> bool:
        """Whether a question waits for its answer, or an answer waits for a ``CaughtUp`` after its arrival."""
        return self._is_asking or self.accounting.attribution.has_news

    @property
    def _is_asking(self) -> bool:
        return bool(self._arriving or self._questions or self.accounting.attribution.schedule.waiting)

    def _pass_time(self, until: float) -> None:
        if math.isinf(self._turned):
            self._turned = self._tidied = until
        if until <= self._now:
            return  # steps of the same time belong together
        quiet = min(until, self._now + QUIET)
        while (due := self._next_turn()) <= quiet:
            self._turn(due)
        self._turned = max(self._turned, until - IDLE_TURN if quiet < until else self._turned)

    def _next_turn(self) -> float:
        """The time of the next round; never before the last step, whose records were unknown then."""
        if self._answerer is None:  # no flow is ever decided
            return max(self._now, self._turned + self._tidy_every) if self._changed else math.inf
        if self._changed or self._is_asking:
            return max(self._now, self._turned + TURN)
        due = min(self.accounting.attribution.next_due, self._tidied + self._tidy_every)
        return max(self._now, self._turned + IDLE_TURN, due)

    def _turn(self, now: float) -> None:
        self._turned, self._changed = now, False
        while self._arriving and self._arriving[0][0] <= now:
            arrives, _, reply = heapq.heappop(self._arriving)
            if self._budget is not None:
                self._budget.finish()
            self._apply(Deliver(arrives, reply.result))
        self._apply(Decide(now))
        while self.accounting.attribution.has_backlog:
            self._apply(Decide(now))
        self._ask(now)
        if now - self._tidied >= self._tidy_every:
            self._tidied = now
            self._apply(GiveUp(now - self._give_up_after, now))
            self._apply(Tidy(now))

    def _ask(self, now: float) -> None:
        if self._answerer is None:
            return
        changes = UNKNOWN_CHANGES if self._changes is None else self._changes(now)
        limit = self._available(now)
        if limit > len(self._questions):
            self._questions.extend(self._apply(Ask(now, limit, changes)))
        while self._questions and self._available(now):
            question = self._questions.popleft()
            if self._budget is not None:
                self._budget.start(now)
            self.calls += 1
            reply = self._answerer(question, now)
            heapq.heappush(self._arriving, (max(reply.arrives, now), next(self._order), reply))

    def _available(self, now: float) -> int:
        return self.accounting.table.endpoints.capacity if self._budget is None else self._budget.available(now)
