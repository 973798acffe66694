"""Books as configured, and what is told of them: the same for the daemon and for whatever works on a recording."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from flowmap.attribute.attribution import Attribution
from flowmap.attribute.attribution import Settings as AttributionSettings
from flowmap.attribute.questions import Place
from flowmap.attribute.report import attribution_report
from flowmap.books import Books, Directory, Journal
from flowmap.collect.base import SourceFacts, SourceStats
from flowmap.config import Config
from flowmap.config.values import loopback_port
from flowmap.export.ledger import Ledger
from flowmap.export.peers import Peers
from flowmap.export.snapshot import CatalogReport, HistoryReport, RecordingReport, Snapshot, SourceReport
from flowmap.flows.filter import Filter
from flowmap.flows.table import FlowTable
from flowmap.operations import Tuning


def make_books(
    config: Config,
    *,
    announces_births: bool,
    directory: Directory | None = None,
    journal: Journal | None = None,
    loopback: bool | None = None,
) -> Books:
    """Empty books; what they decide follows from the settings and from what is done to them, and from nothing else.

    ``loopback``: whether loopback addresses can have owners; None: as the configured control plane.
    """
    table = FlowTable(
        config.collect.max_flows,
        seed=os.urandom(48),
        nat=config.attribute.nat,
        admit=Filter(config.collect.include, _excluded(config)),
    )
    ledger = Ledger(
        labels=config.export.labels, max_series=config.export.max_series, idle_after=config.export.idle_after
    )
    return Books(
        table,
        Attribution(_attribution_settings(config, knows_loopback(config) if loopback is None else loopback), table),
        ledger,
        peers=Peers(config.export.peers),
        announces_births=announces_births,
        directory=directory,
        journal=journal,
    )


def tuning(config: Config) -> Tuning:
    """The settings of the books that may change."""
    attribute = config.attribute
    return Tuning(
        confirm=attribute.confirm,
        grace=attribute.grace,
        owners_limit=attribute.owners_limit,
        positive_ttl=attribute.positive_ttl,
        negative_ttl=attribute.negative_ttl,
        include=config.collect.include,
        exclude=_excluded(config),
        peers=config.export.peers,
        idle_after=config.export.idle_after,
    )


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
    return Snapshot(
        taken_at=time.time() if taken_at is None else taken_at,
        source=source.name,
        observed_transmit_bytes=books.observed[0],
        observed_receive_bytes=books.observed[1],
        ignored_bytes=books.ignored,
        pending_transmit_bytes=books.pending[0],
        pending_receive_bytes=books.pending[1],
        open_flows=books.table.open_flows - books.closing_flows,
        pending_flows=books.pending_flows,
        flows_limit=books.table.max_flows,
        flows_ended_unseen=books.table.ended_unseen,
        shed=dict(books.shed),
        contradictions=books.attribution.contradictions.count,
        attribution=attribution_report(books.attribution),
        health=source.tells_health,
        ledger=books.ledger.freeze(),
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


def _attribution_settings(config: Config, loopback: bool) -> AttributionSettings:
    attribute = config.attribute
    return AttributionSettings(
        namespaces=tuple(config.control_plane.namespaces),
        semantics=attribute.semantics,
        confirm=attribute.confirm,
        grace=attribute.grace,
        owners_limit=attribute.owners_limit,
        cache_size=attribute.cache_size,
        positive_ttl=attribute.positive_ttl,
        negative_ttl=attribute.negative_ttl,
        tie_wait=attribute.tie_wait,
        loopback=loopback,
        elsewhere=elsewhere(config),
    )


def knows_loopback(config: Config) -> bool:
    """Whether the control plane can know loopback addresses: it is on this host itself."""
    endpoint = config.control_plane.endpoint
    return endpoint is not None and loopback_port(endpoint) is not None


def elsewhere(config: Config) -> tuple[Place, ...]:
    """Namespaces of other workspaces than the main one."""
    more = config.control_plane.workspaces
    return tuple(Place(one.workspace, namespace) for one in more for namespace in one.namespaces)


def _excluded(config: Config) -> tuple[str, ...]:
    return (*config.collect.exclude, *_own_traffic(config))


def _own_traffic(config: Config) -> list[str]:
    """Patterns for flowmap's own connections over loopback: scrapes, queries, and calls of a control plane there."""
    endpoint = config.control_plane.endpoint
    ports = (config.http.listen.port, loopback_port(endpoint) if endpoint else None)
    return [pattern for port in ports if port for pattern in (f"127.0.0.0/8:{port}", f"[::1]:{port}")]
