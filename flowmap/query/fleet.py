"""Questions about the past of all hosts, from the store of the fleet.

The store has connections that ended, each once, whichever hosts saw it. Connections that are still open are not in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from flowmap.attribute.questions import NAMED
from flowmap.errors import HistoryError, QueryError, StoreError
from flowmap.history.stored import StoredFlow
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.model.status import HistoryStatus
from flowmap.model.traffic_map import MapQuery, TrafficMap
from flowmap.model.views import (
    AttributionView,
    Connection,
    FlowFilter,
    FlowPage,
    Lookup,
    PeerChanges,
    PeerWindow,
)
from flowmap.query.map.building import past_map
from flowmap.query.past import PastQueries, compared, final, one_of, view_of
from flowmap.query.windows import joined

T = TypeVar("T")

Describe = Callable[[Iterable[Owner]], Awaitable[Mapping[Owner, DeploymentInfo]]]

READERS = 2
"""Questions to the store at one time."""
NOT_STORED = "the fleet's store has no such connection{}; connections that are still open are not in it"


class FleetReader(Protocol):
    """What reads the store. The methods block. HistoryError if the store cannot be read, QueryError for a question that
    takes too long."""

    def flows(self, wanted: FlowFilter, limit: int, cursor: str | None) -> tuple[Sequence[StoredFlow], str | None]:
        """Connections that match, the latest to end first, and the cursor of the next page."""

    def at(self, wanted: Connection, moment: float) -> list[StoredFlow]:
        """Connections between these endpoints that were, or may have been, open at the moment."""

    def at_several(self, lookups: Sequence[Lookup], moment: float) -> list[list[StoredFlow]]:
        """The same for many connections that may be known in part."""

    def last(self, wanted: Connection) -> StoredFlow | None:
        """The connection between these endpoints with the latest end, or None."""

    def peers(self, deployment: str | None, since: float, until: float) -> PeerWindow:
        """Peers in connections open between the two times, of a deployment (id or name) or of all; not ordered."""

    def missing(self, since: float, until: float, *, rows: bool) -> tuple[str, ...]:
        """What the store lacks of this window, a line each. ``rows``: also connections that it has as sums only."""

    def close(self) -> None:
        """Cancel the current questions."""


async def undescribed(owners: Iterable[Owner]) -> Mapping[Owner, DeploymentInfo]:
    """Deployments of which only their names are known."""
    return {owner: DeploymentInfo(owner) for owner in owners}


class FleetQueries:
    """Implements :class:`PastQueries` from the store of the fleet. Used in an event loop."""

    def __init__(
        self,
        reader: FleetReader,
        *,
        owners_limit: int,
        describe: Describe = undescribed,
        local: PastQueries | None = None,
    ) -> None:
        """``local``: answers about connections that the store does not have: those that are open on this host, and
        the owners of endpoints."""
        self._reader = reader
        self._owners_limit = owners_limit
        self._describe = describe
        self._local = local
        self._reading = asyncio.Semaphore(READERS)

    def close(self) -> None:
        """Answer no more questions; running ones are aborted."""
        self._reader.close()
        if self._local is not None:
            self._local.close()

    def status(self) -> HistoryStatus | None:
        """State of this host's history file; None without one."""
        return None if self._local is None else self._local.status()

    async def attribution(self, connection: Connection, at: float) -> AttributionView:
        """The owners of a connection at a time."""
        kept = await self._read(lambda: self._reader.at(connection, at))
        views = await self._views([one for one in kept if one.sure] or kept)
        if views:
            return one_of(views, self._owners_limit)
        if self._local is not None:
            return await self._local.attribution(connection, at)
        return await self.not_stored(at)

    async def attributions(self, lookups: Sequence[Lookup], at: float) -> tuple[AttributionView, ...]:
        """As :meth:`attribution`, for many connections that may be known in part."""
        kept = await self._read(lambda: self._reader.at_several(lookups, at))
        views = iter(await self._views([one for some in kept for one in some]))
        found: list[AttributionView | None] = []
        for some in kept:
            stored = [(one.sure, next(views)) for one in some]
            counted = [view for sure, view in stored if sure] or [view for _, view in stored]
            found.append(one_of(counted, self._owners_limit) if counted else None)
        unseen = [lookup for lookup, view in zip(lookups, found, strict=True) if view is None]
        if not unseen:
            others: Sequence[AttributionView] = ()
        elif self._local is not None:
            others = await self._local.attributions(unseen, at)
        else:
            others = [await self.not_stored(at)] * len(unseen)
        rest = iter(others)
        return tuple(next(rest) if view is None else view for view in found)

    async def last(self, connection: Connection) -> AttributionView | None:
        """The final attribution of a closed connection: by this host, else by the store; None if neither has it."""
        of_host = None if self._local is None else await self._local.last(connection)
        if of_host is not None and of_host.state in NAMED:
            return of_host
        try:
            kept = await self._read(lambda: self._reader.last(connection))
        except (HistoryError, QueryError):
            if self._local is None:
                raise
            kept = None
        if kept is None:
            return of_host
        (view,) = await self._views([kept])
        return final(view)

    async def flows(self, wanted: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        """Connections that were open in a window of time, the latest to end first."""
        kept, following = await self._read(lambda: self._reader.flows(wanted, limit, cursor))
        views = tuple(view.flow for view in await self._views(kept) if view.flow is not None)
        return FlowPage(views, following, await self._missing(*wanted.window, rows=True))

    async def peers(self, deployment: str | None, since: float, until: float) -> PeerWindow:
        """The peers of a deployment in a window of time, None: of all connections. Every connection counts once."""
        window = await self._read(lambda: self._reader.peers(deployment, since, until))
        return replace(
            window, peers=tuple(joined(window.peers)), incomplete=await self._missing(since, until, rows=False)
        )

    async def changes(self, deployment: str, before: tuple[float, float], now: tuple[float, float]) -> PeerChanges:
        """The peers that are new or gone between two windows."""
        return compared(await self.peers(deployment, *before), await self.peers(deployment, *now))

    async def not_stored(self, at: float | None) -> AttributionView:
        """The attribution of a connection that the store does not have. ``at``: None for any time."""
        moment = time.time() if at is None else at
        cause = NOT_STORED.format(" at that time" if at is not None else "")
        cause = "; ".join((cause, *await self._missing(moment, moment, rows=True)))
        return AttributionView(State.UNKNOWN, (), (), None, cause)

    async def _missing(self, since: float, until: float, *, rows: bool) -> tuple[str, ...]:
        return await self._read(lambda: self._reader.missing(since, until, rows=rows))

    async def _views(self, kept: Sequence[StoredFlow]) -> list[AttributionView]:
        owners = {info.owner for one in kept for info in one.view.deployments}
        infos = await self._describe(owners) if owners else {}
        return [view_of(one, infos) for one in kept]

    async def _read(self, function: Callable[[], T]) -> T:
        async with self._reading:
            try:
                return await asyncio.to_thread(function)
            except HistoryError as error:
                raise StoreError(str(error), reason=error.reason, remedy=error.remedy) from error


class FleetAnswers:
    """Implements ``flowmap.serve.api.backend.PastBackend`` from the store alone."""

    def __init__(self, queries: FleetQueries) -> None:
        self._queries = queries

    async def attribution(self, connection: Connection, at: float | None, *, explain: bool = False) -> AttributionView:
        if at is not None:
            return await self._queries.attribution(connection, at)
        return await self._queries.last(connection) or await self._queries.not_stored(None)

    async def flows(self, filter: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        return await self._queries.flows(filter, limit, cursor)

    async def traffic_map(
        self,
        query: MapQuery,
        window: tuple[float, float] | None = None,
        before: tuple[float, float] | None = None,
    ) -> TrafficMap:
        if window is None:
            raise QueryError("the fleet's store has no rates of now; give a window of time", field="from")
        now = await self._queries.peers(None, *window)
        earlier = None if before is None else await self._queries.peers(None, *before)
        return await asyncio.to_thread(past_map, now, earlier, (), query)

    async def deployment_peers(self, deployment: str, since: float, until: float) -> PeerWindow:
        return await self._queries.peers(deployment, since, until)

    async def peer_changes(self, deployment: str, before: tuple[float, float], now: tuple[float, float]) -> PeerChanges:
        return await self._queries.changes(deployment, before, now)
