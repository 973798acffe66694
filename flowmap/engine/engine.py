"""The one writer: a thread that owns the books.

It waits for the source's descriptor, for answers and for requests of other threads, and does everything that changes
or reads the books. Others get immutable snapshots by reference, or hand in a function and wait for its result.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.calls.budget import CallBudget, Permits
from flowmap.attribute.questions import Question
from flowmap.config.models import Config
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import (
    Apply,
    Ask,
    Configure,
    Decide,
    Deliver,
    Finish,
    GiveUp,
    QuestionResult,
    Restore,
    TakeStep,
    Tidy,
)
from flowmap.errors import QueryError, SourceError
from flowmap.export.snapshot import Snapshot
from flowmap.sources.base import Source, Step

log = logging.getLogger(__name__)
T = TypeVar("T")

GATHER = 0.1
"""Seconds for which changes may gather before they are read: batches cost little more than single records."""
FRESH = 0.02
"""Seconds for which what was read is new enough for whoever asks, and which a request waits for a read under way."""
IDLE_WAIT = 1.0
TIDY_EVERY = 30.0
"""Longest pause in seconds between two commands to tidy; series that may be idle for a shorter time need it sooner."""
PUBLISH_EVERY = 0.1
MAX_REQUESTS = 256
MAX_URGENT = 32
"""Questions of users that may wait at a time."""


class Engine(threading.Thread):
    """Runs until :meth:`stop`. ``failure`` holds the error that ended it, if one did."""

    def __init__(
        self,
        accounting: FlowAccounting,
        source: Source,
        budget: CallBudget,
        *,
        ask: Callable[[Question, Callable[[QuestionResult], None]], None],
        take_snapshot: Callable[[FlowAccounting], Snapshot],
        resting_for: Callable[[], float] = lambda: 0.0,
        permits: Permits | None = None,
        apply: Apply | None = None,
        networks: Callable[[], Iterator[Step]] = lambda: iter(()),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``ask`` starts a call elsewhere and returns at once; the call passes its result to the function given.

        ``resting_for``: seconds for which asking is no use; questions wait meanwhile and cost nothing.
        ``permits``: what else wants calls of ``budget``. ``apply``: a recorder's, in front of that of the books.
        ``networks``: what is new about the host's networks, asked at every turn.
        """
        super().__init__(name="engine")
        self.accounting = accounting
        self._apply: Apply = accounting.apply if apply is None else apply
        self.source = source
        self.failure: BaseException | None = None
        self.source_error: str | None = None
        self.answers = 0
        """Questions answered since the start."""
        self.unreadable = 0
        """Elements of answers that could not be read."""
        self.last_answer = 0.0
        self.last_failure = ""
        self.beat = 0.0
        """When the loop last came round, or began to: a writer that hangs shows here."""
        self.budget = budget
        self._permits = Permits(budget) if permits is None else permits
        self._permits.on_request(self._wake)
        self._ask = ask
        self._take_snapshot = take_snapshot
        self._resting_for, self._networks = resting_for, networks
        self._clock = clock
        self._stopping = threading.Event()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._requests: deque[Callable[[], None]] = deque()
        self._results: deque[QuestionResult] = deque()
        self._questions: deque[Question] = deque()
        self._urgent: deque[Question] = deque()
        self._urgent_next = True
        self._in_flight: set[Question] = set()
        self._waiters: dict[Question, list[Future[None]]] = {}
        self._snapshot = Snapshot()
        self._published = self._tidied = self._planned = self._polled = float("-inf")
        self._plan_every, self._publish_every = GATHER, PUBLISH_EVERY
        self._changes_wait = False
        self._retry_at: float | None = None
        self._retry_pause = 1.0

    # For other threads.

    def start(self) -> None:
        self.beat = self._clock()  # not yet come round is not hung
        super().start()

    @property
    def snapshot(self) -> Snapshot:
        """The latest snapshot."""
        return self._snapshot

    @property
    def questions_waiting(self) -> int:
        """Questions that are due and not yet asked."""
        return len(self._questions) + len(self._urgent) + self.accounting.attribution.waiting

    def restore(self, known: Sequence[tuple[Question, OwnershipInterval]]) -> None:
        """Begin with the ranges of ownership from before a restart; before :meth:`start`."""
        if known:
            self._apply(Restore(tuple(known), self._clock()))

    def stop(self) -> None:
        """Ask the thread to end: it takes what the source still has, publishes once more and closes the source."""
        self._stopping.set()
        self._wake()

    def configure(self, config: Config) -> None:
        """Other settings from now on (on the writer's thread only)."""
        self._apply(Configure(config))

    def deliver(self, result: QuestionResult) -> None:
        """Hand in what came back for a question."""
        self._results.append(result)
        self._wake()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run ``function`` on the writer's thread. QueryError at once if too many requests wait."""
        if len(self._requests) >= MAX_REQUESTS:
            raise QueryError("too many queries wait; try again")
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:  # the caller's error, raised where the caller waits
                    future.set_exception(error)

        self._requests.append(run)
        self._wake()
        return future

    def ask_now(self, question: Question) -> Future[None]:
        """Ask soon (on the writer's thread only); done when the question was answered or failed.

        Questions of users and of the plan take turns, so that neither keeps the other waiting for ever. QueryError if
        too many of users wait.
        """
        future: Future[None] = Future()
        if question not in self._waiters and question not in self._in_flight:
            if len(self._urgent) >= MAX_URGENT:
                raise QueryError("too many questions wait for the control plane; try again")
            self._urgent.append(question)
        self._waiters.setdefault(question, []).append(future)
        return future

    # The thread.

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
            self._finish()
        except BaseException as error:  # kept for the daemon, which ends with it
            log.exception("the writer failed")
            self.failure = error
        finally:
            self.source.close()

    def _turn(self) -> None:
        self._wait()
        self.beat = now = self._clock()
        for step in self._networks():
            self._apply(TakeStep(step, now, now))
        if self._source_due(now) or self._requests_want_news(now):
            self._take_steps(self.source.poll)
        self._take_results()
        now = self._clock()
        self._apply(Decide(now))
        self._start_questions(now)
        if now - self._tidied >= min(TIDY_EVERY, self.accounting.series_table.idle_after / 4):
            self._tidied = now
            self._apply(GiveUp(now - self.accounting.attribution.settings.give_up_after, now))
            self._apply(Tidy(now))
        # Where it costs little the page is as new as every answer: who was told of a name finds it there.
        wanted = self._requests and self._publish_every <= PUBLISH_EVERY
        if wanted or now - self._published >= self._publish_every:
            self._publish(now)
        self._serve_requests()

    def _finish(self) -> None:
        if self._retry_at is None:
            self._take_steps(self.source.finish)
        self._serve_requests()
        self._take_results()
        self._apply(Decide(self._clock()))
        self._apply(Finish())
        self._publish(self._clock())

    def _wait(self) -> None:
        now = self._clock()
        watched = [self._wake_read]
        until = now + IDLE_WAIT
        if self._retry_at is not None:
            until = min(until, self._retry_at)
        elif self._stopping.is_set() or self._requests:
            until = now
        else:
            until = min(until, max(self.source.deadline(), self._polled + GATHER))
            if now >= self._polled + GATHER:
                watched.append(self.source.fileno())
            if now < self._polled + GATHER or self.accounting.attribution.has_news:
                until = min(until, self._polled + GATHER)
        if self._questions or self._urgent or self.accounting.attribution.waiting:
            until = min(until, max(self.budget.next_at(now), now + 0.02, now + self._resting_for()))
        if len(self._permits):
            until = min(until, max(self._permits.next_at(now), now + 0.02, now + self._resting_for()))
        self._changes_wait = self.source.fileno() in select_readable(watched, max(0.0, until - now))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _source_due(self, now: float) -> bool:
        if self._retry_at is not None:
            return now >= self._retry_at and self._reopen(now)
        if now < self._polled + GATHER:
            return False
        # An answer counts once the source has caught up with it, so news is a reason to look, too.
        wanted = self._changes_wait or self.accounting.attribution.has_news
        return wanted or now >= min(self.source.deadline(), self._polled + IDLE_WAIT)

    def _requests_want_news(self, now: float) -> bool:
        """Whoever asks about a connection means the one that is there now, not the one before on its ports."""
        return bool(self._requests) and self._retry_at is None and now - self._polled >= FRESH

    def _reopen(self, now: float) -> bool:
        try:
            self.source.open()
        except (SourceError, OSError) as error:
            self._source_failed(error, now)
            return False
        log.info("source %s is open again", self.source.name)
        self._retry_at, self._retry_pause, self.source_error = None, 1.0, None
        return True

    def _source_failed(self, error: SourceError | OSError, now: float) -> None:
        self.source_error = str(error)
        self.source.stats.up = False
        self.source.close()
        self._retry_at = now + self._retry_pause
        log.warning("source %s failed: %s; trying again in %.0f s", self.source.name, error, self._retry_pause)
        self._retry_pause = min(60.0, self._retry_pause * 2)

    def _take_steps(self, steps: Callable[[], Iterator[Step]]) -> None:
        try:
            # A source reads ahead, and the kernel before it, so all that is known of a step's age is that it is not
            # older than this poll, or than what the source says.
            read_at = self._clock()
            for step in steps():
                self.beat = now = self._clock()
                self._apply(TakeStep(step, now, min(read_at, self.source.as_of)))
                if now - read_at >= FRESH:  # the rest of a long read is not waited for
                    self._serve_requests()
                if now - self._published >= 10 * self._publish_every:  # a long read must not make scrapes stale
                    self._publish(now)
        except (SourceError, OSError) as error:
            self._source_failed(error, self._clock())
        self._polled = self._clock()

    def _serve_requests(self) -> None:
        for _ in range(len(self._requests)):
            self._requests.popleft()()

    def _take_results(self) -> None:
        for _ in range(len(self._results)):
            result = self._results.popleft()
            self.budget.finish()
            self._in_flight.discard(result.question)
            self.unreadable += result.unreadable
            self._apply(Deliver(self._clock(), result))
            if result.answer is not None:
                self.answers += 1
                self.last_answer = time.time()
            else:
                self.last_failure = result.cause
            for waiter in self._waiters.pop(result.question, ()):
                if waiter.set_running_or_notify_cancel():
                    waiter.set_result(None)

    def _start_questions(self, now: float) -> None:
        self._permits.apply_given_back()
        if self._resting_for() > 0:
            return
        self._permits.grant_first(now)
        available = self.budget.available(now)
        if available and len(self._questions) < available and now - self._planned >= self._plan_every:
            self._questions.extend(self._apply(Ask(now, available)))
            self._planned = self._clock()
            # Planning looks at every flow; with a million of them it must not take more than a twentieth of the time.
            self._plan_every = max(GATHER, 20 * (self._planned - now))
        while (self._questions or self._urgent) and self.budget.available(now):
            urgent = bool(self._urgent) and (self._urgent_next or not self._questions)
            self._urgent_next = not urgent
            question = (self._urgent if urgent else self._questions).popleft()
            if question not in self._in_flight:  # else its answer is on the way, and serves whoever asked
                self._in_flight.add(question)
                self.budget.start(now)
                self._permits.count_question()
                self._ask(question, self.deliver)
        if len(self._permits) and not self.questions_waiting:
            self._permits.grant_spare(now)

    def _publish(self, now: float) -> None:
        began = self._clock()
        self._snapshot = self._take_snapshot(self.accounting)
        self._published = now
        # A snapshot looks at every flow; with a million of them it must not take more than a twentieth of the time.
        self._publish_every = max(PUBLISH_EVERY, 20 * (self._clock() - began))

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well as one more byte
            os.write(self._wake_write, b"\0")


def select_readable(descriptors: list[int], timeout: float) -> set[int]:
    """Wait until one of the descriptors is readable or ``timeout`` seconds have passed; those that are."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(timeout * 1000)}
