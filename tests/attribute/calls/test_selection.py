"""The first few are those that a sort of all would give."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowmap.attribute.calls.selection import first_few

KEY = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, np.inf])


@given(st.integers(0, 12), st.lists(st.tuples(KEY, KEY, KEY), max_size=10))
def test_they_are_what_a_sort_gives(limit: int, rows: list[tuple[float, float, float]]) -> None:
    keys = [np.array([row[n] for row in rows], np.float64) for n in range(3)]
    for count in (1, 2, 3):
        whole = np.lexsort(tuple(reversed(keys[:count])))
        assert first_few(limit, *keys[:count])[:limit].tolist() == whole[:limit].tolist()
