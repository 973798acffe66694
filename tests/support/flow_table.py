"""A flow table with a clock, fed with records."""

from __future__ import annotations

import math

import numpy as np

from flowmap.flows.records.changes import Changes
from flowmap.flows.table import FlowTable
from tests.support.records import Record, batch_of


class Feed:
    """A table with a clock that moves one second a batch."""

    def __init__(self, table: FlowTable) -> None:
        self.table, self.now, self.born_after = table, 100.0, -math.inf
        self.total = np.zeros(4, object)

    def __call__(self, *records: Record, free: bool = True) -> Changes:
        self.now += 1
        applied = self.table.apply(batch_of(*records), now=self.now, read_at=self.now - 0.5, born_after=self.born_after)
        self._add(applied)
        if free:
            self.table.free(applied.closed)
        return applied

    def read(self, *records: Record, complete: bool = True) -> list[int]:
        self.table.begin_read()
        if records:
            self(*records)
        return self.end_read(complete=complete)

    def end_read(self, *, complete: bool = True) -> list[int]:
        """Returns the rows that closed; they are freed."""
        self.now += 1
        changes = self.table.end_read(complete=complete, now=self.now)
        for one in changes:
            self._add(one)
            self.table.free(one.closed)
        return [int(row) for one in changes for row in one.closed]

    def _add(self, changes: Changes) -> None:
        self.total = self.total + np.array(changes.deltas.tolist(), object).reshape(-1, 4).sum(axis=0)

    def catch_up(self) -> None:
        self.born_after = self.now
        self.table.caught_up(self.now)


def started(max_flows: int = 50, **kwargs: object) -> Feed:
    """A table whose first full read is over and showed nothing."""
    feed = Feed(FlowTable(max_flows, **kwargs))  # type: ignore[arg-type]
    feed.read()
    return feed


def bytes_of(n: int) -> tuple[int, int, int, int]:
    return n, 2 * n, n // 10, n // 5
