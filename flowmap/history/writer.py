"""History's thread: receives flows and ownership intervals from the engine and writes them to the file.

The engine's thread only copies columns and appends to a queue; it never waits. If the queue is full, because the file
could not be written for long or a burst is too large, flows are lost. They are counted by reason and in the status.
"""

from __future__ import annotations

import contextlib
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
from flowmap.flows.bursts import Times
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable
from flowmap.history import clock
from flowmap.history.closed_flows import MICROSECONDS, ClosedFlows, CopiedFlows, convert, copy_flows
from flowmap.history.earlier import KNOWN_FOR, LINGER, EarlierConnections
from flowmap.history.file import Limits
from flowmap.history.intervals import StoredInterval, on_scale
from flowmap.history.store import HistoryStore

log = logging.getLogger(__name__)

FLUSH_EVERY = 5.0
"""Seconds after which flows are written even if they do not fill a block. A crash can lose as much."""
INTERRUPTED = (
    "the daemon before this one was killed: connections that were open then, or had closed in the two minutes before, "
    "are missing in the file"
)
MAX_QUEUED = 1 << 18
"""Largest number of flows waiting to be written, some 120 bytes of memory each."""
MAX_CHANGES = 50_000
"""Largest number of changed intervals waiting to be written."""
MOST_INTERVALS = 500
"""Largest number of changed intervals in one transaction."""
RETRY_FIRST, RETRY_LAST = 1.0, 60.0
"""Seconds until a failed file is tried again, at first and at most."""
LOG_EVERY = 60.0


@dataclass(slots=True)
class HistoryFigures:
    """Figures of the history, written by its thread (``lost`` also by the engine's) and read by any thread."""

    limits: Limits
    up: bool = False
    written: int = 0
    """Flows."""
    lost: Counter[str] = field(default_factory=Counter)
    """Flows that will never be in the file, by reason."""
    intervals_written: int = 0
    intervals_lost: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    """Flows deleted from the file: ``age``, ``size``."""
    queued: int = 0
    flows: int = 0
    """Flows in the file."""
    size: int = 0
    oldest: float | None = None
    """Seconds since the epoch at which the oldest flow in the file ended."""
    set_aside: int = 0
    """Number of broken files that were renamed."""
    notes: dict[str, str] = field(default_factory=dict)
    """Present and past problems: a short key and one line."""


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """The change of an answer to the intervals of its question, in monotonic seconds."""

    question: Question
    change: IntervalChange


class HistoryWriter(threading.Thread):
    """The thread that writes the history (``flowmap.engine.accounting.Journal``). :meth:`stop` writes the rest."""

    def __init__(
        self,
        path: str,
        limits: Limits,
        *,
        source: str,
        flush_every: float = FLUSH_EVERY,
        max_queued: int = MAX_QUEUED,
        retry_first: float = RETRY_FIRST,
        epoch: Callable[[], float] = clock.epoch,
        boot: Callable[[], int] = clock.boot,
    ) -> None:
        super().__init__(
            name="history", daemon=True
        )  # a file that hangs (network file system) must not keep the daemon from stopping
        self.figures = HistoryFigures(limits)
        self._store = HistoryStore(path, limits)
        self._source = source
        self._flush_every = flush_every
        self._max_queued = max_queued
        self._epoch = epoch
        self._boot = boot()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._queue: deque[CopiedFlows] = deque()
        self._changes: deque[_Confirmed] = deque()
        self._barriers: list[tuple[Future[int | None], int]] = []
        self._handed = 0  # flows queued since startup
        self._waiting = ClosedFlows.concatenate(())  # converted flows; used by this thread only
        self._since = float("inf")  # when the oldest waiting entry arrived
        self._earlier: EarlierConnections | None = None
        self._earlier_until = time.monotonic() + KNOWN_FOR
        self._stopping = False
        self._suspected: HistoryError | None = None
        self._growing: dict[Question, float] = {}  # monotonic start of the growing interval in the file
        self._retry_at, self._retry_first, self._pause = 0.0, retry_first, retry_first
        self._failing = ""
        self._logged_at = float("-inf")

    # For the engine's thread.

    def left(
        self,
        table: FlowTable,
        rows: Rows,
        decisions: Mapping[int, Decision],
        *,
        open_until: Times | None = None,
    ) -> None:
        """Queue flows that the table frees now, with their decisions. What an earlier daemon wrote is left out.

        ``open_until``: the daemon stops while they are open; they were alive until these monotonic instants."""
        if open_until is None and self._earlier is not None:
            rows = rows[~self._earlier.have(table, rows)]
            if time.monotonic() > self._earlier_until:
                self._earlier = None
        with self._lock:
            room = max(0, self._max_queued - self.figures.queued)
            self.figures.queued += min(room, len(rows))
            self._handed += min(room, len(rows))
        if room < len(rows):
            self.figures.lost[self._failing or "queue_full"] += len(rows) - room
            rows, open_until = rows[:room], None if open_until is None else open_until[:room]
        if len(rows):
            handed = copy_flows(
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
        """Queue the change of an answer to the intervals of its question."""
        if change.contradicted:
            return
        if len(self._changes) >= MAX_CHANGES:
            self.figures.intervals_lost += 1
            return
        self._changes.append(_Confirmed(question, change))
        self._note_arrival(full=False)

    # For any thread.

    def open(self) -> list[tuple[Question, OwnershipInterval]]:
        """Open the file before the thread starts, and return the growing intervals in present monotonic time.

        If the file cannot be opened there are none: history reports the error and tries again.
        """
        known: list[tuple[Question, OwnershipInterval]] = []
        try:
            self._reopen()
            self._succeeded()
            if self._store.interrupted:
                log.warning("history: %s", INTERRUPTED)
                self.figures.notes["interrupted"] = INTERRUPTED
            epoch = self._epoch()
            for interval in self._store.growing_intervals():
                scale = interval.epoch if interval.boot == self._boot else epoch
                restored = on_scale(interval.interval, -scale)
                self._growing[interval.question] = restored.first_asked
                known.append((interval.question, restored))
            since = time.monotonic() + epoch - LINGER
            self._earlier = EarlierConnections(self._store.ended_since(since), since=round(since * MICROSECONDS))
        except HistoryError as error:
            self._failed(error)
        return known

    def flush(self) -> Future[int | None]:
        """Write all flows queued so far. The result is the number of the next flow: later flows have at least this
        number. None if the file cannot be written now."""
        barrier: Future[int | None] = Future()
        with self._lock:
            self._barriers.append((barrier, self._handed))
        self._wake.set()
        return barrier

    def suspect(self, error: HistoryError) -> None:
        """Report that a reader found the file broken: it is renamed and replaced."""
        self._suspected = error
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to write what is queued, close the file and end."""
        self._stopping = True
        self._wake.set()

    def first_end(self) -> float | None:
        """Seconds since the epoch at which the first to end of the flows that wait here ended; None without one."""
        with self._lock:
            queued = list(self._queue)
        ends = [float(part.columns["ended_by"].min()) + part.epoch for part in queued]
        if len(waiting := self._waiting):  # after the queue: flows go that way
            ends.append(int(waiting.columns["ended_by"].min()) / MICROSECONDS)
        return min(ends, default=None)

    # The thread.

    def run(self) -> None:
        try:
            while not self._stopping:
                self._wake.wait(self._wait())
                self._wake.clear()
                self._write_due(everything=False)
            self._write_due(everything=True)
        except Exception:  # a defect here must stop history only
            log.exception("history stopped after a defect: the daemon continues without it; please report this")
            self.figures.notes["defect"] = "history stopped after a defect; the log has the traceback"
        finally:
            self._end()

    def _wait(self) -> float | None:
        now = time.monotonic()
        due = [self._since + self._flush_every, now + 60.0]
        if self._failing:
            due = [self._retry_at]
        return max(0.0, min(due) - now)

    def _write_due(self, *, everything: bool) -> None:
        """Write full blocks at once, the rest after ``flush_every``, on :meth:`flush`, or if ``everything``."""
        with self._lock:
            barriers, self._barriers = self._barriers, []
        now = time.monotonic()
        try:
            if (suspected := self._suspected) is not None:
                self._suspected = None
                raise suspected
            if not self._failing or now >= self._retry_at or everything:
                due = bool(barriers) or now >= self._since + self._flush_every
                self._write(everything or due or bool(self._failing))
                self._succeeded()
        except HistoryError as error:
            self._failed(error)
        finally:
            self._measure()
            for barrier, handed in barriers:
                later = self.figures.written - handed  # queued after the call of flush, and written already
                if barrier.set_running_or_notify_cancel():
                    barrier.set_result(self._store.following - later if later >= 0 else None)

    def _write(self, everything: bool) -> None:
        if self._failing or not self._store.is_open:
            self._reopen()
        if everything:
            self._since = float("inf")  # before the queue is read: later entries set it again
        self._convert_queue()
        most = self.figures.limits.block_flows
        while len(self._waiting) >= most:
            self._write_block(most)
        if everything:
            while len(self._waiting) or self._changes:
                self._write_block(most)
            self._write_block(0)  # deletes aged flows even without new ones

    def _convert_queue(self) -> None:
        """Convert the queued flows. They wait here until they are in the file."""
        with self._lock:
            taken = list(self._queue)
        if taken:
            self._waiting = ClosedFlows.concatenate((self._waiting, *map(convert, taken)))
            with self._lock:  # after they wait: another thread finds each flow in one of the two
                for _ in taken:
                    self._queue.popleft()

    def _write_block(self, most: int) -> None:
        """Write a block and some intervals in one transaction. They are dropped here only after its success."""
        changes = [self._changes[n] for n in range(min(len(self._changes), MOST_INTERVALS))]
        growing: dict[Question, float] = {}
        intervals = [interval for one in changes for interval in self._intervals(one, growing)]
        part = self._waiting.take(slice(0, most))
        written = self._store.write(part, intervals, now=time.monotonic() + self._epoch())
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
        figures.intervals_written += len(intervals)
        for reason, flows in (("age", written.aged), ("size", written.evicted)):
            figures.removed[reason] += flows
        while self._store.merge():
            pass

    def _intervals(self, one: _Confirmed, growing: dict[Question, float]) -> list[StoredInterval]:
        """The intervals that a change writes. ``growing``, then ``_growing``, has the growing interval of the file."""
        epoch = self._epoch()
        intervals = []
        for known in (one.change.closed, one.change.current):
            if known is not None:
                before = growing.get(one.question, self._growing.get(one.question))
                continues = before == known.first_asked
                intervals.append(StoredInterval(one.question, on_scale(known, epoch), continues, self._boot, epoch))
                growing[one.question] = known.first_asked
        return intervals

    def _reopen(self) -> None:
        self._store.close()
        self._store.open()
        if self._store.last_set_aside and self._store.set_aside > self.figures.set_aside:
            log.warning("history: %s", self._store.last_set_aside)
            self.figures.notes["set_aside"] = self._store.last_set_aside
        self.figures.set_aside = self._store.set_aside
        self._measure()

    def _succeeded(self) -> None:
        """The file could be opened and written: a full disk lets it be opened only."""
        if self._failing:
            log.info("history: the file can be written again")
        self._failing, self._pause = "", self._retry_first
        self.figures.up = True
        self.figures.notes.pop("file", None)

    def _failed(self, error: HistoryError) -> None:
        """Keep what is queued and try the file again later; a corrupt one at once, since it is replaced."""
        now = time.monotonic()
        at_once = error.reason == "corrupt" and not self._failing
        if error.reason == "corrupt":
            self._store.mark_broken(error)
        self._failing, self._since = error.reason, min(self._since, now)
        self._retry_at = now if at_once else now + self._pause
        self._pause = min(RETRY_LAST, self._pause * 2)
        self.figures.up = False
        line = f"{error}; {error.remedy}" if error.remedy else str(error)
        self.figures.notes["file"] = f"the file cannot be written ({error.reason}): {line}"
        self._store.close()
        if now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            log.warning("history: %s", line)

    def _measure(self) -> None:
        figures, store = self.figures, self._store
        figures.size, figures.flows = store.size(), store.flows
        figures.oldest = None if store.oldest is None else store.oldest / MICROSECONDS

    def _note_arrival(self, *, full: bool) -> None:
        if self._since == float("inf"):
            self._since = time.monotonic()
            self._wake.set()  # so that the thread computes its next deadline
        elif full:
            self._wake.set()

    def _end(self) -> None:
        left = self.figures.queued
        if left:
            self.figures.lost[self._failing or "stopped"] += left
            log.warning("history: %d flows were lost: %s", left, self._failing or "stopped")
        elif self._stopping and self._store.is_open:
            with contextlib.suppress(HistoryError):
                self._store.end_run()
        self._store.close()
        self.figures.up = False
