"""What the HTTP room asks of the daemon. Every answer is an immutable value; no call blocks the event loop."""

from __future__ import annotations

from typing import Protocol

from flowmap.export.snapshot import Snapshot
from flowmap.model.status import StatusView
from flowmap.model.views import (
    AttributionView,
    Connection,
    DeploymentView,
    FlowFilter,
    FlowPage,
    PeerChanges,
    PeerTraffic,
    PeerWindow,
)


class Backend(Protocol):
    """The daemon, as HTTP sees it.

    A method may raise QueryError for a question that cannot be answered as asked (answered with 400, its ``field``
    named) and ControlError where the control plane had to be asked and failed (answered with 502).
    """

    async def attribution(self, connection: Connection, at: float | None, *, explain: bool = False) -> AttributionView:
        """Which deployments own the connection. ``at``: seconds since the epoch, None is now; ``explain``: with the
        explanation, if the connection is in the table."""

    async def flows(self, filter: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        """Up to ``limit`` flows that pass ``filter``, from ``cursor`` on."""

    async def deployments(self) -> tuple[DeploymentView, ...]:
        """Every deployment seen in traffic."""

    async def deployment(self, deployment_id: str) -> DeploymentView | None:
        """One of them, or None."""

    async def deployment_peers(self, deployment: str, since: float, until: float) -> PeerWindow:
        """Whom a deployment, by id or name, talked to in a window; seconds since the epoch."""

    async def peer_changes(self, deployment: str, before: tuple[float, float], now: tuple[float, float]) -> PeerChanges:
        """Which peers it has in the window ``now`` and not in ``before``, and the other way round."""

    async def peers(self) -> tuple[PeerTraffic, ...]:
        """Every peer with the deployments that talk to it."""

    def status(self) -> StatusView:
        """The daemon's own state."""

    def ready(self) -> bool:
        """Whether the first full read is done."""

    def healthy(self) -> bool:
        """Whether the process still works: its writer makes progress."""

    def snapshot(self) -> Snapshot:
        """The latest snapshot: a reference, taken without any lock."""
