"""The wiring: the one place that names all rooms.

source ──► engine (books: table, attribution, ledger) ──► snapshot ──► HTTP
               │  ▲
      question ▼  │ answer
              asker ──► control plane
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flowmap import __version__, logs
from flowmap.asker import Asker
from flowmap.assembly import make_books, make_snapshot
from flowmap.attribute.budget import CallBudget, Permits
from flowmap.attribute.view import SourceStatus
from flowmap.backend import Backend
from flowmap.books import Books
from flowmap.catalog import Directories, Directory, Gate, Refreshers, owners_seen
from flowmap.collect.base import Source, SourceFacts
from flowmap.collect.broadcasts import BroadcastWatch
from flowmap.collect.choice import Chosen, choose_source
from flowmap.collect.paired import parts, untracked_note
from flowmap.config import Config, ControlPlane
from flowmap.control.caller import Admit, Transport, default_transport, no_limit
from flowmap.control.catalog import Catalog
from flowmap.control.catalog_refresh import SEEN, CatalogRefresher, Label
from flowmap.control.client import ControlClient
from flowmap.control.credential_chain import process_credentials
from flowmap.control.credentials import CredentialsProvider, StaticCredentials
from flowmap.control.endpoint import endpoint_of_region
from flowmap.control.route import Route, environment_proxy, trusting
from flowmap.engine import Engine
from flowmap.errors import ConfigError
from flowmap.export.exposition import Exposition
from flowmap.export.negotiation import Format
from flowmap.export.peers import Peers
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.export.snapshot import HistoryReport, Snapshot
from flowmap.history.archive import Archive
from flowmap.history.file import Limits
from flowmap.history.historian import Figures as HistoryFigures
from flowmap.history.historian import Historian
from flowmap.past import Past
from flowmap.query import Queries
from flowmap.record.recorder import Recorder, RecordTo, start_recording
from flowmap.serve.app import build_app
from flowmap.serve.pages import THREADS as PAGE_THREADS
from flowmap.serve.server import HttpServer
from flowmap.serve.web import Web
from flowmap.workers import Workers


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The running parts; the daemon starts and stops them."""

    source: Source
    why: str
    """Why this source, where it was not named in the configuration; else empty."""
    engine: Engine
    asker: Asker
    client: ControlClient
    catalog: Refreshers
    backend: Backend
    server: HttpServer
    page_workers: Workers
    exposition: Exposition
    recorder: Recorder | None
    historian: Historian | None
    """None where ``history.path`` is not set."""

    def page(self) -> bytes:
        """The page of now, in the text format."""
        return self.exposition.page(self.engine.snapshot, Format.TEXT)


def build(config: Config, *, source: Source | None = None, record: RecordTo | None = None) -> Pipeline:
    """Make and connect all parts, inside the event loop that will run them. Nothing is opened yet but a recording."""
    metrics = SelfMetrics(__version__)
    source, why = (source, "") if source is not None else _chosen(config)
    plane = config.control_plane
    budget = CallBudget(rate=plane.rate, burst=plane.burst, max_in_flight=plane.max_in_flight)
    permits = Permits(budget)
    client = control_client(config.control_plane, observe=metrics.api_attempt, admit=Gate(permits).admit)
    catalogs = _catalogs(config.control_plane, client)
    directory = Directories([Directory(catalog, of.workspace) for of, catalog in catalogs])
    historian = _historian(config, source)
    books = make_books(config, announces_births=source.announces_births, directory=directory, journal=historian)
    recorder = None if record is None else start_recording(record, config, books, source)

    def take_snapshot(books: Books) -> Snapshot:
        metrics.set_breaker(client.breaker_open)
        metrics.questions(books.attribution.lookups)
        metrics.log_lines(logs.take_counts())
        return make_snapshot(
            *(books, SourceFacts.of(source), source.stats),
            beside=[(SourceFacts.of(part), part.stats) for part in parts(source)[1:]],
            catalog=directory.report(),
            recording=None if recorder is None else recorder.report(),
            history=None if historian is None else _history_report(historian.figures),
        )

    deliver: list[Callable[..., None]] = []
    asker = Asker(client, lambda delivery: deliver[0](delivery))
    engine = Engine(
        books,
        source,
        budget,
        ask=asker.start,
        take_snapshot=take_snapshot,
        resting_for=lambda: client.resting_for,
        permits=permits,
        apply=None if recorder is None else recorder.apply,
        networks=BroadcastWatch().steps,
    )
    deliver.append(engine.deliver)
    refresher = Refreshers([_refresher(config.control_plane, *one, engine, only=len(catalogs) > 1) for one in catalogs])
    queries = Queries(books, source=source.name, epoch=time.time() - time.monotonic())
    backend = Backend(
        engine,
        queries,
        client,
        endpoint=endpoint_url(config.control_plane),
        timeout=query_timeout(config),
        stale_for=config.attribute.stale_for,
        source_status=lambda: _statuses(source, engine, why),
        catalog_status=refresher.status,
        past=_past(config, engine, queries, historian),
    )
    exposition = Exposition(metrics, deployment_labels=config.export.deployment_labels)
    pages = Workers("page", PAGE_THREADS)
    server = _server(config, backend, exposition, pages)
    return Pipeline(
        *(source, why, engine, asker, client, refresher, backend, server, pages, exposition, recorder, historian)
    )


def _chosen(config: Config) -> Chosen:
    return choose_source(config.collect, own_port=config.http.listen.port)


def endpoint_url(settings: ControlPlane) -> str:
    """Where the control plane is; ConfigError if the configuration does not say."""
    if settings.endpoint is not None:
        return settings.endpoint
    if settings.region is not None:
        return endpoint_of_region(settings.region).url
    raise ConfigError("control_plane.region (or endpoint) is missing: say which control plane to ask")


def control_client(
    settings: ControlPlane,
    *,
    observe: Callable[[str, float, str | None], None] = lambda *_: None,
    admit: Admit = no_limit,
    credentials: CredentialsProvider | None = None,
) -> ControlClient:
    """A client as configured, with ``credentials`` if given; ConfigError for what is missing."""
    if settings.workspace is None:
        raise ConfigError("control_plane.workspace is missing: the id of the Flink workspace to ask about")
    transport = control_transport(settings)
    return ControlClient(
        endpoint=endpoint_url(settings),
        workspace=settings.workspace,
        credentials=credentials or credentials_provider(settings, transport),
        timeout=settings.timeout,
        observe=observe,
        admit=admit,
        transport=transport,
    )


def control_route(settings: ControlPlane, environ: Mapping[str, str] = os.environ) -> Route:
    """The proxy and the authorities as configured, with the file of the latter as it is now; ConfigError."""
    ca_file = settings.tls.ca_file
    proxy = environment_proxy(environ) if settings.proxy_from_environment else settings.proxy_url
    return Route(proxy, None if ca_file is None else trusting(ca_file))


def control_transport(settings: ControlPlane) -> Transport:
    """What carries all calls to the control plane and for its keys; ConfigError."""
    return default_transport(control_route(settings))


def _catalogs(settings: ControlPlane, client: ControlClient) -> list[tuple[ControlClient, Catalog]]:
    """An empty catalog for each workspace, the main one first, and who asks for it."""
    more = [(client.of_workspace(one.workspace), Catalog(one.namespaces)) for one in settings.workspaces]
    return [(client, Catalog(settings.namespaces)), *more]


def _refresher(
    settings: ControlPlane, client: ControlClient, catalog: Catalog, engine: Engine, *, only: bool
) -> CatalogRefresher:
    """``only``: whether deployments of other workspaces are not its."""
    workspace = client.workspace if only else None
    return CatalogRefresher(
        client,
        catalog,
        namespaces=catalog.namespaces,
        every=settings.catalog.refresh,
        label=catalog_label(settings),
        seen=lambda: owners_seen(engine, SEEN, workspace),
    )


def catalog_label(settings: ControlPlane) -> Label | None:
    """The label that narrows the catalog; ConfigError for one the API cannot be asked about."""
    return Label.parse(settings.catalog.label) if settings.catalog.label is not None else None


def query_timeout(config: Config) -> float:
    """Seconds a query may wait for the control plane."""
    return config.control_plane.timeout + 1


def credentials_provider(settings: ControlPlane, transport: Transport) -> CredentialsProvider:
    """The configured key, or else the chain, which asks over ``transport`` where it has to."""
    given = settings.credentials
    if given.access_key_id is None:
        return process_credentials(transport, ecs_role=given.ecs_ram_role)
    secret, token = given.access_key_secret, given.security_token
    return StaticCredentials(
        given.access_key_id,
        secret.get_secret_value() if secret else None,
        token.get_secret_value() if token else None,
        access_key_secret_file=given.access_key_secret_file,
        security_token_file=given.security_token_file,
    )


def _server(config: Config, backend: Backend, exposition: Exposition, page_workers: Workers) -> HttpServer:
    metrics = exposition.metrics
    web = Web(config.http, report=metrics.set_http_settings)
    app = build_app(backend, exposition, web, page_workers=page_workers)
    return HttpServer(app, *config.http.listen, web=web, refused=metrics.http_refused)


def _historian(config: Config, source: Source) -> Historian | None:
    history = config.history
    if history.path is None:
        return None
    return Historian(history.path, Limits(history.retain, history.max_size), source=source.name)


def _past(config: Config, engine: Engine, queries: Queries, historian: Historian | None) -> Past | None:
    if historian is None or config.history.path is None:
        return None
    translated = config.attribute.nat == "translated"
    names = Peers(config.export.peers).name
    archive = Archive(config.history.path, peer_name=names, translated_ends=translated)
    return Past(engine, queries, historian, archive)


def _history_report(figures: HistoryFigures) -> HistoryReport:
    return HistoryReport(
        up=figures.up,
        flows=figures.flows,
        written=figures.written,
        lost=dict(figures.lost),
        removed=dict(figures.removed),
        queued=figures.queued,
        ranges_written=figures.ranges_written,
        ranges_lost=figures.ranges_lost,
        size=figures.size,
        limit=figures.limits.max_size,
        oldest=figures.oldest,
        set_aside=figures.set_aside,
    )


def _statuses(source: Source, engine: Engine, why: str) -> tuple[SourceStatus, ...]:
    untracked = {report.name: report.untracked or 0 for report in engine.snapshot.sources}
    return tuple(
        SourceStatus(
            name=part.name,
            up=part.stats.up,
            records=part.stats.records,
            overruns=part.stats.overruns,
            lost=dict(part.stats.lost),
            resyncs=dict(part.stats.resyncs),
            notes=dict(part.stats.notes) | untracked_note(untracked.get(part.name, 0)),
            error=engine.source_error if place == 0 else part.stats.notes.get("failed"),
            role="traffic" if place == 0 else "health",
            why=why,
            special=dict(part.stats.special),
        )
        for place, part in enumerate(parts(source))
    )
