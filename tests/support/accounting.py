"""What must hold of an accounting after every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from flowmap.attribute.attribution import Attribution
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.protocols import Journal
from flowmap.export.series_table import SeriesTable
from flowmap.flows.bursts import is_unconfirmed
from flowmap.flows.columns import IGNORED, PENDING, Row
from flowmap.flows.filter import Filter
from flowmap.flows.table import FlowTable

LABELS = ["namespace", "deployment_id", "deployment", "peer", "protocol"]


def accounting_for(
    settings: AttributionSettings | None = None,
    *,
    max_flows: int = 64,
    max_series: int = 100,
    idle_after: float = 600.0,
    exclude: tuple[str, ...] = (),
    announces_births: bool = True,
    counts_live: bool = False,
    journal: Journal | None = None,
    labels: Sequence[str] = LABELS,
) -> FlowAccounting:
    """An accounting with an empty flow table."""
    table = FlowTable(max_flows, admit=Filter(exclude=exclude))
    series_table = SeriesTable(labels=labels, max_series=max_series, idle_after=idle_after)
    attribution = Attribution(settings or AttributionSettings(namespaces=("ns",)), table)
    return FlowAccounting(
        table,
        attribution,
        series_table,
        announces_births=announces_births,
        counts_live=counts_live,
        journal=journal,
    )


def sweep(accounting: FlowAccounting) -> None:
    """Free the unused endpoints now, not only when few are left."""
    accounting.forget_endpoints(accounting.table.sweep_endpoints())


class Auditor:
    """Checks the invariants of an accounting, and that its counters never fall."""

    def __init__(self, accounting: FlowAccounting) -> None:
        self._accounting = accounting
        self._seen: dict[tuple[int, str], tuple[int, ...]] = {}
        self._generation = 0
        self._observed = [0, 0]
        self._expired = (0, 0)

    def check(self) -> None:
        """AssertionError for every invariant that does not hold."""
        self._conserved()
        self._rows_agree()
        self._counters_never_fall()

    def _conserved(self) -> None:
        accounting, totals = self._accounting, self._accounting.series_table.totals()
        for way in (0, 1):
            parts = [part[way] for part in totals]
            assert accounting.observed[way] == sum(parts) + accounting.pending[way], (
                accounting.observed,
                totals,
                accounting.pending,
            )

    def _rows_agree(self) -> None:
        accounting, columns = self._accounting, self._accounting.table.columns
        rows = accounting.table.live()
        series, is_open = columns.series[rows], (columns.flags[rows] & np.uint32(Row.OPEN)) != 0
        resumed = is_unconfirmed(columns, rows)
        assert accounting.pending_flows == int(np.count_nonzero((series == PENDING) | resumed))
        assert sum(accounting.attribution.pending_for()) == accounting.pending_flows
        assert accounting.table.open_flows == int(np.count_nonzero(is_open & (series != IGNORED)))
        assert (is_open | (series == PENDING) | resumed).all(), "rows that are over and credited are free"
        waiting = columns.total(rows[series == PENDING]).tolist() + columns.unsettled[rows[resumed]].tolist()
        assert accounting.pending == [sum(total[way] for total in waiting) for way in (0, 1)]
        open_connections = Counter(series[is_open & (series >= 0)].tolist())
        series_table = accounting.series_table.open_connections
        assert open_connections == {n: int(count) for n, count in enumerate(series_table.tolist()) if count}

    def _counters_never_fall(self) -> None:
        snapshot, accounting = self._accounting.series_table.freeze(), self._accounting
        names = ("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets", "connections", "retransmits")
        now = {
            (int(kind), text): tuple(int(getattr(snapshot, name)[row]) for name in names)
            for row, (kind, text) in enumerate(zip(snapshot.kinds.tolist(), snapshot.texts, strict=True))
            if kind
        }
        expired = accounting.series_table.generation != self._generation
        for series, before in self._seen.items():
            assert series in now or expired, "a series leaves only by expiry"
            if series in now and not expired:
                assert all(new >= old for new, old in zip(now[series], before, strict=True))
        assert accounting.observed[0] >= self._observed[0] and accounting.observed[1] >= self._observed[1]
        assert (
            accounting.series_table.expired[0] >= self._expired[0]
            and accounting.series_table.expired[1] >= self._expired[1]
        )
        self._seen, self._generation = now, accounting.series_table.generation
        self._observed, self._expired = (
            list(accounting.observed),
            (accounting.series_table.expired[0], accounting.series_table.expired[1]),
        )
