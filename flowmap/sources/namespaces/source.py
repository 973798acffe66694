"""The sources of the other network namespaces beside that of the daemon's own, as one source.

The opener passes sockets that are open in a namespace; a source reads there as it does in the own one, and each of its
steps gets the number of the namespace. Numbers are never used again. Full reads of all namespaces share one pace.

If the opener is absent, the own namespace is read as always, and so are the namespaces that were passed before.
"""

from __future__ import annotations

import heapq
import logging
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from flowmap.errors import SourceError
from flowmap.flows.records.batch import Flag, FlowBatch
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.source import SourceStats
from flowmap.opener.protocol import Gone, Named, Opened, Report, Welcome
from flowmap.sources.after_traffic import after_traffic
from flowmap.sources.base import (
    CaughtUp,
    Lost,
    MeasuringFinished,
    NamespaceAddresses,
    NamespaceGone,
    NamespaceOpened,
    NamespaceRead,
    NamespacesNamed,
    ReadFinished,
    ReadStarted,
    Source,
    Step,
)
from flowmap.sources.combined import parts
from flowmap.sources.namespaces.client import AGAIN, Disconnected, OpenerClient, Passed
from flowmap.sources.namespaces.notes import KEYS, notes_about
from flowmap.sources.namespaces.pace import SLICE, SharedPace
from flowmap.sources.namespaces.passed import PassedSockets, network_of
from flowmap.sources.namespaces.search_queue import SearchQueue
from flowmap.sources.namespaces.totals import Totals
from flowmap.sources.netlink_socket import make_buffers
from flowmap.sources.network import Network
from flowmap.sources.sockets.peers import Peers

if TYPE_CHECKING:
    from flowmap.config import CollectConfig

log = logging.getLogger(__name__)

BUFFER = 1 << 20
"""Bytes of memory in which the sockets of all other namespaces receive."""
LAST_READ = 1.0
"""``finish`` reads all namespaces if their last full reads took at most so many seconds together."""

_END_UNANNOUNCED = np.uint16(Flag.END_UNANNOUNCED)


@dataclass(slots=True)
class _Reader:
    """The source of one namespace."""

    number: int
    inode: int
    source: Source
    totals: Totals
    descriptor: int
    due: float = float("nan")
    """Its deadline in the heap."""
    closed: bool = False


Make = Callable[[Network, Callable[[float], float]], Source]
"""Makes a source that reads in a network, with its pace."""


@dataclass(slots=True)
class _State:
    """What is open, between :meth:`NamespacesSource.open` and ``close``."""

    ready: select.epoll
    readers: dict[int, _Reader] = field(default_factory=dict)  # by inode
    by_descriptor: dict[int, _Reader] = field(default_factory=dict)
    due: list[tuple[float, int, _Reader]] = field(default_factory=list)  # a heap: deadline, number
    listed: set[int] | None = None
    """Those that the opener passed since it was connected again; None once it has reported all."""


class NamespacesSource:
    """``own``: the source of the daemon's namespace. ``make``: makes the source of another one. ``traffic``: counts the
    flows that those only measure; None: they count. ``searches``: for processes, run from here. ``peers``: destroyed
    sockets of all namespaces, which the sources share."""

    as_of = float("inf")

    def __init__(
        self,
        own: Source,
        make: Make,
        client: OpenerClient,
        pace: SharedPace,
        *,
        traffic: Source | None = None,
        peers: Peers,
        searches: SearchQueue | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.facts = own.facts
        self.stats: SourceStats = own.stats
        self._own, self._make, self._client, self._pace = own, make, client, pace
        self._traffic, self._searches, self._peers, self._clock = traffic, searches, peers, clock
        self._buffers = make_buffers(BUFFER)
        self._state: _State | None = None
        self._last = 0
        self._gone: list[int] = []  # numbers whose end is not reported yet
        self._report: Report | None = None
        self._failed: set[int] = set()  # inodes of those that could not be read and may exist
        self._began = float("inf")

    @property
    def parts(self) -> tuple[Source, ...]:
        """The sources of the daemon's namespace; their statistics include those of all namespaces."""
        return parts(self._own)

    def configure(self, settings: CollectConfig) -> None:
        """Apply the settings to the sources of all namespaces."""
        self._pace.interval = settings.sockets.interval
        self._own.configure(settings)
        for reader in self._state.readers.values() if self._state else ():
            reader.source.configure(settings)

    def open(self) -> None:
        """Open the source of the daemon's namespace; SourceError if that fails. The opener may be absent."""
        self.close()
        self._own.open()
        self._state = _State(select.epoll())
        self._state.ready.register(self._own.fileno(), select.EPOLLIN)
        self._began = min(self._began, self._clock())
        self._connect(self._state)

    def close(self) -> None:
        """Close all; safe to call twice."""
        self._own.close()
        self._client.close()
        if self._state is not None:
            for reader in list(self._state.readers.values()):
                self._drop(self._state, reader)
            self._state.ready.close()
            self._state = None

    def fileno(self) -> int:
        """Readable while anything is waiting; -1 while closed."""
        return -1 if self._state is None else self._state.ready.fileno()

    def deadline(self) -> float:
        """When any namespace must be read, or the opener be connected again."""
        if self._state is None:
            return self._own.deadline()
        search = float("inf") if self._searches is None else self._searches.deadline()
        return min(self._own.deadline(), self._client.deadline(), search, self._next_due(self._state))

    def poll(self) -> Iterator[Step]:
        """Steps of the own namespace, then of the others: waiting events of all, full reads for a short while."""
        if self._state is None:
            raise SourceError("the source of namespaces is not open")
        if self._searches is not None:
            self._searches.step()
        began = self._clock()
        yield from self._own.poll()
        yield from self._ends()
        yield from self._news(self._state)
        yield from self._events(self._state)
        self._peers.drained_at = began
        yield from self._reads(self._state, began)
        self._note()

    def finish(self) -> Iterator[Step]:
        """The last steps of all namespaces."""
        if self._state is None:
            yield from self._own.finish()
            return
        yield from self._events(self._state)
        self._peers.drained_at = float("inf")  # no socket waits any more for its peer socket in another namespace
        yield from self._own.finish()
        yield from self._ends()
        if self._pace.total <= LAST_READ:
            for reader in list(self._state.readers.values()):
                yield from self._steps(self._state, reader, reader.source.finish())
        else:
            for reader in list(self._state.readers.values()):
                yield from self._steps(self._state, reader, reader.source.poll())

    def _connect(self, state: _State) -> None:
        if self._client.connect():
            state.ready.register(self._client.fileno(), select.EPOLLIN)

    def _news(self, state: _State) -> Iterator[Step]:
        self._connect(state)
        for news in self._client.receive():
            match news:
                case Passed(opened, sockets):
                    yield from self._adopt(state, opened, sockets)
                case Named(inode, name):
                    if (reader := state.readers.get(inode)) is not None:
                        yield NamespacesNamed(((reader.number, NetworkNamespace(inode, name)),))
                case Gone(inode):
                    yield from self._leave(state, inode)
                case Welcome():
                    state.listed = set()
                    self._failed.clear()
                case Report():
                    self._report = news
                    yield from self._leave_unlisted(state)
                case Disconnected():
                    state.listed = self._report = None

    def _adopt(self, state: _State, opened: Opened, sockets: tuple[socket.socket, ...]) -> Iterator[Step]:
        """Read a namespace from now on."""
        if state.listed is not None:
            state.listed.add(opened.inode)
        if opened.inode in state.readers:  # passed again after the opener was restarted
            for one in sockets:
                one.close()
            return
        self._last = number = self._last + 1
        passed = PassedSockets(sockets, self._buffers)
        source = self._make(network_of(opened, passed), partial(self._pace.note, number))
        try:
            source.open()
        except SourceError as error:
            self._fail(opened.inode, error)
            return
        finally:
            passed.close()
        self._failed.discard(opened.inode)
        reader = _Reader(number, opened.inode, source, Totals(parts(source), self.parts), source.fileno())
        state.readers[opened.inode] = state.by_descriptor[reader.descriptor] = reader
        state.ready.register(reader.descriptor, select.EPOLLIN)
        self._schedule(state, reader)
        absent_at = opened.absent_at
        if absent_at is not None and not self._began <= absent_at <= self._clock():
            absent_at = None  # it may be older than the daemon
        yield NamespacesNamed(((number, NetworkNamespace(opened.inode, opened.name)),))
        yield NamespaceOpened(number, absent_at)

    def _leave(self, state: _State, inode: int) -> Iterator[Step]:
        """Read a namespace for the last time: what is left of its sockets still has counters."""
        reader = state.readers.get(inode)
        if reader is None:
            return
        yield from self._steps(state, reader, reader.source.finish())
        if not reader.closed:
            self._drop(state, reader)
        yield from self._ends()

    def _leave_unlisted(self, state: _State) -> Iterator[Step]:
        if state.listed is None:
            return
        gone = state.readers.keys() - state.listed
        state.listed = None
        for inode in gone:
            yield from self._leave(state, inode)

    def _events(self, state: _State) -> Iterator[Step]:
        if not state.readers:
            return
        for descriptor, _ in state.ready.poll(0, len(state.readers) + 2):
            if (reader := state.by_descriptor.get(descriptor)) is not None:
                yield from self._steps(state, reader, reader.source.poll())

    def _reads(self, state: _State, due: float) -> Iterator[Step]:
        """Full reads, and what else was ``due`` then, for a while; the rest follows at the next poll."""
        began = self._clock()
        while self._next_due(state) <= due and self._clock() < began + SLICE:
            _, _, reader = heapq.heappop(state.due)
            reader.due = float("nan")
            yield from self._steps(state, reader, reader.source.poll())

    def _next_due(self, state: _State) -> float:
        due = state.due
        while due and (due[0][2].closed or due[0][2].due != due[0][0]):  # it has another deadline by now
            heapq.heappop(due)
        return due[0][0] if due else float("inf")

    def _schedule(self, state: _State, reader: _Reader) -> None:
        deadline = reader.source.deadline()
        if reader.due != deadline:
            reader.due = deadline
            heapq.heappush(state.due, (deadline, reader.number, reader))

    def _steps(self, state: _State, reader: _Reader, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps of one namespace, in step with the flows if they only measure."""
        own = self._numbered(state, reader, steps)
        return own if self._traffic is None else after_traffic(own, self._traffic)

    def _numbered(self, state: _State, reader: _Reader, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps of one namespace, with its number."""
        try:
            yield from stamped(reader.number, steps)
        except SourceError as error:
            self._fail(reader.inode, error)
            self._drop(state, reader)
            yield from self._ends()
            return
        reader.totals.add()
        self._schedule(state, reader)

    def _fail(self, inode: int, error: SourceError) -> None:
        log.warning("network namespace %d cannot be read: %s; trying again in %.0f s", inode, error, AGAIN)
        self._failed.add(inode)
        self._client.ask_again()

    def _drop(self, state: _State, reader: _Reader) -> None:
        """Close all descriptors of a namespace, so that the kernel can remove it."""
        reader.closed = True
        state.readers.pop(reader.inode, None)
        state.by_descriptor.pop(reader.descriptor, None)
        reader.source.close()  # also removes its descriptor from the epoll set
        self._pace.forget(reader.number)
        self._gone.append(reader.number)

    def _ends(self) -> Iterator[Step]:
        gone, self._gone = self._gone, []
        for number in gone:
            yield NamespaceGone(number)

    def _note(self) -> None:
        """Set the statistics and the notes of the first part."""
        assert self._state is not None
        report, stats = self._report, self.parts[0].stats
        stats.namespaces = {
            "read": len(self._state.readers),
            "over_limit": report.over_limit if report else 0,
            "failed": len(self._failed) + (report.failed if report else 0),
        }
        stats.opener = report is not None and self._client.fileno() >= 0
        stats.namespace_pause = self._pace.pause
        notes = notes_about(self._client, report, self._pace)
        if any(stats.notes.get(key) != note for key, note in notes.items()) or KEYS & stats.notes.keys() - notes.keys():
            stats.notes = {key: note for key, note in stats.notes.items() if key not in KEYS} | notes


def stamped(number: int, steps: Iterator[Step]) -> Iterator[Step]:
    """The steps of the source of another namespace, with its number.

    Its flows are known to be alive only as of their own records, since it is read at its own pace.
    """
    for step in steps:
        if isinstance(step, NamespaceAddresses):
            yield NamespaceAddresses(number, step.addresses)
        elif isinstance(step, FlowBatch):
            step.namespace[:] = number
            step.flags |= _END_UNANNOUNCED
            step.datagrams = None  # decoded again, they would have no namespace
            yield step
        elif isinstance(step, ReadStarted):
            yield NamespaceRead(number, "started")
        elif isinstance(step, ReadFinished):
            yield NamespaceRead(number, "complete" if step.complete else "incomplete")
        elif isinstance(step, Lost):
            yield NamespaceRead(number, "lost")
        elif not isinstance(step, CaughtUp | MeasuringFinished):
            yield step
