"""What HTTP asks of the daemon, answered from snapshots and by the writer."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

import flowmap
from flowmap.attribute.questions import Question
from flowmap.control.port import ControlPlane
from flowmap.engine.engine import Engine
from flowmap.errors import HistoryError, QueryError
from flowmap.export.snapshot import ByteCount, SeriesSnapshot, Snapshot
from flowmap.model.address import protocol_number
from flowmap.model.deployment import DeploymentInfo, JobSelection, Owner
from flowmap.model.source import SourceStatus
from flowmap.model.status import AttributionReport, StatusView
from flowmap.model.views import (
    AttributionView,
    DeploymentView,
    FlowFilter,
    FlowPage,
    PeerChanges,
    PeerTraffic,
    PeerWindow,
    Traffic,
)
from flowmap.query.history import HistoryQueries
from flowmap.query.live import Connection, LiveQueries, parse_address

T = TypeVar("T")

HANGS_AFTER = 30.0
"""Seconds without a turn of the writer after which the process is no longer healthy."""
NOW = 1.0
"""Seconds that a moment may lie beside now and still mean now."""
READY_WITHOUT_ANSWER_AFTER = 5.0
"""Seconds by which a control plane that does not answer may delay readiness."""


class QueryService:
    """Implements ``flowmap.serve.api.backend.QueryService``."""

    def __init__(
        self,
        engine: Engine,
        queries: LiveQueries,
        control: ControlPlane,
        *,
        timeout: float,
        stale_for: float,
        source_status: Callable[[], tuple[SourceStatus, ...]],
        catalog_status: Callable[[], Mapping[str, object]] = dict,
        history_queries: HistoryQueries | None = None,
    ) -> None:
        """``timeout``: longest wait of a query for the control plane; ``stale_for``: how old an answer may be that a
        query gets while the control plane fails. Both in seconds."""
        self._engine = engine
        self._queries = queries
        self._control = control
        self._timeout = timeout
        self._stale_for = stale_for
        self._source_status = source_status
        self._catalog_status = catalog_status
        self._history_queries = history_queries
        self.configuration_status: Callable[[], Mapping[str, object]] = dict
        """Facts about the configuration in force, for the status."""
        self._started_at = time.time()
        self._read_at: float | None = None

    def configure(self, *, timeout: float, stale_for: float) -> None:
        """Other limits for the queries that begin from now on."""
        self._timeout, self._stale_for = timeout, stale_for

    async def attribution(
        self,
        src_ip: str,
        src_port: int | None,
        dst_ip: str,
        dst_port: int | None,
        protocol: str,
        at: float | None,
        *,
        explain: bool = False,
    ) -> AttributionView:
        connection = Connection(
            parse_address(src_ip, "srcIp"),
            src_port,
            parse_address(dst_ip, "dstIp"),
            dst_port,
            protocol_number(protocol),
        )
        if at is not None and abs(at - time.time()) > NOW:
            if at > time.time():
                raise QueryError("nobody knows the future", field="at")
            return await self._history("at").attribution(connection, at)
        found = await self._call(lambda: self._queries.answer(connection, time.monotonic(), explain=explain))
        return found or await self._over(connection) or await self._ask(connection)

    async def _over(self, connection: Connection) -> AttributionView | None:
        """One connection that history knows and that is over: who has its ends now does not matter."""
        if self._history_queries is None or connection.source_port is None or connection.destination_port is None:
            return None
        try:
            return await self._history_queries.last(connection)
        except HistoryError:  # the present can be told all the same
            return None

    async def flows(self, filter: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        if filter.of_past:
            return await self._history("from").flows(filter, limit, cursor)
        return await self._call(lambda: self._queries.flows(filter, limit, cursor))

    async def deployments(self) -> tuple[DeploymentView, ...]:
        snapshot = self.snapshot()
        return await asyncio.to_thread(lambda: tuple(_deployment_views(snapshot.series_table, snapshot.deployments)))

    async def deployment(self, deployment_id: str) -> DeploymentView | None:
        for view in await self.deployments():
            if view.info.owner.deployment_id == deployment_id:
                return replace(view, info=_with_every_job(view.info))
        return None

    async def deployment_peers(self, deployment: str, since: float, until: float) -> PeerWindow:
        return await self._history(None).peers(deployment, since, until)

    async def peer_changes(self, deployment: str, before: tuple[float, float], now: tuple[float, float]) -> PeerChanges:
        return await self._history(None).changes(deployment, before, now)

    async def peers(self) -> tuple[PeerTraffic, ...]:
        return await asyncio.to_thread(_peers, self.snapshot().series_table)

    def status(self) -> StatusView:
        snapshot, engine, control = self.snapshot(), self._engine, self._control.status()
        totals = snapshot.series_table.totals()
        parts = {
            "observed": ByteCount(snapshot.observed_transmit_bytes, snapshot.observed_receive_bytes),
            "attributed": totals.deployment,
            "shared": totals.shared,
            "unattributed": totals.unattributed,
            "internal": totals.internal,
            "pending": ByteCount(snapshot.pending_transmit_bytes, snapshot.pending_receive_bytes),
            "expired": totals.expired,
        }
        return StatusView(
            version=flowmap.__version__,
            started_at=self._started_at,
            ready=self.ready(),
            sources=self._source_status(),
            control_plane={
                "endpoint": self._control.endpoint,
                "answers": engine.answers,
                "last_answer_at": engine.last_answer or None,
                "lastError": engine.last_failure or None,
                "unreadableElements": engine.unreadable,
                "breakerOpen": control.breaker_open,
                "clockSkewSeconds": control.clock_skew,
                "questionsCached": len(engine.accounting.attribution),
                "questionsWaiting": engine.questions_waiting,
                **self._catalog_status(),
            },
            flows={
                "open": snapshot.open_flows,
                "pending": snapshot.pending_flows,
                "tracked": len(engine.accounting.table),
                "limit": snapshot.flows_limit,
            },
            bytes={name: count._asdict() for name, count in parts.items()},
            conserved=snapshot.conserved(),
            configuration=self.configuration_status(),
            attribution=_with_epoch_times(snapshot.attribution, time.time() - time.monotonic()),
            recording=asdict(snapshot.recording) if snapshot.recording else None,
            history=None if self._history_queries is None else self._history_queries.status(),
        )

    def ready(self) -> bool:
        if not self._engine.accounting.complete_reads:
            return False
        now = time.monotonic()
        if self._read_at is None:
            self._read_at = now
        return bool(self._engine.answers) or self._nobody_asked() or now - self._read_at >= READY_WITHOUT_ANSWER_AFTER

    def close(self) -> None:
        """No more questions about the past."""
        if self._history_queries is not None:
            self._history_queries.close()

    def healthy(self) -> bool:
        return self._engine.is_alive() and time.monotonic() - self._engine.beat < HANGS_AFTER

    def snapshot(self) -> Snapshot:
        return self._engine.snapshot

    def _history(self, field: str | None) -> HistoryQueries:
        if self._history_queries is None:
            raise QueryError("this daemon keeps no history (history.path), so it can only tell of now", field=field)
        return self._history_queries

    def _nobody_asked(self) -> bool:
        snapshot = self.snapshot()
        return not snapshot.pending_flows and not snapshot.open_flows

    async def _ask(self, connection: Connection) -> AttributionView:
        """Nobody saw the connection: what do the control plane's answers about its ends say?"""
        fresh_for = self._engine.accounting.attribution.settings.positive_ttl
        view, missing = await self._call(lambda: self._queries.ask(connection, fresh_for, time.monotonic()))
        asked: set[Question] = set()
        while missing and asked.isdisjoint(missing):  # an answer can make another question necessary: see ``host``
            await self._ask_now(missing)
            asked.update(missing)
            view, missing = await self._call(lambda: self._queries.ask(connection, fresh_for, time.monotonic()))
        if missing:  # no answer to be had: an old one serves for a while, and its evidence says that it is stale
            old = max(fresh_for, self._stale_for)
            view, _ = await self._call(lambda: self._queries.ask(connection, old, time.monotonic()))
        return view

    async def _ask_now(self, questions: Sequence[Question]) -> None:
        """Ask, and wait until each question has its result or the time is over."""
        waits = await self._call(lambda: [self._engine.ask_now(question) for question in questions])
        await asyncio.wait([asyncio.wrap_future(wait) for wait in waits], timeout=self._timeout)

    async def _call(self, function: Callable[[], T]) -> T:
        def ask() -> T:
            self._queries.follow_clock(time.time() - time.monotonic())
            return function()

        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._engine.call(ask)), self._timeout)
        except TimeoutError as error:
            raise QueryError("the writer is busy; try again") from error


def _with_epoch_times(report: AttributionReport, epoch: float) -> AttributionReport:
    listed = tuple(
        one._replace(asked_at=one.asked_at + epoch, answered_at=one.answered_at + epoch)
        for one in report.contradictions
    )
    return report._replace(contradictions=listed)


def _with_every_job(info: DeploymentInfo) -> DeploymentInfo:
    if info.listed is None:
        return info
    return replace(
        info, jobs=info.listed.jobs, job_selection=JobSelection.ALL if info.listed.complete else JobSelection.LATEST
    )


def _sum(parts: Iterable[Traffic]) -> Traffic:
    columns = zip(
        *(
            (
                p.transmit_bytes,
                p.receive_bytes,
                p.transmit_packets,
                p.receive_packets,
                p.connections,
                p.open_connections,
            )
            for p in parts
        ),
        strict=True,
    )
    return Traffic(*(sum(column) for column in columns))


def _peers(series_table: SeriesSnapshot) -> tuple[PeerTraffic, ...]:
    traffic: defaultdict[tuple[str, str], Traffic] = defaultdict(Traffic)
    owners: defaultdict[tuple[str, str], set[Owner]] = defaultdict(set)
    for row, key in enumerate(series_table.keys):
        if key is not None and key.peer:
            place = (key.peer, key.protocol)
            traffic[place] = _sum((traffic[place], series_table.traffic(row)))
            owners[place].update(key.owners)
    return tuple(
        PeerTraffic(peer, protocol, traffic[peer, protocol], tuple(sorted(owners[peer, protocol])))
        for peer, protocol in sorted(traffic)
    )


def _deployment_views(series_table: SeriesSnapshot, infos: tuple[DeploymentInfo, ...]) -> Iterable[DeploymentView]:
    own: defaultdict[Owner, list[PeerTraffic]] = defaultdict(list)
    shared: defaultdict[Owner, list[PeerTraffic]] = defaultdict(list)
    for row, key in enumerate(series_table.keys):
        if key is not None:
            for owner in key.owners:
                peer = PeerTraffic(key.peer, key.protocol, series_table.traffic(row), key.owners)
                (own if key.kind == "deployment" else shared)[owner].append(peer)
    known: defaultdict[tuple[str, str], list[DeploymentInfo]] = defaultdict(list)
    for info in infos:
        known["id", info.owner.deployment_id].append(info)
        known["name", info.owner.name].append(info)
    for owner in sorted(own.keys() | shared.keys()):
        peers = tuple(sorted(own[owner], key=lambda peer: peer.peer))
        traffic = _sum([Traffic(), *(p.traffic for p in peers)])
        yield DeploymentView(_info_of(owner, known), traffic, peers, tuple(shared[owner]))


def _info_of(owner: Owner, known: Mapping[tuple[str, str], list[DeploymentInfo]]) -> DeploymentInfo:
    """Series carry only the labels they were told to. What is left of the owner must mean one deployment."""
    place = ("id", owner.deployment_id) if owner.deployment_id else ("name", owner.name)
    fitting = [info for info in known.get(place, ()) if owner.namespace in ("", info.owner.namespace)]
    if owner.workspace:
        fitting = [info for info in fitting if info.owner.workspace == owner.workspace]
    return fitting[0] if len(fitting) == 1 else DeploymentInfo(owner)
