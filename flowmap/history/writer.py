"""History's own thread: takes what the writer hands over, and keeps the file.

The writer's thread only copies columns and appends to a queue; it never waits. What finds no room in the queue, because
the file cannot be written for long or the burst is too large, is lost, counted by reason and said in the status.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from flowmap.attribute.answers.intervals import IntervalChange, OwnershipInterval
from flowmap.attribute.decisions import Decision
from flowmap.attribute.questions import Question
from flowmap.errors import HistoryError
from flowmap.flows.columns import FlowColumns
from flowmap.flows.hash_index import Rows
from flowmap.flows.table import Times
from flowmap.history import clock
from flowmap.history.file import Limits
from flowmap.history.flows import MICROSECONDS, ClosedFlows, Handover, gather, settle
from flowmap.history.intervals import StoredInterval, on_scale
from flowmap.history.store import Store

log = logging.getLogger(__name__)

FLUSH_EVERY = 5.0
"""Seconds after which flows are written though they do not fill a block; what a crash can cost."""
MAX_QUEUED = 1 << 18
"""Flows that may wait to be written; some 120 bytes of memory each."""
MAX_CHANGES = 50_000
"""Confirmed ranges that may wait to be written."""
MOST_RANGES = 500
"""Of them in one transaction."""
RETRY_FIRST, RETRY_LAST = 1.0, 60.0
"""Seconds until a file that failed is tried again, at first and at most."""
COMPLAIN_EVERY = 60.0


@dataclass(slots=True)
class HistoryFigures:
    """What history says about itself; written by its thread (``lost`` by the writer's, too), read by anyone."""

    limits: Limits
    up: bool = False
    written: int = 0
    """Flows."""
    lost: Counter[str] = field(default_factory=Counter)
    """Flows that are not in the file and will never be, by reason."""
    ranges_written: int = 0
    ranges_lost: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    """Flows that left the file: ``age``, ``size``."""
    queued: int = 0
    flows: int = 0
    """Flows in the file."""
    size: int = 0
    oldest: float | None = None
    """Seconds since the epoch at which the oldest flow in the file ended."""
    set_aside: int = 0
    """Broken files that were renamed."""
    notes: dict[str, str] = field(default_factory=dict)
    """What is wrong, and what was: a short key and one line."""


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """What an answer did to the ranges of its question; monotonic seconds."""

    question: Question
    change: IntervalChange


class HistoryWriter(threading.Thread):
    """Implements ``flowmap.engine.accounting.Journal``. Runs until :meth:`stop`, which writes what is left."""

    def __init__(
        self,
        path: str,
        limits: Limits,
        *,
        source: str,
        flush_every: float = FLUSH_EVERY,
        max_queued: int = MAX_QUEUED,
        epoch: Callable[[], float] = clock.epoch,
    ) -> None:
        super().__init__(name="history", daemon=True)  # a file that hangs (a network's) must not keep the daemon
        self.figures = HistoryFigures(limits)
        self._store = Store(path, limits)
        self._source = source
        self._flush_every = flush_every
        self._max_queued = max_queued
        self._epoch = epoch
        self._boot = clock.boot()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._queue: deque[Handover] = deque()
        self._changes: deque[_Confirmed] = deque()
        self._barriers: list[tuple[Future[int | None], int]] = []
        self._handed = 0  # flows that were ever queued
        self._waiting = ClosedFlows.concatenate(())  # taken from the queue; the thread's own
        self._since = float("inf")  # when the first thing that waits came
        self._stopping = False
        self._suspected: HistoryError | None = None
        self._growing: dict[Question, float] = {}  # monotonic start of the range that the file has as growing
        self._retry_at, self._pause = 0.0, RETRY_FIRST
        self._failing = ""
        self._complained = float("-inf")

    # For the writer's thread.

    def left(
        self, table: FlowColumns, rows: Rows, decisions: Mapping[int, Decision], *, open_until: Times | None = None
    ) -> None:
        """Decided flows that leave the table now. ``open_until``: they are open, as far as is known until these
        monotonic instants, and the daemon stops."""
        with self._lock:
            room = max(0, self._max_queued - self.figures.queued)
            self.figures.queued += min(room, len(rows))
            self._handed += min(room, len(rows))
        if room < len(rows):
            self.figures.lost[self._failing or "queue_full"] += len(rows) - room
            rows, open_until = rows[:room], None if open_until is None else open_until[:room]
        if len(rows):
            handed = gather(
                *(table, rows, decisions),
                epoch=self._epoch(),
                source=self._source,
                open_until=open_until,
                now=time.monotonic(),
            )
            with self._lock:
                self._queue.append(handed)
            self._note_arrival(full=self.figures.queued >= self.figures.limits.block_flows)

    def confirmed(self, question: Question, change: IntervalChange) -> None:
        """What an answer did to the ranges of its question."""
        if change.contradicted:
            return
        if len(self._changes) >= MAX_CHANGES:
            self.figures.ranges_lost += 1
            return
        self._changes.append(_Confirmed(question, change))
        self._note_arrival(full=False)

    # For any thread.

    def open(self) -> list[tuple[Question, OwnershipInterval]]:
        """Open the file before the thread starts; the ranges of the last run, on the monotonic clock of now.

        A file that cannot be opened is none: history says so and goes on trying.
        """
        known: list[tuple[Question, OwnershipInterval]] = []
        try:
            self._reopen()
            epoch = self._epoch()
            for span in self._store.spans():
                scale = span.epoch if span.boot == self._boot else epoch
                restored = on_scale(span.range, -scale)
                self._growing[span.question] = restored.first_asked
                known.append((span.question, restored))
        except HistoryError as error:
            self._failed(error)
        return known

    def flush(self) -> Future[int | None]:
        """Write what was handed over so far. The result is the number that the next flow gets: what comes later is not
        below it. None if it cannot be written for now."""
        barrier: Future[int | None] = Future()
        with self._lock:
            self._barriers.append((barrier, self._handed))
        self._wake.set()
        return barrier

    def suspect(self, error: HistoryError) -> None:
        """A reader found the file broken: it is set aside, and a new one begins."""
        self._suspected = error
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to end: it writes what waits and closes the file."""
        self._stopping = True
        self._wake.set()

    # The thread.

    def run(self) -> None:
        try:
            while not self._stopping:
                self._wake.wait(self._wait())
                self._wake.clear()
                self._turn(everything=False)
            self._turn(everything=True)
        except Exception:  # a defect here must cost history only
            log.exception("history failed; it ends here, the daemon goes on")
            self.figures.notes["defect"] = "history failed and has ended; the log says why"
        finally:
            self._end()

    def _wait(self) -> float | None:
        now = time.monotonic()
        due = [self._since + self._flush_every, now + 60.0]
        if self._failing:
            due = [self._retry_at]
        return max(0.0, min(due) - now)

    def _turn(self, *, everything: bool) -> None:
        """Write what is due: whole blocks at once, the rest when it has waited, is asked for, or all must go."""
        with self._lock:
            barriers, self._barriers = self._barriers, []
        now = time.monotonic()
        try:
            if (suspected := self._suspected) is not None:
                self._suspected = None
                raise suspected
            if not self._failing or now >= self._retry_at or everything:
                self._write(everything or bool(barriers) or now >= self._since + self._flush_every)
        except HistoryError as error:
            self._failed(error)
        finally:
            self._measure()
            for barrier, handed in barriers:
                later = self.figures.written - handed  # written already, though handed over after the question
                if barrier.set_running_or_notify_cancel():
                    barrier.set_result(self._store.following - later if later >= 0 else None)

    def _write(self, everything: bool) -> None:
        if self._failing or not self._store.is_open:
            self._reopen()
        if everything:
            self._since = float("inf")  # before the queue is looked at: what comes later sets it anew
        self._take()
        most = self.figures.limits.block_flows
        while len(self._waiting) >= most:
            self._write_block(most)
        if everything:
            while len(self._waiting) or self._changes:
                self._write_block(most)
            self._write_block(0)  # age asks flows to leave even where none come

    def _take(self) -> None:
        """Settle what is in the queue; it waits here until it is in the file."""
        with self._lock:
            taken = list(self._queue)
            self._queue.clear()
        if taken:
            self._waiting = ClosedFlows.concatenate((self._waiting, *map(settle, taken)))

    def _write_block(self, most: int) -> None:
        """One transaction: a block and some ranges. What it held is forgotten only when it is in the file."""
        changes = [self._changes[n] for n in range(min(len(self._changes), MOST_RANGES))]
        growing: dict[Question, float] = {}
        spans = [span for one in changes for span in self._spans(one, growing)]
        part = self._waiting.take(slice(0, most))
        written = self._store.write(part, spans, now=time.monotonic() + self._epoch())
        self._waiting = self._waiting.take(slice(most, None))
        for _ in changes:
            self._changes.popleft()
        self._growing.update(growing)
        while len(self._growing) > MAX_CHANGES * 4:
            del self._growing[next(iter(self._growing))]
        figures = self.figures
        with self._lock:
            figures.queued -= len(part)
        figures.written += len(part)
        figures.ranges_written += len(spans)
        for reason, flows in (("age", written.aged), ("size", written.evicted)):
            figures.removed[reason] += flows
        while self._store.merge():
            pass

    def _spans(self, one: _Confirmed, growing: dict[Question, float]) -> list[StoredInterval]:
        """The rows that a confirmation changes; ``growing`` and ``_growing`` say which range the file has."""
        epoch = self._epoch()
        spans = []
        for known in (one.change.closed, one.change.current):
            if known is not None:
                before = growing.get(one.question, self._growing.get(one.question))
                continues = before == known.first_asked
                spans.append(StoredInterval(one.question, on_scale(known, epoch), continues, self._boot, epoch))
                growing[one.question] = known.first_asked
        return spans

    def _reopen(self) -> None:
        self._store.close()
        self._store.open()
        if self._store.last_set_aside and self._store.set_aside > self.figures.set_aside:
            log.warning("history: %s", self._store.last_set_aside)
            self.figures.notes["set_aside"] = self._store.last_set_aside
        self.figures.set_aside = self._store.set_aside
        if self._failing:
            log.info("history goes on")
        self._failing, self._pause = "", RETRY_FIRST
        self.figures.up = True
        self.figures.notes.pop("file", None)
        self._measure()

    def _failed(self, error: HistoryError) -> None:
        """Keep what waits, and try the file again later; a broken one at once, since it is replaced."""
        now = time.monotonic()
        at_once = error.reason == "corrupt" and not self._failing
        if error.reason == "corrupt":
            self._store.condemn(error)
        self._failing, self._since = error.reason, min(self._since, now)
        self._retry_at = now if at_once else now + self._pause
        self._pause = min(RETRY_LAST, self._pause * 2)
        self.figures.up = False
        line = f"{error}; {error.remedy}" if error.remedy else str(error)
        self.figures.notes["file"] = f"nothing is written ({error.reason}): {line}"
        self._store.close()
        if now - self._complained >= COMPLAIN_EVERY:
            self._complained = now
            log.warning("history: %s", line)

    def _measure(self) -> None:
        figures, store = self.figures, self._store
        figures.size, figures.flows = store.size(), store.flows
        figures.oldest = None if store.oldest is None else store.oldest / MICROSECONDS

    def _note_arrival(self, *, full: bool) -> None:
        if self._since == float("inf"):
            self._since = time.monotonic()
            self._wake.set()  # so that the thread looks at the time
        elif full:
            self._wake.set()

    def _end(self) -> None:
        left = self.figures.queued
        if left:
            self.figures.lost[self._failing or "stopped"] += left
            log.warning("history: %d flows are not in it: %s", left, self._failing or "stopped")
        self._store.close()
        self.figures.up = False
