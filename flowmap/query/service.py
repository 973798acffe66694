"""Answers the questions of the HTTP interface: from snapshots, the engine, and the history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeGuard

import flowmap
from flowmap.attribute.questions import Question
from flowmap.control.port import ControlPlane
from flowmap.errors import HistoryError, QueryError
from flowmap.export.snapshot import Snapshot, by_visible_key
from flowmap.model.deployment import DeploymentInfo, JobSelection
from flowmap.model.findings import ConnectionLimits, StaleView
from flowmap.model.lineage import LineageView
from flowmap.model.selection import Selection
from flowmap.model.source import SourceStatus
from flowmap.model.status import (
    AttributionReport,
    CatalogStatus,
    ConfigurationStatus,
    ControlPlaneStatus,
    FleetStatus,
    FlowCounts,
    StatusView,
    StoreStatus,
)
from flowmap.model.traffic_map import MapQuery, TrafficMap
from flowmap.model.views import (
    AttributionView,
    Connection,
    DeploymentView,
    FlowChanges,
    FlowFilter,
    FlowPage,
    Lookup,
    PeerChanges,
    PeerTraffic,
    PeerWindow,
)
from flowmap.query.asking import EngineCalls
from flowmap.query.lineage import edges, peer_facts, talks_of_series, talks_of_window
from flowmap.query.map.building import LiveMap, past_map
from flowmap.query.past import PastQueries
from flowmap.query.problems import problems
from flowmap.query.stale import stale_view
from flowmap.query.traffic import all_peers, deployment_views

NOW = 1.0
"""Seconds by which a time may differ from the present and still mean now."""
SLICE = 250
"""Connections looked up in one turn of the engine, so that many of them do not delay its work."""
MOST_ASKED = 24
"""Questions to the control plane for one request. The engine queues few more."""
NO_LIMITS = ConnectionLimits()
READY_WITHOUT_ANSWER_AFTER = 5.0
"""Seconds by which a control plane that does not answer may delay readiness."""


_Answered = tuple[AttributionView, list[Question]]
"""An attribution by answers, and the questions without an answer."""


class QueryService:
    """Implements ``flowmap.serve.api.backend.Backend``."""

    def __init__(
        self,
        calls: EngineCalls,
        control: ControlPlane,
        *,
        stale_for: float,
        limits: ConnectionLimits = NO_LIMITS,
        source_status: Callable[[], tuple[SourceStatus, ...]],
        catalog_status: Callable[[], CatalogStatus | None] = lambda: None,
        history_queries: PastQueries | None = None,
        fleet_status: Callable[[], FleetStatus] | None = None,
        store_status: Callable[[], StoreStatus] | None = None,
    ) -> None:
        """``stale_for``: maximum age in seconds of an answer that a query gets while the control plane fails."""
        self.calls = calls
        self._control = control
        self.stale_for = stale_for
        self.limits = limits
        self._source_status = source_status
        self._catalog_status = catalog_status
        self._history_queries = history_queries
        self._fleet_status = fleet_status
        self._store_status = store_status
        self.configuration_status: Callable[[], ConfigurationStatus | None] = lambda: None
        """The running configuration, and the result of the last reload."""
        self._live_map = LiveMap()
        self._started_at = time.time()
        self._read_at: float | None = None

    def configure(self, *, timeout: float, stale_for: float, limits: ConnectionLimits = NO_LIMITS) -> None:
        """Apply other limits to the queries from now on."""
        self.calls.timeout, self.stale_for, self.limits = timeout, stale_for, limits

    async def attribution(self, connection: Connection, at: float | None, *, explain: bool = False) -> AttributionView:
        if is_past(at):
            return await self._history("at").attribution(connection, at)
        found = await self.calls.call(lambda queries: queries.answer(connection, time.monotonic(), explain=explain))
        return found or await self._closed(connection) or (await self._ask([connection.lookup]))[0]

    async def attributions(self, lookups: Sequence[Lookup], at: float | None) -> tuple[AttributionView, ...]:
        if is_past(at):
            return await self._history("at").attributions(lookups, at)
        views: list[AttributionView | None] = []
        for start in range(0, len(lookups), SLICE):
            views += await self._seen(lookups[start : start + SLICE])
        unseen = await self._ask([lookup for lookup, view in zip(lookups, views, strict=True) if view is None])
        others = iter(unseen)
        return tuple(next(others) if view is None else view for view in views)

    async def _seen(self, lookups: Sequence[Lookup]) -> list[AttributionView | None]:
        return await self.calls.call(lambda queries: queries.answers(lookups, time.monotonic()))

    async def _closed(self, connection: Connection) -> AttributionView | None:
        """A closed connection that history has; it keeps its final owners, even if its addresses were reassigned."""
        if self._history_queries is None or connection.source_port is None or connection.destination_port is None:
            return None
        try:
            return await self._history_queries.last(connection)
        except (HistoryError, QueryError):  # the present can be answered without the past
            return None

    async def flows(self, filter: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        if filter.of_past:
            return await self._history("from").flows(filter, limit, cursor)
        return await self.calls.call(lambda queries: queries.flows(filter, limit, cursor))

    async def flow_changes(self, filter: FlowFilter, limit: int, before: object) -> FlowChanges:
        return await self.calls.call(lambda queries: queries.changes(filter, limit, before))

    async def traffic_map(
        self,
        query: MapQuery,
        window: tuple[float, float] | None = None,
        before: tuple[float, float] | None = None,
    ) -> TrafficMap:
        if window is None:
            return await asyncio.to_thread(self._live_map.build, self.snapshot(), query)
        history = self._history("from")
        now = await history.peers(None, *window)
        earlier = None if before is None else await history.peers(None, *before)
        return await asyncio.to_thread(past_map, now, earlier, self.snapshot().deployments, query)

    def sample(self) -> None:
        self._live_map.sample(self.snapshot())

    async def deployments(self) -> tuple[DeploymentView, ...]:
        snapshot = self.snapshot()
        table, infos = snapshot.series_table, snapshot.deployments
        return await asyncio.to_thread(lambda: tuple(deployment_views(table, infos, health=snapshot.health)))

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
        return await asyncio.to_thread(all_peers, self.snapshot().series_table)

    async def stale(
        self, selection: Selection, *, idle: float | None, connections: int | None, limit: int
    ) -> StaleView:
        idle = self.limits.idle if idle is None else idle
        connections = self.limits.connections if connections is None else connections
        return await self.calls.call(
            lambda queries: stale_view(queries, selection, idle=idle, connections=connections, limit=limit)
        )

    async def lineage(self, selection: Selection) -> LineageView:
        now = time.time()
        facts = await self.calls.call(lambda queries: peer_facts(queries.accounting, time.monotonic()))
        since = until = None
        incomplete: tuple[str, ...] = ()
        if selection.of_past:
            since, until = selection.since or 0.0, selection.until or now
            window = await self._history("from").peers(None, since, until)
            talks, incomplete = talks_of_window(window.peers), window.incomplete
        else:
            talks = talks_of_series(self.snapshot().series_table)
        infos = by_visible_key(self.snapshot().deployments)
        named = {owner for talk in talks for owner in talk.owners if owner.key not in infos}
        others = await self.calls.call(lambda queries: {owner.key: queries.describe(owner) for owner in named})
        return LineageView(since, until or now, edges(talks, facts, selection, infos | others), incomplete)

    def status(self) -> StatusView:
        snapshot, control = self.snapshot(), self._control.status()
        view = StatusView(
            version=flowmap.__version__,
            started_at=self._started_at,
            ready=self.ready(),
            sources=self._source_status(),
            control_plane=ControlPlaneStatus(
                endpoint=self._control.endpoint,
                questions=snapshot.questions,
                breaker_open=control.breaker_open,
                clock_skew_seconds=control.clock_skew,
                catalog=self._catalog_status(),
            ),
            flows=FlowCounts(
                open=snapshot.open_flows,
                pending=snapshot.pending_flows,
                tracked=snapshot.tracked_flows,
                limit=snapshot.flows_limit,
            ),
            bytes=snapshot.byte_totals(),
            conserved=snapshot.conserved(),
            configuration=self.configuration_status(),
            attribution=_with_epoch_times(snapshot.attribution, time.time() - time.monotonic()),
            recording=snapshot.recording,
            history=None if self._history_queries is None else self._history_queries.status(),
            fleet=None if self._fleet_status is None else self._fleet_status(),
            store=None if self._store_status is None else self._store_status(),
            flink=control.clusters,
        )
        return replace(view, problems=tuple(problems(view)))

    def ready(self) -> bool:
        snapshot = self.snapshot()
        if not snapshot.complete_reads:
            return False
        now = time.monotonic()
        if self._read_at is None:
            self._read_at = now
        nothing_to_ask = not snapshot.pending_flows and not snapshot.open_flows
        return bool(snapshot.questions.answers) or nothing_to_ask or now - self._read_at >= READY_WITHOUT_ANSWER_AFTER

    def close(self) -> None:
        """Answer no more questions about the past."""
        if self._history_queries is not None:
            self._history_queries.close()

    def healthy(self) -> bool:
        return self.calls.healthy()

    def snapshot(self) -> Snapshot:
        return self.calls.snapshot

    def _history(self, field: str | None) -> PastQueries:
        if self._history_queries is None:
            raise QueryError("this daemon answers about now only: it keeps no history (history.path)", field=field)
        return self._history_queries

    async def _ask(self, lookups: Sequence[Lookup]) -> list[AttributionView]:
        """The owners of connections that were not observed, by answers about their endpoints."""
        found = await self._by_answers(lookups)
        asked: set[Question] = set()
        while missing := _missing(found):  # an answer can make another question necessary: see ``host``
            if not asked.isdisjoint(missing) or len(asked) >= MOST_ASKED:
                break
            now_asked = list(missing)[: MOST_ASKED - len(asked)]
            await self.calls.ask(now_asked)
            asked.update(now_asked)
            found = await self._by_answers(lookups)
        if missing:  # the control plane does not answer: an older answer counts, and the evidence marks it as stale
            found = await self._by_answers(lookups, stale_for=self.stale_for)
        return [view for view, _ in found]

    async def _by_answers(self, lookups: Sequence[Lookup], *, stale_for: float = 0.0) -> list[_Answered]:
        return await self.calls.call(
            lambda queries: [queries.ask(lookup, time.monotonic(), stale_for=stale_for) for lookup in lookups]
        )


def is_past(at: float | None) -> TypeGuard[float]:
    """Whether a time is in the past; QueryError if it is in the future."""
    if at is None or abs(at - time.time()) <= NOW:
        return False
    if at > time.time():
        raise QueryError("at is in the future", field="at")
    return True


def _missing(found: Sequence[_Answered]) -> dict[Question, None]:
    """Each question without an answer once, in order."""
    return {question: None for _, missing in found for question in missing}


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
