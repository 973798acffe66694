"""Rows are given out once until they are freed, and freed ones first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowmap.flows.free_rows import FreeRows


def test_freed_rows_are_used_first() -> None:
    rows = FreeRows()
    assert rows.take(3).tolist() == [0, 1, 2]
    rows.give(np.array([1], np.int32))
    assert (rows.take(2).tolist(), rows.top, len(rows)) == ([1, 3], 4, 0)


@given(st.lists(st.integers(0, 5)))
def test_no_row_is_given_twice(steps: list[int]) -> None:
    rows, used = FreeRows(), set[int]()
    for step in steps:
        if step == 0 and used:
            row = used.pop()
            rows.give(np.array([row], np.int32))
        taken = rows.take(step).tolist()
        assert used.isdisjoint(taken)
        used.update(taken)
        assert len(used) == rows.top - len(rows)
