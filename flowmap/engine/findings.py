"""Counts what is wrong with connections for the metrics: at most every few seconds, since each count reads every flow.

Runs on the engine's thread. Replays do not use it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.stale import Owners, above_limit, find_stale, open_rows
from flowmap.export.snapshot import FindingsReport, by_visible_key
from flowmap.model.deployment import DeploymentInfo
from flowmap.model.expectation import Expectation, FindingKind, SeenPeer, judge
from flowmap.model.findings import ConnectionLimits, StaleReason

EVERY = 5.0
"""Seconds between two counts, if a count is quick."""
SHARE = 50
"""A count must not take more than one part in this many of the time."""


class Findings:
    """The counts of one daemon. :meth:`configure` may be called from another thread."""

    def __init__(self, limits: ConnectionLimits, expectations: Sequence[Expectation] | None) -> None:
        """``expectations``: None without a file of them."""
        self._limits, self.expectations = limits, expectations
        self._report = FindingsReport()
        self._next = float("-inf")

    def configure(self, limits: ConnectionLimits, expectations: Sequence[Expectation] | None) -> None:
        """Apply others from the next count on."""
        self._limits, self.expectations, self._next = limits, expectations, float("-inf")

    def report(self, accounting: FlowAccounting) -> FindingsReport:
        """The counts, not older than a few seconds."""
        began = time.monotonic()
        if began >= self._next:
            used = time.thread_time()
            stale = count_stale(accounting, self._limits, epoch=time.time() - began)
            self._report = FindingsReport(stale, count_unexpected(accounting, self.expectations))
            self._next = time.monotonic() + max(EVERY, SHARE * (time.thread_time() - used))
        return self._report


def count_unexpected(
    accounting: FlowAccounting, expectations: Sequence[Expectation] | None
) -> Mapping[tuple[Owners, FindingKind], int]:
    """Unexpected peers with a series, by deployment and kind. Missing peers do not count: a series can have expired."""
    if expectations is None:
        return {}
    infos = by_visible_key(accounting.described())
    seen = []
    for key in accounting.series_table.freeze().keys:
        if key is not None and key.kind in ("deployment", "shared"):
            owners = tuple(infos.get(owner.key) or DeploymentInfo(owner) for owner in key.owners)
            seen.append(SeenPeer(owners, key.peer))
    found = judge(expectations, seen)
    return Counter((one.owners, one.kind) for one in found if one.kind is not FindingKind.MISSING)


def count_stale(
    accounting: FlowAccounting, limits: ConnectionLimits, *, epoch: float
) -> Mapping[tuple[Owners, StaleReason], int]:
    """Stale connections by deployment and reason."""
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
    return stale
