"""Answers about the past, and what they have in common: those of this host's file and those of the fleet's store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from flowmap.attribute.jobs import placed
from flowmap.attribute.questions import NAMED, state_of_several
from flowmap.history.stored import StoredFlow
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.status import HistoryStatus
from flowmap.model.views import (
    AttributionView,
    Connection,
    FlowFilter,
    FlowPage,
    Lookup,
    PeerChanges,
    PeerWindow,
)
from flowmap.query.matching import in_namespaces


class PastQueries(Protocol):
    """Questions about the past. HistoryError if what keeps it cannot be read."""

    def status(self) -> HistoryStatus | None:
        """State of this host's history file; None without one."""

    async def attribution(self, connection: Connection, at: float) -> AttributionView:
        """The owners of a connection at a time, in seconds since the epoch."""

    async def attributions(self, lookups: Sequence[Lookup], at: float) -> tuple[AttributionView, ...]:
        """The same for many connections that may be known in part."""

    async def last(self, connection: Connection) -> AttributionView | None:
        """The final attribution of a closed connection; None if it is not kept."""

    async def flows(self, wanted: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        """Flows that were open in a window of time, the latest to end first."""

    async def peers(self, deployment: str | None, since: float, until: float) -> PeerWindow:
        """The peers of a deployment in a window of time, None: of all flows. Every flow counts once."""

    async def changes(self, deployment: str, before: tuple[float, float], now: tuple[float, float]) -> PeerChanges:
        """The peers that are new or gone between two windows."""

    def close(self) -> None:
        """Answer no more questions; running reads are aborted."""


def compared(earlier: PeerWindow, later: PeerWindow) -> PeerChanges:
    """The peers that are in only one of two windows."""
    known, current = ({(one.peer, one.protocol) for one in window.peers} for window in (earlier, later))
    new = tuple(one for one in later.peers if (one.peer, one.protocol) not in known)
    vanished = tuple(one for one in earlier.peers if (one.peer, one.protocol) not in current)
    return PeerChanges(earlier, later, new, vanished)


def final(view: AttributionView) -> AttributionView:
    """The attribution of a closed connection, which says that it is closed."""
    over = "this connection is closed; this is its final attribution"
    return replace(view, cause=f"{view.cause}; {over}" if view.cause else over)


def one_of(views: Sequence[AttributionView], owners_limit: int, when: str = " at that time") -> AttributionView:
    """One attribution for all flows that match; if they differ, the answer is that they do. ``when``: they match."""
    spaces = {view.flow.namespace if view.flow else None for view in views}
    last = max(views, key=lambda view: (view.flow.started_at or 0.0) if view.flow else 0.0)
    found = {(view.state, frozenset(info.owner for info in view.deployments)) for view in views}
    if len(found) == len(spaces) == 1:
        return last
    state, owners = state_of_several(found, owners_limit)
    infos = {info.owner: info for view in views for info in view.deployments}
    deployments = tuple(infos[owner] for owner in sorted(owners))
    how = "and differ in their owners; give both ports" if len(spaces) == 1 else in_namespaces(spaces)
    cause = f"{len(views)} connections match{when} {how}"
    return AttributionView(state, deployments, (), None, cause, matches=len(views))


def view_of(one: StoredFlow, infos: Mapping[Owner, DeploymentInfo]) -> AttributionView:
    """A stored flow as an attribution. ``infos``: the newest descriptions, of all its deployments."""
    by = one.view.started_at if one.view.started_at is not None else math.inf
    after = one.begun_after if one.view.started_at is not None else -math.inf
    deployments = tuple(placed(infos[info.owner], after, by) for info in one.view.deployments)
    named = deployments if one.view.state in NAMED else ()
    flow = replace(one.view, deployments=named)
    return AttributionView(one.view.state, named, one.evidence, flow, one.cause or None)
