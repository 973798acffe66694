"""The engine: the one thread that owns the accounting.

It waits for the source, for results of questions and for requests of other threads. Only this thread reads or changes
the accounting. Other threads read immutable snapshots, or pass a function and wait for its result.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.calls.budget import CallBudget, Permits, choosing_pause
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
from flowmap.model.status import QuestionCounts
from flowmap.sources.base import Source, Step

log = logging.getLogger(__name__)
T = TypeVar("T")
ReportWaiting = Callable[[float, Collection[Question], Collection[Question], bool], int]

GATHER = 0.1
"""Seconds between two reads of the source: a batch costs little more than a single record."""
FRESH = 0.02
"""Maximum age in seconds of source data served to a query. A query waits as long for a read under way."""
IDLE_WAIT = 1.0
"""Longest wait in seconds of one turn."""
TIDY_EVERY = 30.0
"""Longest pause in seconds between two :class:`Tidy`; a shorter ``export.idle_after`` shortens it."""
PUBLISH_EVERY = 0.1
"""Shortest pause in seconds between two snapshots."""
MAX_REQUESTS = 256
"""Functions of other threads that may wait at a time."""
MAX_URGENT = 32
"""Questions of users that may wait at a time."""


class Engine(threading.Thread):
    """A thread that runs until :meth:`stop`; ``failure`` is the error that ended it, if one did."""

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
        report_waiting: ReportWaiting = lambda now, questions, urgent, begun: 0,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        """``ask`` starts a call elsewhere and returns at once; the call passes its result to the given function.

        ``resting_for``: seconds until the control plane may be called again; questions wait meanwhile and are not
        charged. ``permits``: grants ``budget`` to other threads. ``apply``: a recorder's. ``networks``: changes
        of the host's networks, read at every turn. ``report_waiting``: called at every turn with the questions under
        way, those of users, and whether some are new; returns how many hurry. ``cpu``: CPU seconds of this thread.
        """
        super().__init__(name="engine")
        self.accounting = accounting
        self._apply: Apply = accounting.apply if apply is None else apply
        self.source = source
        self.failure: BaseException | None = None
        self.source_error: str | None = None
        self.answers = 0
        """Number of questions answered."""
        self.unreadable = 0
        """Number of elements of answers that could not be read."""
        self.last_answer = 0.0
        self.last_failure = ""
        self.beat = 0.0
        """Start of the last turn, or of a step of it, monotonic seconds: it stays behind if the engine hangs."""
        self.budget = budget
        self._permits = Permits(budget) if permits is None else permits
        self._permits.on_request(self._wake)
        self._ask = ask
        self._take_snapshot = take_snapshot
        self._resting_for, self._networks, self._report_waiting = resting_for, networks, report_waiting
        self._clock, self._cpu = clock, cpu
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
        self._published = self._tidied = self._asked_at = self._polled = float("-inf")
        self._ask_every, self._publish_every = GATHER, PUBLISH_EVERY
        self._source_readable, self._hurried = False, 0
        self._retry_at: float | None = None
        self._retry_pause = 1.0

    # For other threads.

    def start(self) -> None:
        self.beat = self._clock()  # an engine before its first turn does not hang
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
        """Start with ownership intervals from before a restart. Call it before :meth:`start`."""
        if known:
            self._apply(Restore(tuple(known), self._clock()))

    def stop(self) -> None:
        """Ask the thread to end: it reads the source once more, publishes a last snapshot and closes the source."""
        self._stopping.set()
        self._wake()

    def configure(self, config: Config) -> None:
        """Apply the live settings. Call it on the engine's thread only."""
        self._apply(Configure(config))

    def deliver(self, result: QuestionResult) -> None:
        """Take the result of a question, from any thread."""
        self._results.append(result)
        self._wake()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run ``function`` on the engine's thread. QueryError at once if :data:`MAX_REQUESTS` wait."""
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
        """Ask a user's question soon; the future is done when it has its result. On the engine's thread only.

        Questions of users and of the schedule take turns, so that neither blocks the other. QueryError if
        :data:`MAX_URGENT` wait.
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
            log.exception("engine failed")
            self.failure = error
        finally:
            self.source.close()

    def _turn(self) -> None:
        self._wait()
        self.beat = now = self._clock()
        for step in self._networks():
            self._apply(TakeStep(step, now, now))
        if self._source_due(now) or self._query_needs_read(now):
            self._take_steps(self.source.poll)
        self._take_results()
        now = self._clock()
        self._apply(Decide(now))
        self._start_questions(now)
        if now - self._tidied >= min(TIDY_EVERY, self.accounting.series_table.idle_after / 4):
            self._tidied = now
            self._apply(GiveUp(now - self.accounting.attribution.settings.give_up_after, now))
            self._apply(Tidy(now))
        # Publish before answering a query if it costs little: a name in the answer is then on the page too.
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
        while self.accounting.attribution.has_backlog:
            self._apply(Decide(self._clock()))
        self._apply(Finish())
        self._publish(self._clock())

    def _wait(self) -> None:
        now = self._clock()
        watched = [self._wake_read]
        until = now + IDLE_WAIT
        if self._retry_at is not None:
            until = min(until, self._retry_at)
        elif self._stopping.is_set() or self._requests or self.accounting.attribution.has_backlog:
            until = now
        else:
            until = min(until, max(self.source.deadline(), self._polled + GATHER))
            if now >= self._polled + GATHER:
                watched.append(self.source.fileno())
            if now < self._polled + GATHER or self.accounting.attribution.has_news:
                until = min(until, self._polled + GATHER)
        if self.accounting.pending_flows:  # a question about one of them may be due soon
            until = min(until, max(self.accounting.attribution.next_due, now + GATHER))
        if self._questions or self._urgent or self.accounting.attribution.waiting:
            ask_at = now if self._questions or self._urgent else self._asked_at + self._ask_every
            until = min(until, max(self.budget.next_at(now), ask_at, now + 0.02, now + self._resting_for()))
        if len(self._permits):
            until = min(until, max(self._permits.next_at(now), now + 0.02, now + self._resting_for()))
        self._source_readable = self.source.fileno() in select_readable(watched, max(0.0, until - now))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _source_due(self, now: float) -> bool:
        if self._retry_at is not None:
            return now >= self._retry_at and self._reopen(now)
        if now < self._polled + GATHER:
            return False
        # An answer counts once the source is complete up to its arrival, so a new answer is a reason to read.
        wanted = self._source_readable or self.accounting.attribution.has_news
        return wanted or now >= min(self.source.deadline(), self._polled + IDLE_WAIT)

    def _query_needs_read(self, now: float) -> bool:
        """Whether to read for a query: it is about the connection that exists now, not an earlier one on its ports."""
        return bool(self._requests) and self._retry_at is None and now - self._polled >= FRESH

    def _reopen(self, now: float) -> bool:
        try:
            self.source.open()
        except (SourceError, OSError) as error:
            self._source_failed(error, now)
            return False
        log.info("source %s reopened", self.source.facts.name)
        self._retry_at, self._retry_pause, self.source_error = None, 1.0, None
        return True

    def _source_failed(self, error: SourceError | OSError, now: float) -> None:
        self.source_error = str(error)
        self.source.stats.up = False
        self.source.close()
        self._retry_at = now + self._retry_pause
        log.warning("source %s failed: %s; next attempt in %.0f s", self.source.facts.name, error, self._retry_pause)
        self._retry_pause = min(60.0, self._retry_pause * 2)

    def _take_steps(self, steps: Callable[[], Iterator[Step]]) -> None:
        try:
            # The source and the kernel buffer data. All that is known of a step's age is that it is not older than the
            # start of this poll, or than the source's ``as_of``.
            read_at = self._clock()
            for step in steps():
                self.beat = now = self._clock()
                self._apply(TakeStep(step, now, min(read_at, self.source.as_of)))
                if now - read_at >= FRESH:  # queries do not wait for the rest of a long read
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
            if not result.question.place.is_flink:
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
        resting = self._resting_for() > 0
        if not resting:
            self._permits.grant_first(now)
        available = 0 if resting else self.budget.available(now)
        limit = available if len(self._questions) < available else 0
        free = self.accounting.attribution.settings.flink
        if (limit or free) and now - self._asked_at >= self._ask_every:
            began = self._cpu()
            self._questions.extend(self._apply(Ask(now, limit)))
            self._asked_at = self._clock()
            self._ask_every = max(GATHER, choosing_pause(self._cpu() - began, self._hurried))
        if free:
            self._start_free()
        if resting:
            return
        begun = []
        while (self._questions or self._urgent) and self.budget.available(now):
            urgent = bool(self._urgent) and (self._urgent_next or not self._questions)
            self._urgent_next = not urgent
            question = (self._urgent if urgent else self._questions).popleft()
            if question not in self._in_flight:  # else the answer under way serves both
                self._in_flight.add(question)
                self.budget.start(now)
                self._permits.count_question()
                begun.append(question)
        self._hurried = self._report_waiting(now, self._in_flight, self._waiters.keys(), bool(begun))
        for question in begun:  # after the report: a fleet then knows what waits for them
            self._ask(question, self.deliver)
        if len(self._permits) and not self.questions_waiting:
            self._permits.grant_spare(now)

    def _start_free(self) -> None:
        """Start the questions that need no call of their own."""
        for waiting in (self._urgent, self._questions):
            for question in [question for question in waiting if question.place.is_flink]:
                waiting.remove(question)
                if question not in self._in_flight:
                    self._in_flight.add(question)
                    self._ask(question, self.deliver)

    def _publish(self, now: float) -> None:
        began = self._cpu()
        self._snapshot = replace(self._take_snapshot(self.accounting), questions=self._question_counts())
        self._published = now
        # A snapshot reads every flow; with a million of them it must not take more than a twentieth of a core.
        self._publish_every = max(PUBLISH_EVERY, 20 * (self._cpu() - began))

    def _question_counts(self) -> QuestionCounts:
        return QuestionCounts(
            answers=self.answers,
            last_answer_at=self.last_answer or None,
            last_error=self.last_failure or None,
            unreadable_elements=self.unreadable,
            questions_cached=len(self.accounting.attribution),
            questions_waiting=self.questions_waiting,
        )

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well as one more byte
            os.write(self._wake_write, b"\0")


def select_readable(descriptors: list[int], timeout: float) -> set[int]:
    """The descriptors that are readable, after a wait of at most ``timeout`` seconds for the first one."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(timeout * 1000)}
