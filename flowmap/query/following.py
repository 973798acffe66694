"""What changed in the flow table between two looks at it. Runs on the engine's thread: a few passes over columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import FlowColumns, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.model.views import FlowChanges, FlowView

KEPT = 1000
"""Reported flows that are remembered, so that their disappearance can be reported."""


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """The listed flows at one moment: their rows, ascending, and what tells whether they changed."""

    rows: Rows = field(default_factory=lambda: np.zeros(0, np.int32))
    born: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """A row is used again for other flows; their starts differ."""
    shown: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """State, decision and end of each flow in one number."""
    reported: Mapping[int, FlowView] = field(default_factory=dict)
    """The flows reported last, by row."""

    def born_at(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The start of the flow in each of ``rows``; NaN for a row that is not listed."""
        if not len(self.rows):
            return np.full(len(rows), np.nan)
        place = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        born: npt.NDArray[np.float64] = np.where(self.rows[place] == rows, self.born[place], np.nan)
        return born

    def knows(self, later: Marks) -> npt.NDArray[np.bool_]:
        """Which rows of ``later`` hold the same flow, unchanged."""
        if not len(self.rows):
            return np.zeros(len(later.rows), np.bool_)
        place = np.minimum(np.searchsorted(self.rows, later.rows), len(self.rows) - 1)
        same: npt.NDArray[np.bool_] = self.rows[place] == later.rows
        same &= (self.born[place] == later.born) & (self.shown[place] == later.shown)
        return same


NO_MARKS = Marks()


def changes(
    columns: FlowColumns, rows: Rows, limit: int, before: Marks, view: Callable[[int], FlowView]
) -> FlowChanges:
    """Compare the flows in ``rows``, ascending, with ``before``; view the newest ``limit`` of the changed ones."""
    closed = columns.flags[rows] & np.uint32(Row.OPEN | Row.ENDED) != np.uint32(Row.OPEN)
    state = columns.state[rows].astype(np.int64) << 1 | closed
    now = Marks(rows, columns.born_by[rows], columns.verdict[rows].astype(np.int64) << 8 | state)
    changed = np.flatnonzero(~before.knows(now))
    newest = changed[np.argsort(now.born[changed], kind="stable")][-limit:]
    flows = {row: view(row) for row in rows[newest].tolist()}
    reported = np.fromiter(before.reported, np.int32, len(before.reported))
    stay = before.born_at(reported) == now.born_at(reported)
    gone = tuple(before.reported[row] for row in reported[~stay].tolist())
    known = {row: before.reported[row] for row in reported[stay].tolist() if row not in flows} | flows
    marks = Marks(now.rows, now.born, now.shown, dict(list(known.items())[-KEPT:]))
    return FlowChanges(tuple(flows.values()), len(changed) - len(newest), gone, marks)
