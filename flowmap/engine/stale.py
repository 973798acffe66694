"""Finds stale connections: left by an earlier run, of ended jobs, idle; and peers with too many connections.

Runs on the engine's thread. Only open connections that have an owner, or a set of owners, are judged.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.attribute.decisions import CODE
from flowmap.attribute.runs import Run, run_of
from flowmap.engine.accounting import FlowAccounting
from flowmap.flows.columns import Mask, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.model.deployment import Owner, State
from flowmap.model.findings import PeerAboveLimit

Owners = tuple[Owner, ...]
Seconds = npt.NDArray[np.float64]


class StaleRows(NamedTuple):
    """Open connections of deployments, and what is stale about each. All arrays have one entry a row."""

    rows: Rows
    older: Mask
    ended: Mask
    idle: Mask
    idle_for: Seconds
    """Least time without traffic, seconds; NaN if it is not known."""
    judged: Mask
    """Whether the jobs of the owner are known well enough."""
    runs: dict[int, Run]
    """By number of the decision."""

    @property
    def stale(self) -> Mask:
        """Whether there is any reason."""
        found: Mask = self.older | self.ended | self.idle
        return found


def open_rows(accounting: FlowAccounting) -> Rows:
    """The open connections that have one owner, or a set of them."""
    columns, rows = accounting.table.columns, accounting.table.live()
    state = columns.state[rows]
    named = (state == CODE[State.ATTRIBUTED]) | (state == CODE[State.SHARED])
    is_open = columns.flags[rows] & np.uint32(Row.OPEN | Row.ENDED) == Row.OPEN
    found: Rows = rows[named & is_open & (columns.series[rows] >= 0)]
    return found


def find_stale(accounting: FlowAccounting, rows: Rows, *, epoch: float, idle: float | None) -> StaleRows:
    """Judge open connections. ``epoch`` is added to a monotonic instant for seconds since the epoch."""
    columns, decisions = accounting.table.columns, accounting.attribution.decisions
    numbers, position = np.unique(columns.verdict[rows], return_inverse=True)
    position = position.reshape(-1)
    runs = {
        number: run_of(accounting.describe(owner) for owner in decisions[number].owners) for number in numbers.tolist()
    }
    bounds = np.array([run.stale_before - epoch for run in runs.values()], np.float64)
    without_job = np.array([run.ended for run in runs.values()], np.bool_)
    # A connection that was there before flowmap began earlier than it was first seen.
    before = columns.born_by[rows] < bounds[position] if len(rows) else np.zeros(0, np.bool_)
    idle_for = accounting.counters_at - np.maximum(columns.changed_at[rows], columns.born_by[rows])
    idle_for[~np.isfinite(idle_for) | _uncounted(accounting, rows)] = np.nan
    too_long = idle_for > idle if idle is not None else np.zeros(len(rows), np.bool_)
    ended = without_job[position] if len(rows) else before
    judged = np.isfinite(bounds[position]) if len(rows) else before
    return StaleRows(rows, before & ~ended, before & ended, too_long, idle_for, judged, runs)


def _uncounted(accounting: FlowAccounting, rows: Rows) -> Mask:
    """Which connections may have had traffic that is in no counter.

    These are those without counters (``nf_conntrack_acct`` was 0 when they began) and, where packets are counted as
    they come, those that had none since packets were lost.
    """
    columns = accounting.table.columns
    flags = columns.flags[rows]
    uncounted: Mask = ((flags & np.uint32(Row.READ)) == 0) & (columns.born_by[rows] < accounting.counters_at)
    if accounting.counts_live:
        uncounted |= (flags & np.uint32(Row.END_UNANNOUNCED)) != 0
    return uncounted


def above_limit(accounting: FlowAccounting, rows: Rows, limit: int) -> list[PeerAboveLimit]:
    """Owners with more than ``limit`` of these connections to one peer, the most first."""
    columns, decisions = accounting.table.columns, accounting.attribution.decisions
    pairs = np.stack((columns.verdict[rows], columns.service[rows]), axis=1)
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    totals: Counter[tuple[Owners, str]] = Counter()
    for (number, service), count in zip(distinct.tolist(), counts.tolist(), strict=True):
        totals[tuple(sorted(decisions[number].owners)), accounting.peer(service)] += count
    return [PeerAboveLimit(*key, count) for key, count in totals.most_common() if count > limit]
