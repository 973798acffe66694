"""How long flows wait for their decision: a histogram for each state.

A flow counts when it is first decided, by the state of that decision. If that names no owner and a later one does, the
flow counts once more, by the state of its first name. So a flow counts at most once in a state, and the states with
owners hold the time to every flow's first name. All traffic of a connectionless tuple is one flow here; the time to its
first name is that of the burst which got it (:mod:`flowmap.flows.bursts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import FlowColumns, Mask, Row
from flowmap.flows.index.hash_index import Rows

_NAMED = np.uint32(Row.NAMED)
BOUNDS = (0.5, 1.0, 2.0, 5.0, 8.0, 15.0, 30.0, 60.0, 120.0, 600.0)
"""Upper bounds of the buckets in seconds; one more is without a bound."""


class DelayCounts(NamedTuple):
    """The flows of one state."""

    counts: tuple[int, ...]
    """Flows up to each of :data:`BOUNDS`, and all; cumulative."""
    seconds: float
    """Sum of the delays."""


class Delays:
    """Counts delays by state. One thread writes."""

    def __init__(self) -> None:
        self._counts: dict[str, npt.NDArray[np.int64]] = {}
        self._seconds: dict[str, float] = {}

    def decide(self, columns: FlowColumns, rows: Rows, state: str, *, new: Mask, named: bool, now: float) -> None:
        """Take a decision about flows; ``new``: which had none before. ``named``: whether it names an owner."""
        counts = new
        if named:
            counts = new | (columns.flags[rows] & _NAMED == 0)
            columns.flags[rows] |= _NAMED
        self.add(state, now - columns.born_by[rows[counts]])

    def add(self, state: str, seconds: npt.NDArray[np.float64]) -> None:
        """Count delays in seconds."""
        if not len(seconds):
            return
        found = np.bincount(np.searchsorted(BOUNDS, seconds, "left"), minlength=len(BOUNDS) + 1)
        self._counts[state] = self._counts.get(state, np.zeros(len(BOUNDS) + 1, np.int64)) + found
        self._seconds[state] = self._seconds.get(state, 0.0) + float(seconds.sum())

    def freeze(self) -> Mapping[str, DelayCounts]:
        """The counts so far, by state."""
        return {
            state: DelayCounts(tuple(np.cumsum(counts).tolist()), self._seconds[state])
            for state, counts in self._counts.items()
        }
