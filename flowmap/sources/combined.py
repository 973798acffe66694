"""Two sources as one: traffic from one, TCP health from the other, so that nothing is counted twice.

The socket table knows retransmissions and round-trip times, and that a client is there; conntrack knows all the rest.
Records of the socket table reach the flow table as ``Kind.MEASURED``: they add that to flows that are there, and never
open one, close one or count a byte. Their counters only show whether a connection is tracked at all; its full reads
end with ``MeasuringFinished``. A socket has the ends of its connection's original tuple where the client is on
this host. For a server's socket behind NAT, or in a conntrack zone, no flow is found, and its health is missing.

The second source may fail: the first goes on without it, and it is tried again.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from flowmap.errors import SourceError
from flowmap.flows.batch import Flag, FlowBatch, RecordKind
from flowmap.model.source import SourceStats
from flowmap.sources.base import MeasuringFinished, ReadFinished, Source, Step

if TYPE_CHECKING:
    from flowmap.config import CollectConfig

_TOLD = np.uint16(Flag.HEALTH | Flag.PRESENT | Flag.ENDING | Flag.ASSURED | Flag.GUESSED)
RETRY_LIMIT = 60.0
"""Longest pause, in seconds, before the second source is tried again."""


class CombinedSource:
    """``traffic`` counts; ``health`` measures."""

    as_of = float("inf")

    def __init__(self, traffic: Source, health: Source, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.facts = replace(traffic.facts, tells_health=True)
        self.stats: SourceStats = traffic.stats
        self._traffic, self._health, self._clock = traffic, health, clock
        self._ready: select.epoll | None = None
        self._pause = 1.0
        self._retry_at = float("inf")

    @property
    def parts(self) -> tuple[Source, Source]:
        """The source that counts, and the one that measures."""
        return self._traffic, self._health

    def configure(self, settings: CollectConfig) -> None:
        """Apply the settings of both."""
        for part in self.parts:
            part.configure(settings)

    def open(self) -> None:
        """Open both; SourceError if the first cannot be."""
        self.close()
        self._traffic.open()
        self._ready = select.epoll()
        self._ready.register(self._traffic.fileno(), select.EPOLLIN)
        self._pause = 1.0
        self._open_health()

    def close(self) -> None:
        """Close both; safe to call twice."""
        self._health.close()
        self._traffic.close()
        if self._ready is not None:
            self._ready.close()
            self._ready = None
        self._retry_at = float("inf")

    def fileno(self) -> int:
        """Readable while changes of either wait; -1 while closed."""
        return -1 if self._ready is None else self._ready.fileno()

    def deadline(self) -> float:
        """When one of them wants to be polled, or the second to be tried again."""
        return min(self._traffic.deadline(), self._health.deadline() if self._health.stats.up else self._retry_at)

    def poll(self) -> Iterator[Step]:
        """Steps of the first, then what the second measured."""
        yield from self._traffic.poll()
        if not self._health.stats.up and self._clock() >= self._retry_at:
            self._open_health()
        if self._health.stats.up:
            yield from self._measured(self._health.poll())

    def finish(self) -> Iterator[Step]:
        """The last of both."""
        yield from self._traffic.finish()
        if self._health.stats.up:
            yield from self._measured(self._health.finish())

    def _measured(self, steps: Iterator[Step]) -> Iterator[Step]:
        try:
            for step in steps:
                if isinstance(step, FlowBatch) and len(step):
                    yield measured(step)
                elif isinstance(step, ReadFinished):
                    yield MeasuringFinished(step.complete)
        except SourceError as error:
            self._give_up_health(error)
            yield MeasuringFinished(complete=False)

    def _open_health(self) -> None:
        try:
            self._health.open()
        except SourceError as error:
            self._give_up_health(error)
            return
        assert self._ready is not None, "the first is open"
        self._ready.register(self._health.fileno(), select.EPOLLIN)
        self._health.stats.notes = {}
        self._pause = 1.0

    def _give_up_health(self, error: SourceError) -> None:
        self._health.close()  # which takes its descriptor out of the epoll set
        self._health.stats.up = False
        self._retry_at = self._clock() + self._pause
        self._pause = min(RETRY_LIMIT, 2 * self._pause)
        note = f"no retransmissions and round-trip times: {error}; trying again"
        self._health.stats.notes = {"failed": note}


def measured(batch: FlowBatch) -> FlowBatch:
    """The records as measurements: what they count is left out, and whose identity they have."""
    told = batch.take(slice(None))
    told.kind = np.full(len(batch), RecordKind.MEASURED, np.uint8)
    told.flags = batch.flags & _TOLD
    told.id = np.zeros(len(batch), np.uint64)
    return told


def untracked_note(number: int) -> dict[str, str]:
    """What to say of so many connections that the second source sees and the first does not count."""
    if not number:
        return {}
    what = "1 TCP connection of this host is" if number == 1 else f"{number} TCP connections of this host are"
    note = f"{what} not tracked: their bytes are not counted; a notrack rule, or no rule with a ct match any more"
    return {"untracked": f"{note}; collect.source: sockets counts them"}


def names(source: Source) -> str:
    """What is read, for people."""
    return " and ".join(part.facts.name for part in parts(source))


def parts(source: Source) -> tuple[Source, ...]:
    """The sources that are read."""
    return source.parts if isinstance(source, CombinedSource) else (source,)
