"""Which flows are evicted when the table is full."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.eviction import FEW_PACKETS, Evict
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.flows.records.changes import Changes
from flowmap.flows.table import FlowTable
from tests.support.records import Record, batch_of, replace

OPENED, UPDATED, DUMPED, CLOSED = RecordKind.OPENED, RecordKind.UPDATED, RecordKind.DUMPED, RecordKind.CLOSED
ASSURED = int(Flag.ASSURED)


class FullTable:
    """A table of four rows, taken by flows with these flags; the one with port 1 came first."""

    def __init__(self, *flags: int) -> None:
        self.table, self.now = FlowTable(4), 10.0
        self.table.begin_read()
        self.table.end_read(complete=True, now=self.now)
        for port, flag in enumerate(flags, 1):
            self(flow(port, OPENED), flow(port, UPDATED, flags=flag))

    def __call__(self, *records: Record, evict: Evict | None = None) -> Changes:
        self.now += 1
        return self.table.apply(batch_of(*records), now=self.now, read_at=self.now - 0.5, evict=evict)

    def evicted_for(self, *records: Record) -> int:
        """Apply the records, and return how many flows were evicted for them."""
        before = len(self.table)
        gone: list[int] = []

        def evict(reason: str, rows: Rows) -> None:
            assert reason == "unanswered"
            gone.extend(rows.tolist())
            self.table.free(rows)

        self(*records, evict=evict)
        assert len(self.table) == before, "evicted rows are used again"
        return len(gone)

    def ports(self) -> list[int]:
        return sorted(int(port) >> 48 for port in self.table.columns.ports[self.table.live()])


def flow(port: int, kind: RecordKind, *, packets: int | None = None, flags: int = 0) -> Record:
    counters = None if packets is None else (100 * packets, 0, packets, 0)
    return Record(kind, client_port=port, id=port, counters=counters, flags=flags)


@pytest.mark.parametrize(
    ("record", "evicted"),
    [
        (flow(9, OPENED), 1),
        (flow(9, DUMPED, flags=ASSURED), 1),
        (flow(9, CLOSED, flags=ASSURED), 1),
        (flow(9, DUMPED), 0),
        (flow(9, UPDATED), 0),
        (flow(9, CLOSED), 0),
        (flow(1, DUMPED, flags=ASSURED), 0),
        (replace(flow(1, DUMPED, flags=ASSURED), id=77), 1),
    ],
    ids=["begins", "answered", "over, answered", "seen", "changed", "over", "known", "known under another id"],
)
def test_which_flows_evict_others(record: Record, evicted: int) -> None:
    assert FullTable(0, 0, 0, 0).evicted_for(record) == evicted
    assert FullTable(0, 0, 0, 0).evicted_for(record, record) == evicted, "a flow needs one row"


def test_the_oldest_unanswered_flow_is_evicted() -> None:
    full = FullTable(0, ASSURED, 0, int(Flag.REPLIED))
    for expected in ([2, 3, 4], [2, 4], [2], [2]):
        full.table.free(full.table.evict_unanswered(1))
        assert full.ports() == expected
    assert full.table.open_flows == 1


def test_counted_flows_are_not_evicted() -> None:
    full = FullTable(0)
    full(flow(1, DUMPED, packets=1))
    assert not len(full.table.evict_unanswered(1))


@pytest.mark.parametrize(
    ("record", "grown"),
    [
        (flow(3, DUMPED, packets=FEW_PACKETS), 0),
        (flow(3, DUMPED, packets=FEW_PACKETS + 1), 100 * (FEW_PACKETS + 1)),
        (flow(3, DUMPED, packets=1, flags=ASSURED), 100),
        (flow(3, UPDATED, packets=1), 100),
        (flow(3, CLOSED, packets=1), 100),
    ],
)
def test_unanswered_flows_are_not_counted_above_half(record: Record, grown: int) -> None:
    full = FullTable(0, 0, 0)
    assert sum(full(record).deltas[:, 0].tolist()) == grown


def test_postponed_counters_count_once() -> None:
    answered, over, gone = FullTable(0, 0, 0), FullTable(0, 0, 0), FullTable(0, 0, 0)
    for full in (answered, over, gone):
        assert not full(flow(3, DUMPED, packets=2)).deltas.any()
    assert answered(flow(3, UPDATED, flags=ASSURED), flow(3, DUMPED, packets=3)).deltas[:, 0].tolist() == [300]
    assert over(flow(3, CLOSED, packets=3)).deltas[:, 0].tolist() == [300]
    gone.table.free(gone.table.evict_unanswered(3))
    gone(*[flow(port, OPENED) for port in (5, 6, 7, 8)])
    assert gone(flow(3, CLOSED, packets=3)).shed_totals[0] == 300


def test_assured_flows_get_the_last_rows() -> None:
    full = FullTable(ASSURED, ASSURED, ASSURED)
    applied = full(flow(4, DUMPED), flow(5, DUMPED, flags=ASSURED), flow(6, DUMPED))
    assert (full.ports(), applied.shed) == ([1, 2, 3, 5], 2)


def test_a_refused_flow_may_be_old() -> None:
    full = FullTable(0, 0, 0, 0)
    full.table.free(full.table.evict_unanswered(1))
    (row,) = full(flow(1, DUMPED, flags=ASSURED)).opened.tolist()
    assert full.table.columns.born_after[row] == -np.inf
