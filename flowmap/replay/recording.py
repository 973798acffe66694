"""Applies the commands of a recording again, and checks that every decision is the recorded one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from flowmap.engine.commands import Ask, Deliver, TakeStep
from flowmap.engine.factory import make_accounting, make_snapshot
from flowmap.export.snapshot import Snapshot
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.records.batch import FlowBatch
from flowmap.model.source import SourceStats
from flowmap.query.live import LiveQueries
from flowmap.recording.entries import Asked, Checkpoint, ClockSet, Entry, Marked, Undecoded
from flowmap.recording.reader import RecordingReader
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference between a replay and the recorded daemon."""

    at: float
    """Seconds since the epoch."""
    what: str


class Replay:
    """A recording and its accounting. ``queries`` can be used between any two entries."""

    def __init__(self, reader: RecordingReader, *, leaving: Callable[[Rows], None] | None = None) -> None:
        """``leaving`` is called with closed and decided flows before they are freed."""
        begin = reader.begin
        self.reader = reader
        self.source = begin.source
        self.accounting = make_accounting(
            begin.config, announces_births=begin.source.announces_births, counts_live=begin.source.counts_live
        )
        if leaving is not None:
            self.accounting.on_leaving(leaving)
        self.epoch = begin.epoch
        self.queries = LiveQueries(self.accounting, source=begin.source.name, epoch=begin.epoch)
        self.now = -math.inf
        """Monotonic time of the last entry."""
        self.difference: Difference | None = None
        self.stats = SourceStats()
        """The last recorded statistics of the source."""
        self.answers = self.failures = self.records = 0
        self._decoder = ColumnDecoder()

    def run(self, until: float = math.inf) -> Iterator[float]:
        """Replay up to ``until`` (seconds since the epoch). Yields the finished share after every entry.

        DecodeError for an invalid entry.
        """
        for entry in self.reader.entries():
            now = getattr(entry, "now", None)
            if now is not None and now + self.epoch > until:
                return
            self._apply(entry)
            self.now = self.now if now is None else max(self.now, now)
            yield self.reader.offset / self.reader.size

    def findings(self) -> list[str]:
        """A line on each missing part or difference from the recorded daemon."""
        lines = [self.reader.missing] if self.reader.missing else []
        if unknown := self.reader.begin.unknown:
            lines.append(f"ignored settings that this flowmap does not know: {', '.join(unknown)}")
        if self.difference is not None:
            when = datetime.fromtimestamp(self.difference.at, UTC).isoformat(timespec="milliseconds")
            lines.append(
                f"from {when} on the result differs from the recorded daemon (flowmap {self.reader.begin.flowmap}): "
                f"{self.difference.what}"
            )
        return lines

    def snapshot(self) -> Snapshot:
        """The snapshot that the daemon would publish now."""
        at = self.now + self.epoch if np.isfinite(self.now) else self.reader.begin.started_at
        return make_snapshot(self.accounting, self.source, self.stats, taken_at=at)

    def _apply(self, entry: Entry) -> None:
        match entry:
            case Undecoded():
                self._take(decoded(entry, self._decoder))
            case TakeStep():
                self._take(entry)
            case Asked(now, limit, questions):
                found = len(self.accounting.apply(Ask(now, limit)))
                if found != questions:
                    self._note_difference(now, f"questions to ask {found}, not {questions}")
            case ClockSet(epoch):
                self.epoch = epoch
                self.queries.follow_clock(epoch)
            case Marked(now, figures, stats):
                self.stats = stats
                if difference := Checkpoint.of(self.accounting).difference(figures):
                    self._note_difference(now, difference)
            case _:
                if isinstance(entry, Deliver):
                    self.answers += entry.result.answer is not None
                    self.failures += entry.result.answer is None
                self.accounting.apply(entry)

    def _take(self, command: TakeStep) -> None:
        self.records += len(command.step) if isinstance(command.step, FlowBatch) else 0
        self.accounting.apply(command)

    def _note_difference(self, now: float, what: str) -> None:
        if self.difference is None:
            self.difference = Difference(now + self.epoch, what)


def decoded(entry: Undecoded, decoder: ColumnDecoder) -> TakeStep:
    """The command that the daemon applied. ``decoder``: the same for all entries of a recording."""
    data, starts, marked = entry.datagrams
    batch = decoder.decode(data, starts).batch
    batch.flags |= np.uint16(marked)
    return TakeStep(batch, entry.now, entry.read_at)
