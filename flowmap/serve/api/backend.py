"""The questions of the HTTP interface to the daemon. Answers are immutable values; no call blocks the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flowmap.export.snapshot import Snapshot
from flowmap.model.findings import StaleView
from flowmap.model.lineage import LineageView
from flowmap.model.selection import Selection
from flowmap.model.status import StatusView
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


class PastBackend(Protocol):
    """What answers about traffic: the daemon, or the store of a fleet.

    Methods raise QueryError for a query that cannot be answered (400, with its ``field``), HistoryError if the history
    cannot be read (503), and ControlError if the control plane was needed and failed (502).
    """

    async def attribution(self, connection: Connection, at: float | None, *, explain: bool = False) -> AttributionView:
        """Which deployments own the connection. ``at``: seconds since the epoch, None is now; ``explain``: with the
        explanation, if the connection is in the table."""

    async def flows(self, filter: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        """At most ``limit`` flows that pass ``filter``, from ``cursor`` on."""

    async def traffic_map(
        self,
        query: MapQuery,
        window: tuple[float, float] | None = None,
        before: tuple[float, float] | None = None,
    ) -> TrafficMap:
        """The map of now, or of a window of time (seconds since the epoch), compared with an earlier one."""

    async def deployment_peers(self, deployment: str, since: float, until: float) -> PeerWindow:
        """The peers of a deployment (id or name) in a window of time; seconds since the epoch."""

    async def peer_changes(self, deployment: str, before: tuple[float, float], now: tuple[float, float]) -> PeerChanges:
        """The peers that are in only one of two windows of time."""


class Backend(PastBackend, Protocol):
    """The daemon, as the HTTP interface sees it."""

    async def attributions(self, lookups: Sequence[Lookup], at: float | None) -> tuple[AttributionView, ...]:
        """As :meth:`attribution`, for many connections that may be known in part, in their order."""

    async def flow_changes(self, filter: FlowFilter, limit: int, before: object) -> FlowChanges:
        """At most ``limit`` flows that pass and changed since ``before``: None, or the marks of an earlier answer."""

    def sample(self) -> None:
        """Note the counters of the latest snapshot, for the rates of the map. Called about once a second."""

    async def deployments(self) -> tuple[DeploymentView, ...]:
        """Every deployment seen in traffic."""

    async def deployment(self, deployment_id: str) -> DeploymentView | None:
        """One deployment with traffic; None if there is none with this id."""

    async def peers(self) -> tuple[PeerTraffic, ...]:
        """Every peer with the deployments that talk to it."""

    async def lineage(self, selection: Selection) -> LineageView:
        """Which deployments talked to which peers. Without a window: since the daemon started."""

    async def stale(
        self, selection: Selection, *, idle: float | None, connections: int | None, limit: int
    ) -> StaleView:
        """At most ``limit`` stale connections of a selection.

        ``idle``: seconds without traffic; ``connections``: of a deployment to one peer; None: as configured.
        """

    def status(self) -> StatusView:
        """The daemon's own state."""

    def ready(self) -> bool:
        """Whether the first full read is done."""

    def healthy(self) -> bool:
        """Whether the engine makes progress."""

    def snapshot(self) -> Snapshot:
        """The latest snapshot."""
