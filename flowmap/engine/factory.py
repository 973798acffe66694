"""Books as configured, and what is told of them: the same for the daemon and for whatever works on a recording."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from flowmap.attribute.attribution import Attribution
from flowmap.attribute.questions import Place
from flowmap.attribute.report import attribution_report
from flowmap.attribute.settings import Settings
from flowmap.config import Config
from flowmap.config.values import loopback_port
from flowmap.engine.accounting import Books, Directory, Journal
from flowmap.engine.commands import Configure
from flowmap.export.open_flows import measure
from flowmap.export.series_table import Ledger
from flowmap.export.snapshot import CatalogReport, HistoryReport, RecordingReport, Snapshot, SourceReport
from flowmap.flows.table import FlowTable
from flowmap.sources.base import SourceFacts, SourceStats


def make_books(
    config: Config,
    *,
    announces_births: bool,
    directory: Directory | None = None,
    journal: Journal | None = None,
    loopback: bool | None = None,
) -> Books:
    """Empty books; what they decide follows from ``config`` and from what is done to them, and from nothing else.

    ``loopback``: whether loopback addresses can have owners; None: as the configured control plane.
    """
    table = FlowTable(config.collect.max_flows, seed=os.urandom(48), nat=config.attribute.nat)
    ledger = Ledger(
        labels=config.export.labels, max_series=config.export.max_series, idle_after=config.export.idle_after
    )
    settings = Settings(
        namespaces=config.control_plane.namespaces,
        elsewhere=elsewhere(config),
        loopback=knows_loopback(config) if loopback is None else loopback,
        **dict(config.attribute),
    )
    attribution = Attribution(settings, table)
    books = Books(table, attribution, ledger, announces_births=announces_births, directory=directory, journal=journal)
    books.apply(Configure(config))
    return books


def make_snapshot(
    books: Books,
    source: SourceFacts,
    stats: SourceStats,
    *,
    beside: Sequence[tuple[SourceFacts, SourceStats]] = (),
    taken_at: float | None = None,
    catalog: CatalogReport | None = None,
    recording: RecordingReport | None = None,
    history: HistoryReport | None = None,
) -> Snapshot:
    """Everything the page and the status are made from; ``taken_at`` is in seconds since the epoch, now if None.

    ``beside``: sources that measure what ``source`` counts.
    """
    flows = measure(books.table, books.ledger.used, health=source.tells_health)
    return Snapshot(
        taken_at=time.time() if taken_at is None else taken_at,
        source=source.name,
        observed_transmit_bytes=books.observed[0],
        observed_receive_bytes=books.observed[1],
        ignored_bytes=books.ignored,
        pending_transmit_bytes=books.pending[0],
        pending_receive_bytes=books.pending[1],
        open_flows=books.table.open_flows - flows.closing,
        pending_flows=books.pending_flows,
        flows_limit=books.table.max_flows,
        flows_ended_unseen=books.table.ended_unseen,
        shed=dict(books.shed),
        contradictions=books.attribution.contradictions.count,
        attribution=attribution_report(books.attribution),
        health=source.tells_health,
        ledger=books.ledger.freeze(flows),
        deployments=books.described(),
        sources=(
            _report(source, stats),
            *(_report(*one, untracked=books.table.untracked.connections) for one in beside),
        ),
        catalog=catalog,
        recording=recording,
        history=history,
    )


def _report(source: SourceFacts, stats: SourceStats, *, untracked: int | None = None) -> SourceReport:
    return SourceReport(
        name=source.name,
        counts=source.counts,
        up=stats.up,
        records=stats.records,
        lost=dict(stats.lost),
        overruns=stats.overruns,
        resyncs=dict(stats.resyncs),
        resync_seconds=stats.resync_seconds,
        receive_buffer=stats.receive_buffer,
        special=dict(stats.special),
        interfaces=dict(stats.interfaces),
        offloaded=dict(stats.offloaded),
        accounting="accounting" not in stats.notes if source.name == "conntrack" else None,
        untracked=untracked if stats.up else None,
    )


def knows_loopback(config: Config) -> bool:
    """Whether the control plane can know loopback addresses: it is on this host itself."""
    endpoint = config.control_plane.endpoint
    return endpoint is not None and loopback_port(endpoint) is not None


def elsewhere(config: Config) -> tuple[Place, ...]:
    """Namespaces of other workspaces than the main one."""
    more = config.control_plane.workspaces
    return tuple(Place(one.workspace, namespace) for one in more for namespace in one.namespaces)
