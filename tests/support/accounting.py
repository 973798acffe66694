"""What must hold of the books after every step, whatever came before."""

from __future__ import annotations

from collections import Counter

import numpy as np

from flowmap.attribute.attribution import Attribution
from flowmap.attribute.settings import Settings
from flowmap.engine.accounting import Books
from flowmap.export.series_table import Ledger
from flowmap.flows.columns import IGNORED, PENDING, Row
from flowmap.flows.filter import Filter
from flowmap.flows.table import FlowTable

LABELS = ["namespace", "deployment_id", "deployment", "peer", "protocol"]


def books_for(
    settings: Settings | None = None,
    *,
    max_flows: int = 64,
    max_series: int = 100,
    idle_after: float = 600.0,
    exclude: tuple[str, ...] = (),
    announces_births: bool = True,
) -> Books:
    """Books over a fresh table."""
    table = FlowTable(max_flows, admit=Filter(exclude=exclude))
    ledger = Ledger(labels=LABELS, max_series=max_series, idle_after=idle_after)
    attribution = Attribution(settings or Settings(namespaces=("ns",)), table)
    return Books(table, attribution, ledger, announces_births=announces_births)


def sweep(books: Books) -> None:
    """Free the unused endpoints now, not only when few are left."""
    books._forget_ends(books.table.sweep_ends())


class Auditor:
    """Looks at books again and again."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._seen: dict[tuple[int, str], tuple[int, ...]] = {}
        self._generation = 0
        self._observed = [0, 0]
        self._expired = (0, 0)

    def check(self) -> None:
        """AssertionError for whatever does not hold."""
        self._conserved()
        self._rows_agree()
        self._counters_never_fall()

    def _conserved(self) -> None:
        books, totals = self._books, self._books.ledger.totals()
        for way in (0, 1):
            parts = [part[way] for part in totals]
            assert books.observed[way] == sum(parts) + books.pending[way], (books.observed, totals, books.pending)

    def _rows_agree(self) -> None:
        books, columns = self._books, self._books.table.columns
        rows = books.table.live()
        series, is_open = columns.series[rows], (columns.flags[rows] & np.uint16(Row.OPEN)) != 0
        assert books.pending_flows == int(np.count_nonzero(series == PENDING))
        assert books.table.open_flows == int(np.count_nonzero(is_open & (series != IGNORED)))
        assert (is_open | (series == PENDING)).all(), "rows that are over and credited are free"
        waiting = columns.total(rows[series == PENDING]).tolist()
        assert books.pending == [sum(total[way] for total in waiting) for way in (0, 1)]
        open_connections = Counter(series[is_open & (series >= 0)].tolist())
        ledger = books.ledger.open_connections
        assert open_connections == {n: int(count) for n, count in enumerate(ledger.tolist()) if count}

    def _counters_never_fall(self) -> None:
        snapshot, books = self._books.ledger.freeze(), self._books
        names = ("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets", "connections", "retransmits")
        now = {
            (int(kind), text): tuple(int(getattr(snapshot, name)[row]) for name in names)
            for row, (kind, text) in enumerate(zip(snapshot.kinds.tolist(), snapshot.texts, strict=True))
            if kind
        }
        expired = books.ledger.generation != self._generation
        for series, before in self._seen.items():
            assert series in now or expired, "a series leaves only by expiry"
            if series in now and not expired:
                assert all(new >= old for new, old in zip(now[series], before, strict=True))
        assert books.observed[0] >= self._observed[0] and books.observed[1] >= self._observed[1]
        assert books.ledger.expired[0] >= self._expired[0] and books.ledger.expired[1] >= self._expired[1]
        self._seen, self._generation = now, books.ledger.generation
        self._observed, self._expired = list(books.observed), (books.ledger.expired[0], books.ledger.expired[1])
