"""The wiring: the one place that names all rooms.

source ──► engine (accounting: table, attribution, series) ──► snapshot ──► HTTP
               │  ▲
      question ▼  │ result
            resolver ──► control plane
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from flowmap import __version__, logs
from flowmap.attribute.calls.budget import CallBudget, Permits
from flowmap.config import Config, ControlPlaneConfig, read_expectations
from flowmap.control.catalog.catalog import DeploymentCatalog, Scope
from flowmap.control.catalog.refresh import SEEN_LIMIT, CatalogRefresher
from flowmap.control.http.own_calls import OWN_CALLS
from flowmap.control.port import Admit, ControlPlane
from flowmap.daemon.clients import ConfiguredControl, configured_control, query_timeout
from flowmap.daemon.peer_watch import PeerWatch
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.catalog_adapter import CatalogDirectory, Gate, deployments_seen
from flowmap.engine.engine import Engine, ReportWaiting
from flowmap.engine.factory import make_accounting, make_snapshot
from flowmap.engine.findings import Findings
from flowmap.engine.resolver import Resolver
from flowmap.engine.waiting_report import WaitingReport
from flowmap.export.exposition import Exposition
from flowmap.export.negotiation import Format
from flowmap.export.peers import Peers
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.export.snapshot import HistoryReport, Snapshot
from flowmap.model.findings import ConnectionLimits
from flowmap.model.source import SourceStatus
from flowmap.query.asking import EngineCalls
from flowmap.query.live import LiveQueries
from flowmap.query.service import QueryService
from flowmap.recording.recorder import Recorder, RecordTo, start_recording
from flowmap.serve.api.app import build_app
from flowmap.serve.api.pages import THREADS as PAGE_THREADS
from flowmap.serve.server.server import HttpServer
from flowmap.serve.server.web import Web
from flowmap.serve.stream.streams import Streams
from flowmap.sources.base import OwnCalls, Source, Step
from flowmap.sources.broadcasts import BroadcastWatch
from flowmap.sources.choice import Chosen, choose_source
from flowmap.sources.combined import parts, untracked_note
from flowmap.system.workers import Workers

if TYPE_CHECKING:
    from flowmap.daemon.clickhouse import Store
    from flowmap.daemon.fleet import Fleet
    from flowmap.history.writer import HistoryFigures, HistoryWriter
    from flowmap.query.past import PastQueries


FLEET_QUESTIONS = 2000
"""Questions of one host of a fleet that may be under way: the fleet orders them, not the local budget."""


class QuestionLimits(TypedDict):
    """The limits of :class:`CallBudget`."""

    rate: float
    burst: int
    max_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The running parts; the daemon starts and stops them."""

    source: Source
    source_reason: str
    """Why this source was chosen; empty if the configuration names it."""
    engine: Engine
    resolver: Resolver
    control: ConfiguredControl
    catalog: CatalogRefresher
    backend: QueryService
    server: HttpServer
    page_workers: Workers
    exposition: Exposition
    findings: Findings
    peer_watch: PeerWatch
    recorder: Recorder | None
    history_writer: HistoryWriter | None
    """None without ``history.path``."""
    store: Store | None
    """None without ``history.clickhouse.url``."""
    fleet: Fleet | None
    """None without ``fleet.url``."""

    def page(self) -> bytes:
        """The current metrics page in the text format."""
        return self.exposition.page(self.engine.snapshot, Format.TEXT)


def _host_watch() -> Callable[[], Iterator[Step]]:
    """What is known of the host besides its flows: its networks, and flowmap's own connections."""
    broadcasts = BroadcastWatch()

    def steps() -> Iterator[Step]:
        yield from broadcasts.steps()
        if made := tuple(OWN_CALLS.take()):
            yield OwnCalls(made)

    return steps


def build(config: Config, *, source: Source | None = None, record: RecordTo | None = None) -> Pipeline:
    """Make and connect all parts, inside the event loop that will run them. Only a recording is opened yet."""
    metrics = SelfMetrics(__version__)
    source, source_reason = (source, "") if source is not None else _chosen(config)
    fleet = _fleet(config)
    budget = CallBudget(**question_limits(config))
    permits = Permits(budget)
    admit = Gate(permits).admit if fleet is None else fleet.admission.admit
    control = _control(config, metrics, admit, fleet)
    catalog = DeploymentCatalog(_scopes(config.control_plane, control.plane.workspace))
    directory = CatalogDirectory(catalog)
    history_writer = _history_writer(config, source)
    peer_watch = PeerWatch(config)
    store = _store(config, peer_watch, source, history_writer, lambda: engine.snapshot)
    accounting = _accounting(config, source, directory, history_writer)
    recorder = None if record is None else start_recording(record, config, accounting, source)
    resolver = Resolver(control.plane)
    findings = Findings(limits_of(config), read_expectations(config.expect.file))
    engine = Engine(
        accounting,
        source,
        budget,
        ask=resolver.start,
        take_snapshot=_snapshots(
            metrics, control.plane, source, directory, recorder, history_writer, store, fleet, findings
        ),
        resting_for=lambda: control.plane.status().resting_for,
        permits=permits,
        apply=None if recorder is None else recorder.apply,
        networks=_host_watch(),
        report_waiting=_report_waiting(fleet, accounting),
    )
    refresher = _refresher(config, control, catalog, engine)
    queries = LiveQueries(accounting, source=source.facts.name, epoch=time.time() - time.monotonic())
    calls = EngineCalls(engine, queries, timeout=query_timeout(config))
    statuses = partial(_statuses, source, engine, source_reason)
    backend = _backend(config, calls, control.plane, statuses, refresher, history_writer, peer_watch, fleet, store)
    exposition = Exposition(metrics, deployment_labels=config.export.deployment_labels)
    page_workers = Workers("page", PAGE_THREADS)
    return Pipeline(
        source=source,
        source_reason=source_reason,
        engine=engine,
        resolver=resolver,
        control=control,
        catalog=refresher,
        backend=backend,
        server=_server(config, backend, exposition, page_workers),
        page_workers=page_workers,
        exposition=exposition,
        findings=findings,
        peer_watch=peer_watch,
        recorder=recorder,
        history_writer=history_writer,
        store=store,
        fleet=fleet,
    )


def _accounting(
    config: Config, source: Source, directory: CatalogDirectory, history_writer: HistoryWriter | None
) -> FlowAccounting:
    return make_accounting(
        config,
        announces_births=source.facts.announces_births,
        counts_live=source.facts.counts_live,
        directory=directory,
        journal=history_writer,
    )


def _fleet(config: Config) -> Fleet | None:
    if config.fleet.url is None:
        return None
    from flowmap.daemon.fleet import Fleet

    return Fleet(config)


def _store(
    config: Config,
    peer_watch: PeerWatch,
    source: Source,
    history_writer: HistoryWriter | None,
    snapshot: Callable[[], Snapshot],
) -> Store | None:
    if config.history.clickhouse.url is None or history_writer is None:
        return None
    from flowmap.daemon.clickhouse import make_store, unwritten_of

    return make_store(
        config,
        peer_watch.names,
        source=source.facts.name,
        unwritten=lambda: unwritten_of(snapshot(), history_writer),
    )


def question_limits(config: Config) -> QuestionLimits:
    """Limits of the questions under way. In a fleet its server limits the calls, and the questions wait there."""
    plane = config.control_plane
    if config.fleet.url is not None:
        return {"rate": FLEET_QUESTIONS, "burst": FLEET_QUESTIONS, "max_in_flight": FLEET_QUESTIONS}
    return {"rate": plane.rate, "burst": plane.burst, "max_in_flight": plane.max_in_flight}


def _control(config: Config, metrics: SelfMetrics, admit: Admit, fleet: Fleet | None) -> ConfiguredControl:
    if fleet is None:
        return configured_control(config, observe=metrics.api_attempt, admit=admit)
    return configured_control(config, observe=metrics.api_attempt, admit=admit, join=fleet.join)


def _report_waiting(fleet: Fleet | None, accounting: FlowAccounting) -> ReportWaiting:
    if fleet is None:
        return lambda now, questions, urgent, begun: 0
    deliver = fleet.set_traffic(asyncio.get_running_loop())
    return WaitingReport(accounting.attribution, deliver)


def limits_of(config: Config) -> ConnectionLimits:
    """The limits that open connections are judged by."""
    return ConnectionLimits(config.expect.connections, config.expect.idle)


def _backend(
    config: Config,
    calls: EngineCalls,
    control: ControlPlane,
    statuses: Callable[[], tuple[SourceStatus, ...]],
    refresher: CatalogRefresher,
    history_writer: HistoryWriter | None,
    peer_watch: PeerWatch,
    fleet: Fleet | None,
    store: Store | None,
) -> QueryService:
    return QueryService(
        calls,
        control,
        stale_for=config.attribute.stale_for,
        limits=limits_of(config),
        source_status=statuses,
        catalog_status=refresher.status,
        history_queries=_history_queries(config, calls, history_writer, peer_watch.names),
        fleet_status=None if fleet is None else fleet.status,
        store_status=None if store is None else store.status,
    )


def _snapshots(
    metrics: SelfMetrics,
    control: ControlPlane,
    source: Source,
    directory: CatalogDirectory,
    recorder: Recorder | None,
    history_writer: HistoryWriter | None,
    store: Store | None,
    fleet: Fleet | None,
    findings: Findings,
) -> Callable[[FlowAccounting], Snapshot]:
    def take_snapshot(accounting: FlowAccounting) -> Snapshot:
        status = control.status()
        metrics.set_breaker(status.breaker_open)
        metrics.flink(status.clusters)
        metrics.questions(accounting.attribution.lookups)
        metrics.log_lines(logs.take_counts())
        return make_snapshot(
            accounting,
            source.facts,
            source.stats,
            beside=[(part.facts, part.stats) for part in parts(source)[1:]],
            catalog=directory.report(),
            recording=None if recorder is None else recorder.report(),
            history=None if history_writer is None else _history_report(history_writer.figures),
            store=None if store is None else store.report(),
            fleet=None if fleet is None else fleet.report(),
            findings=findings.report(accounting),
        )

    return take_snapshot


def _refresher(
    config: Config, control: ConfiguredControl, catalog: DeploymentCatalog, engine: Engine
) -> CatalogRefresher:
    return CatalogRefresher(
        control.plane,
        catalog,
        every=config.control_plane.catalog.refresh,
        seen=lambda: deployments_seen(engine, catalog, SEEN_LIMIT),
        scopes=control.scopes,
    )


def _scopes(settings: ControlPlaneConfig, workspace: str) -> list[Scope]:
    """The namespaces of all workspaces, those of the main one first."""
    main = [Scope(workspace, namespace) for namespace in settings.namespaces] if settings.enabled else []
    return main + [Scope(one.workspace, namespace) for one in settings.workspaces for namespace in one.namespaces]


def _chosen(config: Config) -> Chosen:
    return choose_source(config.collect, own_port=config.http.listen.port)


def _server(config: Config, backend: QueryService, exposition: Exposition, page_workers: Workers) -> HttpServer:
    metrics = exposition.metrics
    web = Web(config.http, report=metrics.set_http_settings)
    streams = Streams(
        backend, refused=metrics.http_refused, missed=metrics.stream_missed, access_changed=lambda: web.loaded
    )
    app = build_app(backend, exposition, web, page_workers=page_workers, streams=streams)
    return HttpServer(app, *config.http.listen, web=web, refused=metrics.http_refused, beside=streams.run)


def _history_writer(config: Config, source: Source) -> HistoryWriter | None:
    history = config.history
    if history.path is None:
        return None
    from flowmap.history.file import Limits  # with SQLite, which is more than a megabyte
    from flowmap.history.writer import HistoryWriter

    return HistoryWriter(history.path, Limits(history.retain, history.max_size), source=source.facts.name)


def _history_queries(
    config: Config, calls: EngineCalls, history_writer: HistoryWriter | None, names: Peers
) -> PastQueries | None:
    if history_writer is None or config.history.path is None:
        return None
    from flowmap.history.reader import HistoryReader
    from flowmap.query.history import HistoryQueries

    translated = config.attribute.nat == "translated"
    history_reader = HistoryReader(config.history.path, peer_name=names.name, translated_ends=translated)
    local = HistoryQueries(calls, history_writer, history_reader)
    if config.history.clickhouse.url is None or not config.history.clickhouse.read:
        return local
    from flowmap.daemon.clickhouse import fleet_queries

    return fleet_queries(config, local)


def _history_report(figures: HistoryFigures) -> HistoryReport:
    return HistoryReport(
        up=figures.up,
        flows=figures.flows,
        written=figures.written,
        lost=dict(figures.lost),
        removed=dict(figures.removed),
        queued=figures.queued,
        intervals_written=figures.intervals_written,
        intervals_lost=figures.intervals_lost,
        size=figures.size,
        limit=figures.limits.max_size,
        oldest=figures.oldest,
        set_aside=figures.set_aside,
    )


def _statuses(source: Source, engine: Engine, why: str) -> tuple[SourceStatus, ...]:
    untracked = {report.facts.name: report.untracked or 0 for report in engine.snapshot.sources}
    traffic, *others = parts(source)
    statuses = [SourceStatus(traffic.facts.name, traffic.stats.snapshot(), engine.source_error, "traffic", why)]
    for part in others:
        stats = part.stats.snapshot()
        error = stats.notes.get("failed")
        stats.notes |= untracked_note(untracked.get(part.facts.name, 0))
        statuses.append(SourceStatus(part.facts.name, stats, error, "health", why))
    return tuple(statuses)
