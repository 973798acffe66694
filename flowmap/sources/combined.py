"""Two sources as one: conntrack counts traffic, the socket table adds TCP health. Nothing is counted twice.

The socket table has retransmissions, round-trip times and workloads, and proves that a client exists. Its records
become ``RecordKind.MEASURED``: they add this to existing flows and never open or close a flow or count a byte. Their
counters only show whether conntrack tracks the connection. Full reads of the socket table end with
``MeasuringFinished``.

A socket has the endpoints of conntrack's original tuple if the client is on this host. For a server's socket behind
NAT, or in a conntrack zone, no flow matches, and its health is missing.

If the socket table fails, conntrack continues alone, and the socket table is opened again later.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from flowmap.errors import SourceError
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.model.source import SourceStats
from flowmap.sources.after_traffic import after_traffic
from flowmap.sources.base import (
    AddressesRemoved,
    MeasuringFinished,
    NamespaceAddresses,
    ReadFinished,
    Source,
    Step,
    WorkloadsNamed,
)

if TYPE_CHECKING:
    from flowmap.config import CollectConfig

_MEASURED_FLAGS = np.uint16(Flag.HEALTH | Flag.PRESENT | Flag.ENDING | Flag.ASSURED | Flag.GUESSED)
RETRY_LIMIT = 60.0
"""Longest pause, in seconds, before the health source is opened again."""


@runtime_checkable
class Composite(Protocol):
    """A source that reads several."""

    @property
    def parts(self) -> tuple[Source, ...]:
        """The sources that are read, the one that counts bytes first."""


class CombinedSource:
    """``traffic`` counts bytes; ``health`` only measures."""

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
        """The traffic source and the health source."""
        return self._traffic, self._health

    def configure(self, settings: CollectConfig) -> None:
        """Apply the settings of both."""
        for part in self.parts:
            part.configure(settings)

    def open(self) -> None:
        """Open both; SourceError if the traffic source cannot be opened."""
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
        """Readable while changes of either are waiting; -1 while closed."""
        return -1 if self._ready is None else self._ready.fileno()

    def deadline(self) -> float:
        """When either must be polled, or the health source is opened again."""
        return min(self._traffic.deadline(), self._health.deadline() if self._health.stats.up else self._retry_at)

    def poll(self) -> Iterator[Step]:
        """Steps of the traffic source, then measurements of the health source."""
        yield from self._traffic.poll()
        if not self._health.stats.up and self._clock() >= self._retry_at:
            self._open_health()
        if self._health.stats.up:
            yield from after_traffic(self._measured(self._health.poll()), self._traffic)

    def finish(self) -> Iterator[Step]:
        """The last steps of both."""
        yield from self._traffic.finish()
        if self._health.stats.up:
            yield from after_traffic(self._measured(self._health.finish()), self._traffic)

    def _measured(self, steps: Iterator[Step]) -> Iterator[Step]:
        try:
            yield from measurements(steps)
        except SourceError as error:
            self._close_health(error)
            yield MeasuringFinished(complete=False)

    def _open_health(self) -> None:
        try:
            self._health.open()
        except SourceError as error:
            self._close_health(error)
            return
        assert self._ready is not None, "the traffic source is open"
        self._ready.register(self._health.fileno(), select.EPOLLIN)
        self._health.stats.notes = {}
        self._pause = 1.0

    def _close_health(self, error: SourceError) -> None:
        self._health.close()  # also removes its descriptor from the epoll set
        self._health.stats.up = False
        self._retry_at = self._clock() + self._pause
        self._pause = min(RETRY_LIMIT, 2 * self._pause)
        note = f"no retransmissions or round-trip times: {error}; retrying"
        self._health.stats.notes = {"failed": note}


class MeasuringSource:
    """A source that only measures: its records become measurements."""

    as_of = float("inf")

    def __init__(self, source: Source) -> None:
        self.facts, self.stats = source.facts, source.stats
        self._source = source
        self.configure, self.open, self.close = source.configure, source.open, source.close
        self.fileno, self.deadline = source.fileno, source.deadline

    def poll(self) -> Iterator[Step]:
        """Measurements."""
        return measurements(self._source.poll())

    def finish(self) -> Iterator[Step]:
        """The last measurements."""
        return measurements(self._source.finish())


def measurements(steps: Iterator[Step]) -> Iterator[Step]:
    """The steps of a source that only measures."""
    for step in steps:
        if isinstance(step, FlowBatch) and len(step):
            yield measured(step)
        elif isinstance(step, WorkloadsNamed | NamespaceAddresses | AddressesRemoved):
            yield step
        elif isinstance(step, ReadFinished):
            yield MeasuringFinished(step.complete)


def measured(batch: FlowBatch) -> FlowBatch:
    """The records as measurements, without the identity of the socket."""
    found = batch.take(slice(None))
    found.kind = np.full(len(batch), RecordKind.MEASURED, np.uint8)
    found.flags = batch.flags & _MEASURED_FLAGS
    found.id = np.zeros(len(batch), np.uint64)
    return found


def untracked_note(number: int) -> dict[str, str]:
    """A note about so many connections that the socket table sees and conntrack does not count; empty if none."""
    if not number:
        return {}
    what = "1 TCP connection of this host is" if number == 1 else f"{number} TCP connections of this host are"
    note = (
        f"{what} not tracked by conntrack, so their bytes are not counted: a notrack rule, or no rule with a ct match"
    )
    return {"untracked": f"{note}; set collect.source: sockets to count them"}


def names(source: Source) -> str:
    """Names of the sources that are read, joined by ``and``."""
    return " and ".join(part.facts.name for part in parts(source))


def parts(source: Source) -> tuple[Source, ...]:
    """The sources that are read."""
    return source.parts if isinstance(source, Composite) else (source,)
