"""Adds the statistics of the sources in one namespace to those of the same kinds in the daemon's own."""

from __future__ import annotations

from collections.abc import Sequence

from flowmap.model.source import SourceStats
from flowmap.sources.base import Source


class Totals:
    """The part of the statistics of some sources that is in the totals."""

    def __init__(self, sources: Sequence[Source], totals: Sequence[Source]) -> None:
        """``totals``: the sources of the daemon's namespace, one of each kind. Other kinds have no total."""
        by_name = {source.facts.name: source.stats for source in totals}
        self._flows = [
            _Flow(source.stats, by_name[source.facts.name]) for source in sources if source.facts.name in by_name
        ]

    def add(self) -> None:
        """Add what was counted since the last call."""
        for flow in self._flows:
            flow.add()


class _Flow:
    """From the statistics of one source to a total."""

    def __init__(self, stats: SourceStats, total: SourceStats) -> None:
        self._stats, self._total = stats, total
        self._records = self._overruns = 0
        self._lost: dict[str, int] = {}
        self._resyncs: dict[str, int] = {}

    def add(self) -> None:
        stats, total = self._stats, self._total
        total.records += stats.records - self._records
        total.overruns += stats.overruns - self._overruns
        self._records, self._overruns = stats.records, stats.overruns
        for reason, number in stats.lost.items():
            total.count_lost(reason, number - self._lost.get(reason, 0))
        self._lost = dict(stats.lost)
        if stats.resyncs != self._resyncs:
            for reason, number in stats.resyncs.items():
                more = number - self._resyncs.get(reason, 0)
                total.resyncs = {**total.resyncs, reason: total.resyncs.get(reason, 0) + more}
            self._resyncs = dict(stats.resyncs)
