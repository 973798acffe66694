"""Questions about the past, from the history file and the tracked flows.

Worker threads read the file. The history first writes the flows in its queue, so that an answer has every flow that
ended before the question. If that takes longer than :data:`FLUSH_SECONDS`, the newest flows are missing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.questions import (
    CONFIDENCE,
    NAMED,
    Owners,
    Question,
    combine,
    combine_client,
    connection_questions,
    state_of,
)
from flowmap.errors import HistoryError, QueryError
from flowmap.history.reader import HistoryReader
from flowmap.history.stored import StoredFlow
from flowmap.history.writer import HistoryWriter
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.model.status import HistoryStatus
from flowmap.model.views import (
    AttributionView,
    Connection,
    Evidence,
    FlowFilter,
    FlowPage,
    FlowView,
    Lookup,
    PeerChanges,
    PeerWindow,
)
from flowmap.query.asking import EngineCalls
from flowmap.query.live import LiveQueries
from flowmap.query.past import compared, final, one_of, view_of
from flowmap.query.windows import joined

T = TypeVar("T")

READERS = 2
"""Reads of the file at one time. Other queries keep their threads."""
FLUSH_SECONDS = 1.0
"""Longest wait until queued flows are in the file."""
_CURSOR = "h"
"""First letter of a cursor into the file. Cursors into the table are numbers."""


class HistoryQueries:
    """Answers from the history file and the tracked flows. Used in the event loop."""

    def __init__(self, calls: EngineCalls, history_writer: HistoryWriter, history_reader: HistoryReader) -> None:
        self._calls = calls
        self._history_writer = history_writer
        self._history_reader = history_reader
        self._reading = asyncio.Semaphore(READERS)

    def close(self) -> None:
        """Answer no more questions; running reads are aborted."""
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

    async def describe(self, owners: Iterable[Owner]) -> Mapping[Owner, DeploymentInfo]:
        """The newest descriptions of deployments, with the names that they had."""
        return await self._calls.call(lambda queries: _described(queries, owners))

    async def attribution(self, connection: Connection, at: float) -> AttributionView:
        """The owners of a connection at a time: of its flow in the file or the table, else of its endpoints."""
        tracked, flushed = await self._calls.call(
            lambda queries: (queries.at(connection, at, time.monotonic()), self._history_writer.flush())
        )
        await self._written(flushed)
        kept = await self._read(lambda: self._history_reader.at(connection, at))
        sure = await self._views([one for one in kept if one.sure])
        views = sure + tracked or await self._views(kept)
        if not views:
            return (await self._from_intervals([connection.lookup], at))[0]
        limit = await self._calls.call(lambda queries: queries.settings.owners_limit)
        return one_of(views, limit)

    async def attributions(self, lookups: Sequence[Lookup], at: float) -> tuple[AttributionView, ...]:
        """As :meth:`attribution`, for many connections that may be known in part."""
        tracked, flushed = await self._calls.call(
            lambda queries: (queries.at_several(lookups, at, time.monotonic()), self._history_writer.flush())
        )
        await self._written(flushed)
        kept = await self._read(lambda: self._history_reader.at_several(lookups, at))
        views = iter(await self._views([one for some in kept for one in some]))
        limit = await self._calls.call(lambda queries: queries.settings.owners_limit)
        found: list[AttributionView | None] = []
        for of_table, of_file in zip(tracked, kept, strict=True):
            stored = [(one.sure, next(views)) for one in of_file]
            sure = [view for is_sure, view in stored if is_sure] + of_table
            counted = sure or [view for _, view in stored]
            found.append(one_of(counted, limit) if counted else None)
        unseen = [lookup for lookup, view in zip(lookups, found, strict=True) if view is None]
        others = iter(await self._from_intervals(unseen, at) if unseen else ())
        return tuple(next(others) if view is None else view for view in found)

    async def last(self, connection: Connection) -> AttributionView | None:
        """The final attribution of a closed connection; None if it is not in the file."""
        await self._written(self._history_writer.flush())
        kept = await self._read(lambda: self._history_reader.last(connection))
        if not kept:
            return None
        views = await self._views(kept)
        if len(views) == 1:
            return final(views[0])
        limit = await self._calls.call(lambda queries: queries.settings.owners_limit)
        return one_of(views, limit, when=", which are closed,")

    async def flows(self, wanted: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        """Flows that were open in a window of time: tracked flows, then those of the file, the latest to end first.

        A flow that ends between two pages may be on both; none is missing.
        """
        flows: tuple[FlowView, ...] = ()
        below = None
        if cursor is None or not cursor.startswith(_CURSOR):
            page = await self._calls.call(lambda queries: queries.flows(wanted, limit, cursor))
            flows = page.flows
            if page.next_cursor is not None:
                return page
        else:
            below = _position(cursor)
        if len(flows) == limit:
            return FlowPage(flows, _CURSOR)
        await self._written(self._history_writer.flush())
        kept = await self._read(lambda: self._history_reader.flows(wanted, limit - len(flows), below))
        views = [view.flow for view in await self._views(kept.flows) if view.flow is not None]
        return FlowPage((*flows, *views), None if kept.below is None else f"{_CURSOR}{kept.below}")

    async def peers(self, deployment: str | None, since: float, until: float) -> PeerWindow:
        """The peers of a deployment in a window of time, None: of all flows. Every flow counts once."""
        tracked, flushed = await self._calls.call(
            lambda queries: (queries.peers(deployment, since, until, time.monotonic()), self._history_writer.flush())
        )
        below = await self._written(flushed)
        kept = await self._read(lambda: self._history_reader.peers(deployment, since, until, below))
        return PeerWindow(since, until, tuple(joined((*kept, *tracked))))

    async def changes(self, deployment: str, before: tuple[float, float], now: tuple[float, float]) -> PeerChanges:
        """The peers that are new or gone between two windows."""
        return compared(await self.peers(deployment, *before), await self.peers(deployment, *now))

    async def _views(self, kept: Sequence[StoredFlow]) -> list[AttributionView]:
        owners = {info.owner for one in kept for info in one.view.deployments}
        if not owners:
            return [view_of(one, {}) for one in kept]
        infos = await self.describe(owners)
        return [view_of(one, infos) for one in kept]

    async def _from_intervals(self, lookups: Sequence[Lookup], at: float) -> list[AttributionView]:
        """The owners of the endpoints at a time, for connections that were not observed."""
        semantics, limit, places = await self._calls.call(
            lambda queries: (queries.settings.semantics, queries.settings.owners_limit, queries.settings.places)
        )
        asked = [connection_questions(semantics, places, lookup.client.address, lookup.service) for lookup in lookups]
        every = {question for questions in asked for question in questions}
        intervals = await self._read(lambda: self._history_reader.intervals(every, at))
        agreed = [{question: _agreed(intervals[question]) for question in questions} for questions in asked]
        combined = [
            combine_client(answers) if lookup.server is None else combine(semantics, answers)
            for lookup, answers in zip(lookups, agreed, strict=True)
        ]
        named = {owner for owners in combined for owner in owners or ()}
        infos = await self.describe(named) if named else {}
        views = []
        for questions, owners in zip(asked, combined, strict=True):
            evidence = tuple(_evidence(question, intervals[question]) for question in questions)
            state = State.UNKNOWN if owners is None else state_of(owners, limit)
            cause = "flowmap observed no such connection at that time"
            cause += ", and no answers confirm owners of" if owners is None else "; these are the owners of"
            cause += " its endpoints" if owners is None else " its endpoints then"
            deployments = tuple(infos[owner] for owner in sorted(owners or ())) if state in NAMED else ()
            views.append(AttributionView(state, deployments, evidence, None, cause))
        return views

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


def _described(queries: LiveQueries, owners: Iterable[Owner]) -> Mapping[Owner, DeploymentInfo]:
    """The newest descriptions of deployments, with the names that they had."""
    return {owner: replace(queries.describe(owner), owner=owner) for owner in owners}


def _agreed(intervals: Sequence[OwnershipInterval]) -> Owners | None:
    """The owners, if all intervals agree; else None. There are two intervals if the clock was set."""
    owners = {known.owners for known in intervals}
    return next(iter(owners)) if len(owners) == 1 else None


def _evidence(question: Question, intervals: Sequence[OwnershipInterval]) -> Evidence:
    confidence = CONFIDENCE[question.shape]
    if _agreed(intervals) is None:
        why = "two ownership intervals differ: the clock was set" if intervals else "not confirmed for that time"
        return Evidence(question.shape, confidence, None, None, "none", error=why)
    known = intervals[-1]
    owners = tuple(sorted(known.owners))
    return Evidence(question.shape, confidence, known.first_asked, known.last_arrived, "history", "around", owners)


def _position(cursor: str) -> int | None:
    digits = cursor.removeprefix(_CURSOR)
    if not digits:
        return None
    if not digits.isdecimal() or len(digits) > 18:
        raise QueryError("not a cursor of an earlier answer", field="cursor")
    return int(digits)
