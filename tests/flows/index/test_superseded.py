"""Superseded rows: found by tuple and id until they are removed, the oldest dropped at the limit."""

from __future__ import annotations

import numpy as np

from flowmap.flows.index.superseded import Superseded


def test_rows_are_found_until_popped() -> None:
    held = Superseded(5)
    assert held.add(1, 7, 3, ended=False) is None
    assert held.add(1, 8, 4, ended=True) is None
    assert (held.find(1, 7), held.find(1, 8), held.find(2, 7)) == (3, 4, None)
    assert held.may_hold(np.array([1, 2], np.uint64)).tolist() == [True, False]
    assert (held.pop(1, 8), held.find(1, 8), len(held)) == ((4, True), None, 1)


def test_the_oldest_row_is_dropped_at_the_limit() -> None:
    held = Superseded(2)
    assert [held.add(n, 0, 10 + n, ended=False) for n in range(4)] == [None, None, 10, 11]


def test_clear_returns_the_rows_of_a_namespace() -> None:
    namespaces = np.array([0, 0, 0, 5, 0], np.uint32)
    held = Superseded(5)
    assert held.clear(namespaces, 0).tolist() == []
    held.add(1, 7, 3, ended=False)
    held.add(2, 7, 4, ended=False)
    assert (held.clear(namespaces, 0).tolist(), len(held)) == ([4], 1)
    assert (held.clear(namespaces, 5).tolist(), len(held)) == ([3], 0)
    assert not held.may_hold(np.array([1], np.uint64)).any()
