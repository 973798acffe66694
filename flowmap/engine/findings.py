"""Counts what is wrong with connections for the metrics: at most every few seconds, since each count reads every flow.

Runs on the engine's thread. Replays do not use it.
"""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.stale import Owners, above_limit, find_stale, open_rows
from flowmap.export.snapshot import FindingsReport
from flowmap.model.findings import ConnectionLimits, StaleReason

EVERY = 5.0
"""Seconds between two counts, if a count is quick."""
SHARE = 50
"""A count must not take more than one part in this many of the time."""


class Findings:
    """The counts of one daemon. :meth:`configure` may be called from another thread."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._report = FindingsReport()
        self._next = float("-inf")

    def configure(self, limits: ConnectionLimits) -> None:
        """Apply other limits from the next count on."""
        self._limits, self._next = limits, float("-inf")

    def report(self, accounting: FlowAccounting) -> FindingsReport:
        """The counts, not older than a few seconds."""
        began = time.monotonic()
        if began >= self._next:
            self._report = count(accounting, self._limits, epoch=time.time() - began)
            ended = time.monotonic()
            self._next = ended + max(EVERY, SHARE * (ended - began))
        return self._report


def count(accounting: FlowAccounting, limits: ConnectionLimits, *, epoch: float) -> FindingsReport:
    """Count now."""
    rows = open_rows(accounting)
    found = find_stale(accounting, rows, epoch=epoch, idle=limits.idle)
    decisions, verdicts = accounting.attribution.decisions, accounting.table.columns.verdict[rows]
    stale: Counter[tuple[Owners, StaleReason]] = Counter()
    reasons = {
        StaleReason.OLDER_THAN_RUN: found.older,
        StaleReason.JOB_ENDED: found.ended,
        StaleReason.IDLE: found.idle,
    }
    for reason, holds in reasons.items():
        for number, times in zip(
            *(part.tolist() for part in np.unique(verdicts[holds], return_counts=True)), strict=True
        ):
            stale[tuple(sorted(decisions[number].owners)), reason] += times
    for one in above_limit(accounting, rows, limits.connections) if limits.connections is not None else ():
        stale[one.owners, StaleReason.ABOVE_LIMIT] += one.connections - (limits.connections or 0)
    return FindingsReport(stale=dict(stale))
