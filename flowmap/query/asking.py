"""Asks the engine, from the event loop: its snapshot, functions on its thread, and questions to the control plane.

The only place of this room that knows the engine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from flowmap.attribute.questions import Question
from flowmap.engine.engine import Engine
from flowmap.errors import QueryError
from flowmap.export.snapshot import Snapshot
from flowmap.query.live import LiveQueries

T = TypeVar("T")

HANGS_AFTER = 30.0
"""Seconds without a turn of the engine after which the daemon is not healthy."""


class EngineCalls:
    """The engine, as the event loop sees it."""

    def __init__(self, engine: Engine, queries: LiveQueries, *, timeout: float) -> None:
        """``timeout``: longest wait in seconds for the engine, and for an answer of the control plane."""
        self._engine = engine
        self._queries = queries
        self.timeout = timeout

    @property
    def snapshot(self) -> Snapshot:
        """The latest snapshot."""
        return self._engine.snapshot

    def healthy(self) -> bool:
        """Whether the engine makes progress."""
        return self._engine.is_alive() and time.monotonic() - self._engine.beat < HANGS_AFTER

    async def call(self, function: Callable[[LiveQueries], T]) -> T:
        """Run ``function`` on the engine's thread. QueryError if the engine is too busy."""

        def run() -> T:
            self._queries.follow_clock(time.time() - time.monotonic())
            return function(self._queries)

        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._engine.call(run)), self.timeout)
        except TimeoutError as error:
            raise QueryError("the engine is busy; try again") from error

    async def ask(self, questions: Sequence[Question]) -> None:
        """Ask the control plane. Returns when all have a result, or after the timeout."""
        waits = await self.call(lambda _: [self._engine.ask_now(question) for question in questions])
        await asyncio.wait([asyncio.wrap_future(wait) for wait in waits], timeout=self.timeout)
