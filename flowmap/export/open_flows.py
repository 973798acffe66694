"""Figures of the open flows, measured when a snapshot is taken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import IGNORED, Row
from flowmap.flows.table import FlowTable

_OPEN = np.uint32(Row.OPEN)
_CLOSING = np.uint32(Row.OPEN | Row.ENDED)


class OpenFlows(NamedTuple):
    """Figures of all flows and by series id."""

    closing: int
    """Closed connections whose entries the kernel still keeps (such as TIME_WAIT)."""
    closing_by_series: npt.NDArray[np.int64]
    round_trip: npt.NDArray[np.float64]
    """Mean round-trip time in seconds of the open flows of each series; NaN if no flow has one."""


def measure(table: FlowTable, series_limit: int, *, health: bool) -> OpenFlows:
    """Measure every flow. ``series_limit`` is greater than every series id; ``health``: flows have round trips."""
    columns, rows = table.columns, table.live()
    flags, series = columns.flags[rows], columns.series[rows]
    closing = series[flags & _CLOSING == _CLOSING]
    by_series = np.bincount(closing[closing >= 0], minlength=series_limit)
    round_trip = np.full(series_limit, np.nan)
    if health:
        measured = (series >= 0) & (flags & _OPEN != 0) & (columns.round_trip[rows] > 0)
        ids = series[measured]
        flows = np.bincount(ids, minlength=series_limit)
        sums = np.bincount(ids, weights=columns.round_trip[rows[measured]], minlength=series_limit)
        np.divide(sums, flows * 1e6, out=round_trip, where=flows > 0)
    return OpenFlows(int(np.count_nonzero(closing != IGNORED)), by_series, round_trip)
