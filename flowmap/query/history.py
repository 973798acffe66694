"""Questions about the past, over the history file and the books: what HTTP asks where a time is given.

The file is read in worker threads, never on the event loop or the writer's. Before it is, history is
asked to write what it was handed, so an answer has everything that ended up to a moment before; where that takes too
long, the answer goes without.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.jobs import placed
from flowmap.attribute.questions import (
    CONFIDENCE,
    NAMED,
    Owners,
    Question,
    combine,
    connection_questions,
    state_of,
    state_of_several,
)
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.engine import Engine
from flowmap.errors import HistoryError, QueryError
from flowmap.history import clock
from flowmap.history.matching import FlowTuple, Wanted
from flowmap.history.reader import HistoryReader, StoredFlow
from flowmap.history.writer import HistoryWriter
from flowmap.model.address import Endpoint
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.model.status import HistoryStatus
from flowmap.model.views import (
    AttributionView,
    Connection,
    Evidence,
    FlowFilter,
    FlowPage,
    FlowView,
    PeerChanges,
    PeerSeen,
    PeerWindow,
)
from flowmap.query.live import LiveQueries
from flowmap.query.windows import peers_of, rows_at

T = TypeVar("T")

READERS = 2
"""Reads of the file at one time: slow ones leave threads to other queries."""
FLUSH_SECONDS = 1.0
"""Longest wait for what was handed to history to be in the file."""
_CURSOR = "h"
"""First letter of a cursor into the file; those into the table are numbers alone."""


class HistoryQueries:
    """Answers from the history file, joined with what is tracked still. Lives in the event loop."""

    def __init__(
        self, engine: Engine, queries: LiveQueries, history_writer: HistoryWriter, history_reader: HistoryReader
    ) -> None:
        self._engine = engine
        self._queries = queries
        self._history_writer = history_writer
        self._history_reader = history_reader
        self._reading = asyncio.Semaphore(READERS)

    def close(self) -> None:
        """No more questions: those under way end, too."""
        self._history_reader.close()

    def status(self) -> HistoryStatus:
        """State of the history file."""
        figures = self._history_writer.figures
        return HistoryStatus(
            up=figures.up,
            flows=figures.flows,
            oldest_at=figures.oldest,
            flows_written=figures.written,
            flows_lost=sum(figures.lost.values()),
            flows_queued=figures.queued,
            size_bytes=figures.size,
            limit_bytes=figures.limits.max_size,
            files_set_aside=figures.set_aside,
            blocks_unreadable=self._history_reader.unreadable,
            notes="; ".join(dict(figures.notes).values()) or None,
        )

    async def attribution(self, connection: Connection, at: float) -> AttributionView:
        """Who owned a connection at a moment: its flow in the file, else in the table, else whose its ends were."""
        ends = (connection.source, connection.source_port, connection.destination, connection.destination_port)
        wanted = FlowTuple(*ends, connection.protocol)
        tracked, flushed = await self._on_writer(
            lambda: (self._tracked_at(connection, at), self._history_writer.flush())
        )
        await self._written(flushed)
        kept = await self._read(lambda: self._history_reader.at(wanted, at))
        sure = await self._views([one for one in kept if one.sure])
        views = sure + tracked or await self._views(kept)
        return self._one_of(views) if views else await self._from_ranges(connection, at)

    async def last(self, connection: Connection) -> AttributionView | None:
        """A connection that is not tracked any more, as it was in the end; None if the file does not know it."""
        ends = (connection.source, connection.source_port, connection.destination, connection.destination_port)
        await self._written(self._history_writer.flush())
        kept = await self._read(lambda: self._history_reader.last(FlowTuple(*ends, connection.protocol)))
        if kept is None:
            return None
        (view,) = await self._views([kept])
        over = "this connection is over; it is told as it was in the end"
        return replace(view, cause=f"{view.cause}; {over}" if view.cause else over)

    async def flows(self, wanted: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        """Flows open in a window of time: those tracked now, then those of the file, the last that ended first.

        A flow that ends between two parts of a listing may be in both; none is missing.
        """
        flows: tuple[FlowView, ...] = ()
        below = None
        if cursor is None or not cursor.startswith(_CURSOR):
            page = await self._on_writer(lambda: self._queries.flows(wanted, limit, cursor))
            flows = page.flows
            if page.next_cursor is not None:
                return page
        else:
            below = _position(cursor)
        if len(flows) == limit:
            return FlowPage(flows, _CURSOR)
        await self._written(self._history_writer.flush())
        kept = await self._read(lambda: self._history_reader.flows(_wanted(wanted), limit - len(flows), below))
        views = [view.flow for view in await self._views(kept.flows) if view.flow is not None]
        return FlowPage((*flows, *views), None if kept.below is None else f"{_CURSOR}{kept.below}")

    async def peers(self, deployment: str, since: float, until: float) -> PeerWindow:
        """Whom a deployment talked to in a window; every flow counts once."""
        now, epoch = time.monotonic(), clock.epoch()
        tracked, flushed = await self._on_writer(
            lambda: (
                peers_of(self._engine.accounting, deployment, since, until, epoch=epoch, now=now),
                self._history_writer.flush(),
            )
        )
        below = await self._written(flushed)
        kept = await self._read(lambda: self._history_reader.peers(deployment, since, until, below))
        seen: dict[tuple[object, ...], PeerSeen] = {}
        for one in (*kept, *tracked):
            key = (one.peer, one.protocol, one.owners)
            seen[key] = seen[key].joined(one) if key in seen else one
        order = sorted(seen.values(), key=lambda one: (one.peer, one.protocol, one.owners))
        return PeerWindow(since, until, tuple(order))

    async def changes(self, deployment: str, before: tuple[float, float], now: tuple[float, float]) -> PeerChanges:
        """Which peers came and went between two windows."""
        earlier, later = await self.peers(deployment, *before), await self.peers(deployment, *now)
        known, current = ({(one.peer, one.protocol) for one in window.peers} for window in (earlier, later))
        new = tuple(one for one in later.peers if (one.peer, one.protocol) not in known)
        vanished = tuple(one for one in earlier.peers if (one.peer, one.protocol) not in current)
        return PeerChanges(earlier, later, new, vanished)

    def _tracked_at(self, connection: Connection, at: float) -> list[AttributionView]:
        """Flows that are still tracked; one of each kind of answer is enough."""
        epoch, now = clock.epoch(), time.monotonic()
        rows = rows_at(self._engine.accounting, self._queries.find(connection), at - epoch)
        return [self._queries.explain(row, now) for row in rows]

    async def _views(self, kept: Sequence[StoredFlow]) -> list[AttributionView]:
        owners = {info.owner for one in kept for info in one.view.deployments}
        if not owners:
            return [_view(one, {}) for one in kept]
        infos = await self._on_writer(lambda: _described(self._engine.accounting, owners))
        return [_view(one, infos) for one in kept]

    def _one_of(self, views: Sequence[AttributionView]) -> AttributionView:
        """Of many that match, never just the first: where they differ, that is the answer."""
        last = max(views, key=lambda view: (view.flow.started_at or 0.0) if view.flow else 0.0)
        found = {(view.state, frozenset(info.owner for info in view.deployments)) for view in views}
        if len(found) == 1:
            return last
        state, owners = state_of_several(found, self._engine.accounting.attribution.settings.owners_limit)
        infos = {info.owner: info for view in views for info in view.deployments}
        deployments = tuple(infos[owner] for owner in sorted(owners))
        cause = f"{len(views)} connections match that moment and differ in their owners; give both ports"
        return AttributionView(state, deployments, (), None, cause)

    async def _from_ranges(self, connection: Connection, at: float) -> AttributionView:
        """Nobody saw the connection: whose were its ends then? A gap between two ranges is a gap in the answer."""
        settings = self._engine.accounting.attribution.settings
        service = Endpoint(connection.destination, connection.destination_port or 0)
        questions = connection_questions(settings.semantics, settings.places, connection.source, service)
        ranges = await self._read(lambda: self._history_reader.intervals(questions, at))
        owners = combine(settings.semantics, {question: _agreed(ranges[question]) for question in questions})
        evidence = tuple(_evidence(question, ranges[question]) for question in questions)
        if owners is None:
            cause = "flowmap saw no such connection at that moment, and whose its ends were then was not confirmed"
            return AttributionView(State.UNKNOWN, (), evidence, None, cause)
        state = state_of(owners, settings.owners_limit)
        infos = await self._on_writer(lambda: _described(self._engine.accounting, owners)) if state in NAMED else {}
        cause = "flowmap saw no such connection at that moment; this is whose its ends were then"
        return AttributionView(state, tuple(infos[owner] for owner in sorted(infos)), evidence, None, cause)

    async def _on_writer(self, function: Callable[[], T]) -> T:
        def ask() -> T:
            self._queries.follow_clock(clock.epoch())
            return function()

        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._engine.call(ask)), 10.0)
        except TimeoutError as error:
            raise QueryError("the writer is busy; try again") from error

    async def _written(self, flushed: Future[int | None]) -> int | None:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(flushed), FLUSH_SECONDS)
        except TimeoutError:
            return None

    async def _read(self, function: Callable[[], T]) -> T:
        try:
            async with self._reading:
                return await asyncio.to_thread(function)
        except HistoryError as error:
            if error.reason == "corrupt":
                self._history_writer.suspect(error)
            raise


def _described(accounting: FlowAccounting, owners: Iterable[Owner]) -> Mapping[Owner, DeploymentInfo]:
    """What is known of deployments now, under the names they had."""
    return {owner: replace(accounting.describe(owner), owner=owner) for owner in owners}


def _view(one: StoredFlow, infos: Mapping[Owner, DeploymentInfo]) -> AttributionView:
    by = one.view.started_at if one.view.started_at is not None else math.inf
    after = one.begun_after if one.view.started_at is not None else -math.inf
    deployments = tuple(placed(infos[info.owner], after, by) for info in one.view.deployments)
    named = deployments if one.view.state in NAMED else ()
    flow = replace(one.view, deployments=named)
    return AttributionView(one.view.state, named, one.evidence, flow, one.cause or None)


def _agreed(ranges: Sequence[OwnershipInterval]) -> Owners | None:
    """The owners that every range for a moment names (a clock that was set can make two); None without agreement."""
    owners = {known.owners for known in ranges}
    return next(iter(owners)) if len(owners) == 1 else None


def _evidence(question: Question, ranges: Sequence[OwnershipInterval]) -> Evidence:
    confidence = CONFIDENCE[question.shape]
    if _agreed(ranges) is None:
        why = "two ranges differ: the clock was set" if ranges else "not confirmed for that moment"
        return Evidence(question.shape, confidence, None, None, "none", error=why)
    known = ranges[-1]
    owners = tuple(sorted(known.owners))
    return Evidence(question.shape, confidence, known.first_asked, known.last_arrived, "history", "around", owners)


def _wanted(given: FlowFilter) -> Wanted:
    return Wanted(
        since=-math.inf if given.since is None else given.since,
        until=math.inf if given.until is None else given.until,
        deployment=given.deployment,
        peer=given.peer,
        client=given.client,
        state=given.state,
        protocol=given.protocol,
    )


def _position(cursor: str) -> int | None:
    digits = cursor.removeprefix(_CURSOR)
    if not digits:
        return None
    if not digits.isdecimal() or len(digits) > 18:
        raise QueryError("not a cursor of an earlier answer", field="cursor")
    return int(digits)
