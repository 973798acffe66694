"""Does again what a recording holds, to books of its own: every decision as it was, and proof that it is so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from flowmap.assembly import make_books, make_snapshot
from flowmap.collect.base import SourceStats, Step
from flowmap.export.snapshot import Snapshot
from flowmap.flows.batch import FlowBatch
from flowmap.flows.index import Rows
from flowmap.query import Queries
from flowmap.record.entries import (
    Asked,
    ClockSet,
    Delivered,
    Entry,
    Figures,
    GaveUp,
    Marked,
    Messages,
    RecordedStep,
    Restored,
    Settled,
    Stepped,
    Tidied,
    Tuned,
)
from flowmap.record.reader import RecordingReader
from flowmap.wire.conntrack_columns import ColumnDecoder


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay first came to something else than the daemon."""

    at: float
    """Seconds since the epoch."""
    what: str


class Replay:
    """A recording and the books it is done to. ``queries`` may look at any time between two entries."""

    def __init__(self, reader: RecordingReader, *, leaving: Callable[[Rows], None] | None = None) -> None:
        """``leaving`` is called with flows that are over and decided, before the books forget them."""
        begin = reader.begin
        self.reader = reader
        self.source = begin.source
        self.books = make_books(begin.config, announces_births=begin.source.announces_births)
        if leaving is not None:
            self.books.leaving = leaving
        self.epoch = begin.epoch
        self.queries = Queries(self.books, source=begin.source.name, epoch=begin.epoch)
        self.now = -math.inf
        """Monotonic instant of the last entry."""
        self.stopped_early = False
        self.difference: Difference | None = None
        self.stats = SourceStats()
        """The source's counts when last noted."""
        self.answers = self.failures = self.records = 0
        self._decoder = RecordedBatches()

    def run(self, until: float = math.inf) -> Iterator[float]:
        """Do everything up to ``until`` (seconds since the epoch); yields the share that is done after every entry.

        DecodeError for what only a later flowmap can read.
        """
        for entry in self.reader.entries():
            now = getattr(entry, "now", None)
            if now is not None and now + self.epoch > until:
                self.stopped_early = True
                return
            self._do(entry)
            self.now = self.now if now is None else max(self.now, now)
            yield self.reader.offset / self.reader.size

    def findings(self) -> list[str]:
        """A line on whatever keeps this from being the whole of what the daemon did; empty if nothing does."""
        lines = [self.reader.missing] if self.reader.missing else []
        if self.difference is not None:
            when = datetime.fromtimestamp(self.difference.at, UTC).isoformat(timespec="milliseconds")
            lines.append(
                f"from {when} on this is not what the daemon (flowmap {self.reader.begin.flowmap}) came to: "
                f"{self.difference.what}"
            )
        return lines

    def snapshot(self) -> Snapshot:
        """What the daemon would have published now."""
        self.books.measure_closing()
        if self.source.tells_health:
            self.books.measure_round_trips()
        at = self.now + self.epoch if np.isfinite(self.now) else self.reader.begin.started_at
        return make_snapshot(self.books, self.source, self.stats, taken_at=at)

    def _do(self, entry: Entry) -> None:
        books = self.books
        match entry:
            case Stepped(step, now, read_at):
                taken = self._decoder.step(step)
                self.records += len(taken) if isinstance(taken, FlowBatch) else 0
                books.step(taken, now=now, read_at=read_at)
            case Asked(now, limit, questions):
                found = len(books.ask(now=now, limit=limit))
                if found != questions:
                    self._differs(now, f"questions to ask {found}, not {questions}")
            case Delivered(delivery, now):
                books.deliver(delivery, now=now)
                self.answers += delivery.answer is not None
                self.failures += delivery.answer is None
            case Settled(now):
                books.settle(now)
            case GaveUp(older_than, now):
                books.give_up(older_than=older_than, now=now)
            case Tidied(now):
                books.tidy(now)
            case Tuned(tuning):
                books.tune(tuning)
            case Restored(known, now):
                books.restore(known, now=now)
            case ClockSet(epoch):
                self.epoch = epoch
                self.queries.follow_clock(epoch)
            case Marked(now, figures, stats):
                self.stats = stats
                if difference := Figures.of(books).difference(figures):
                    self._differs(now, difference)

    def _differs(self, now: float, what: str) -> None:
        if self.difference is None:
            self.difference = Difference(now + self.epoch, what)


class RecordedBatches:
    """Makes steps for the books of recorded ones: netlink messages are decoded as they were when they came."""

    def __init__(self) -> None:
        self._decoder = ColumnDecoder()

    def step(self, step: RecordedStep) -> Step:
        """The step as the source delivered it."""
        if not isinstance(step, Messages):
            return step
        batch = self._decoder.decode(step.data, step.starts).batch
        batch.flags |= np.uint16(step.marked)
        return batch
