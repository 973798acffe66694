"""Makes the accounting from a configuration and snapshots from the accounting: for the daemon and for replays."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from flowmap.attribute.attribution import Attribution
from flowmap.attribute.questions import Place
from flowmap.attribute.report import attribution_report
from flowmap.attribute.settings import AttributionSettings
from flowmap.config import Config
from flowmap.config.values import loopback_port
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Configure
from flowmap.engine.protocols import DeploymentDirectory, Journal
from flowmap.engine.unwritten import first_end
from flowmap.export.open_flows import measure
from flowmap.export.series_table import SeriesTable
from flowmap.export.snapshot import (
    CatalogReport,
    ContinuityCounts,
    FindingsReport,
    FleetReport,
    HistoryReport,
    Snapshot,
    StoreReport,
)
from flowmap.flows.table import FlowTable
from flowmap.model.source import SourceFacts, SourceReport, SourceStats
from flowmap.model.status import RecordingReport


def make_accounting(
    config: Config,
    *,
    announces_births: bool,
    counts_live: bool = False,
    directory: DeploymentDirectory | None = None,
    journal: Journal | None = None,
    loopback: bool | None = None,
    timeless: bool = False,
) -> FlowAccounting:
    """An empty accounting. Its decisions follow from ``config`` and the commands applied to it, and from nothing else.

    ``loopback``: whether loopback addresses can have owners; None: only if the control plane is on loopback.
    ``timeless``: see :class:`flowmap.attribute.settings.AttributionSettings`.
    """
    table = FlowTable(config.collect.max_flows, seed=os.urandom(48), nat=config.attribute.nat)
    series_table = SeriesTable(
        labels=config.export.labels, max_series=config.export.max_series, idle_after=config.export.idle_after
    )
    settings = AttributionSettings(
        namespaces=config.control_plane.namespaces if config.control_plane.enabled or not config.flink.enabled else (),
        elsewhere=elsewhere(config),
        flink=config.flink.enabled,
        loopback=knows_loopback(config) if loopback is None else loopback,
        timeless=timeless,
        **dict(config.attribute),
    )
    attribution = Attribution(settings, table)
    accounting = FlowAccounting(
        table,
        attribution,
        series_table,
        announces_births=announces_births,
        counts_live=counts_live,
        directory=directory,
        journal=journal,
    )
    accounting.apply(Configure(config))
    return accounting


def make_snapshot(
    accounting: FlowAccounting,
    source: SourceFacts,
    stats: SourceStats,
    *,
    beside: Sequence[tuple[SourceFacts, SourceStats]] = (),
    taken_at: float | None = None,
    catalog: CatalogReport | None = None,
    recording: RecordingReport | None = None,
    history: HistoryReport | None = None,
    store: StoreReport | None = None,
    fleet: FleetReport | None = None,
    findings: FindingsReport | None = None,
) -> Snapshot:
    """The snapshot from which the page and the status are made.

    ``taken_at``: seconds since the epoch, now if None. ``beside``: sources that measure flows counted by ``source``.
    """
    flows = measure(accounting.table, accounting.series_table.used, health=source.tells_health)
    continuity = accounting.attribution.continuity
    return Snapshot(
        taken_at=time.time() if taken_at is None else taken_at,
        source=source.name,
        observed_transmit_bytes=accounting.observed[0],
        observed_receive_bytes=accounting.observed[1],
        ignored_bytes=accounting.ignored,
        pending_transmit_bytes=accounting.pending[0],
        pending_receive_bytes=accounting.pending[1],
        open_flows=accounting.table.open_flows - flows.closing,
        pending_flows=accounting.pending_flows,
        unwritten_since=_unwritten_since(accounting) if history is not None else None,
        delays=accounting.delays.freeze(),
        counter_age=_counter_age(accounting),
        tracked_flows=len(accounting.table),
        complete_reads=accounting.complete_reads,
        flows_limit=accounting.table.max_flows,
        flows_ended_unseen=accounting.table.ended_unseen,
        shed=dict(accounting.shed),
        flows_unpaired=accounting.sightings.forgotten,
        addresses_shared=len(accounting.sightings.places.shared),
        workloads_dropped=accounting.table.workloads.dropped,
        contradictions=accounting.attribution.contradictions.count,
        continuity=ContinuityCounts(len(continuity), continuity.named, continuity.spared),
        attribution=attribution_report(accounting.attribution),
        health=source.tells_health,
        series_table=accounting.series_table.freeze(flows),
        deployments=accounting.described(),
        sources=(SourceReport(source, stats.snapshot()), *_reports(accounting, beside)),
        catalog=catalog,
        recording=recording,
        history=history,
        store=store,
        fleet=fleet,
        findings=findings,
    )


def _reports(accounting: FlowAccounting, beside: Sequence[tuple[SourceFacts, SourceStats]]) -> Iterator[SourceReport]:
    for facts, one in beside:
        yield SourceReport(facts, one.snapshot(), accounting.table.untracked.connections if one.up else None)


def _unwritten_since(accounting: FlowAccounting) -> float | None:
    """Seconds since the epoch at which the first of the ended flows in the table ended; None without one."""
    ended = first_end(accounting.table)
    return None if ended is None else ended + time.time() - time.monotonic()


def _counter_age(accounting: FlowAccounting) -> float | None:
    """Seconds since the counters of open flows were read; None before the first time."""
    read_at = accounting.counters_at
    return max(0.0, accounting.attribution.now - read_at) if math.isfinite(read_at) else None


_REACHED = ("127.0.0.1", "::1", "localhost")


def knows_loopback(config: Config) -> bool:
    """Whether deployments can have loopback addresses: the control plane is on loopback itself.

    A JobManager on 127.0.0.1 is only reached there. One on another loopback address has its TaskManagers there, too.
    """
    endpoint = config.control_plane.endpoint
    if endpoint is not None and loopback_port(endpoint) is not None:
        return True
    urls = [url for one in config.flink.clusters for url in one.urls if loopback_port(url) is not None]
    return any(urlsplit(url).hostname not in _REACHED for url in urls)


def elsewhere(config: Config) -> tuple[Place, ...]:
    """The places in other workspaces than the main one."""
    more = config.control_plane.workspaces
    return tuple(Place(one.workspace, namespace) for one in more for namespace in one.namespaces)
