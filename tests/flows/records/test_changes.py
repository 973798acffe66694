"""Changes of several batches, joined."""

from __future__ import annotations

import numpy as np

from flowmap.flows.records.changes import Changes, joined


def changes(row: int, *, shed: int = 0, totals: tuple[int, int, int, int] = (0, 0, 0, 0), ignored: int = 0) -> Changes:
    rows = np.array([row], np.int32)
    deltas = np.array([[row, 2, 3, 4]], np.uint64)
    return Changes(rows, deltas, np.array([row], np.uint32), rows, rows[:0], shed, totals, ignored)


def test_rows_are_joined_in_order_and_shed_traffic_adds_up() -> None:
    huge = 1 << 63
    both = joined([changes(1, shed=2, totals=(huge, 1, 2, 3), ignored=5), changes(2, shed=1, totals=(huge, 0, 0, 1))])
    assert both.rows.tolist() == both.opened.tolist() == both.retransmits.tolist() == [1, 2]
    assert both.deltas.tolist() == [[1, 2, 3, 4], [2, 2, 3, 4]]
    assert both.closed.tolist() == []
    assert (both.shed, both.shed_totals, both.shed_ignored) == (3, (1 << 64, 1, 2, 4), 5), "sums never overflow"
