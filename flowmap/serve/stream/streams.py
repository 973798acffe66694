"""Streams of events: one loop for each reader, without queues.

Once a second a reader gets what changed since it last got something. A reader that is too slow to take that in time
misses updates: it gets their number, and the next update is complete. A slow reader costs no memory and no time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from flowmap.errors import QueryError
from flowmap.serve.api.backend import Backend
from flowmap.serve.api.events import FlowEvent, MissedEvent, StatusEvent
from flowmap.serve.api.map_parameters import StreamParameters
from flowmap.serve.api.problem import problem
from flowmap.serve.server.progress import PROGRESS
from flowmap.serve.stream.deltas import MapDeltas

EVERY = 1.0
"""Seconds between two updates."""
MAX_READERS = 16
"""Streams at one time."""
MAX_FOLLOWERS = 4
"""Of them, streams with flows: each of their updates takes some milliseconds of the engine with 100,000 flows."""


class Streams:
    """All streams of the server. :meth:`run` is their clock, and ends them when it is cancelled."""

    def __init__(
        self,
        backend: Backend,
        *,
        refused: Callable[[str], None] = lambda _: None,
        missed: Callable[[int], None] = lambda _: None,
        access_changed: Callable[[], object] = lambda: None,
    ) -> None:
        """``refused`` and ``missed`` count. ``access_changed``: a value that changes with users and passwords; streams
        end then, so that every reader is authenticated again."""
        self._backend = backend
        self._refused = refused
        self._missed = missed
        self._access = access_changed
        self._readers = 0
        self._followers = 0
        self._ended = asyncio.Event()

    @property
    def readers(self) -> int:
        """Number of open streams."""
        return self._readers

    async def run(self) -> None:
        """Sample the counters every second until cancelled."""
        try:
            while True:
                self._backend.sample()
                await asyncio.sleep(EVERY)
        finally:
            self._ended.set()

    def respond(self, asked: StreamParameters) -> Response:
        """The stream, or 503 if there are too many."""
        follows = "flows" in asked.events
        if self._readers >= MAX_READERS or (follows and self._followers >= MAX_FOLLOWERS):
            self._refused("streams")
            return problem(503, "Too many streams; close one, or try again.", headers={"retry-after": "5"})
        return _EventStream(self, asked)

    async def events(self, asked: StreamParameters) -> AsyncIterator[bytes]:
        """The events of one reader. The consumer's pace is the reader's."""
        follows = "flows" in asked.events
        self._readers += 1
        self._followers += follows
        try:
            async for event in self._updates(asked, self._access()):
                yield event
        finally:
            self._readers -= 1
            self._followers -= follows

    async def _updates(self, asked: StreamParameters, access: object) -> AsyncIterator[bytes]:
        source = _Source(self._backend, asked)
        begun = time.monotonic()
        number = missed = 0
        yield b"retry: 2000\n\n"
        while (elapsed := time.monotonic() - begun) < asked.seconds and not self._ended.is_set():
            late = int(elapsed / EVERY) - number
            if late > 0:
                number, missed = number + late, missed + late
                self._missed(late)
                yield encode("missed", MissedEvent(missed=missed))
            if access != self._access():
                return
            yield await source.update()
            number += 1
            pause = begun + number * EVERY - time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), max(0.0, pause))


class _Source:
    """What one reader gets."""

    def __init__(self, backend: Backend, asked: StreamParameters) -> None:
        self._backend = backend
        self._asked = asked
        self._deltas = MapDeltas()
        self._marks: object = None
        self._last: dict[str, bytes] = {}

    async def update(self) -> bytes:
        """Everything that changed, as one piece; a comment if nothing did."""
        parts = [part for name in self._asked.events if (part := await _PARTS[name](self))]
        return b"".join(parts) or b":\n\n"

    async def map(self) -> bytes:
        found = await self._backend.traffic_map(self._asked.query())
        return await asyncio.to_thread(lambda: encode("map", self._deltas.next(found)))

    async def flows(self) -> bytes:
        try:
            found = await self._backend.flow_changes(self._asked.flow_filter(), self._asked.flow_limit, self._marks)
        except QueryError:  # the engine is busy: the next update has what this one would have had
            return b""
        first, self._marks = self._marks is None, found.marks
        if not (first or found.flows or found.gone or found.left_out):
            return b""
        return await asyncio.to_thread(lambda: encode("flows", FlowEvent.of(found)))

    async def status(self) -> bytes:
        made = await asyncio.to_thread(
            lambda: encode("status", StatusEvent.made_from(self._backend.status(), self._backend.snapshot()))
        )
        return self._unless_same("status", made)

    def _unless_same(self, name: str, made: bytes) -> bytes:
        same = self._last.get(name) == made
        self._last[name] = made
        return b"" if same else made


_PARTS = {"map": _Source.map, "flows": _Source.flows, "status": _Source.status}


def encode(name: str, data: BaseModel) -> bytes:
    """One event. JSON has no line break, so the data is one line."""
    return f"event: {name}\ndata: {data.model_dump_json(by_alias=True)}\n\n".encode()


class _EventStream(Response):
    """Sends events until they end or the client goes away."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, asked: StreamParameters) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._streams = streams
        self._asked = asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            sending = asyncio.create_task(self._send(scope.get("extensions", {}).get(PROGRESS), send))
            leaving = asyncio.create_task(_until_gone(receive))
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, progress: Callable[[], None] | None, send: Send) -> None:
        events = self._streams.events(self._asked)
        try:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
                if progress is not None:
                    progress()
        finally:
            await events.aclose()  # type: ignore[attr-defined]  # it is a generator


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
