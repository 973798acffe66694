"""The socket table as a source of flows: TCP payload of every connection of a namespace; needs no privilege.

A full read (sock_diag dump) at each interval shows the open connections. The destroy groups deliver the final counters
of every destroyed socket, so connections shorter than the interval count too. Not seen: UDP, other network namespaces,
and the last counters of connections that this host aborts (SO_LINGER 0), which count as lost.

Packets are TCP segments as seen by the host of the counted socket (tcpi_segs_out, tcpi_segs_in), with acknowledgements.

Only a full read proves that a connection is alive. The kernel reports nothing when the peer closes or resets it, until
the application closes its socket. So CaughtUp follows full reads only, with the time the read started.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from flowmap.errors import SourceError
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.model import namespace
from flowmap.model.address import Address
from flowmap.model.source import SourceStats
from flowmap.sources.base import (
    CaughtUp,
    Lost,
    NamespaceAddresses,
    ReadFinished,
    ReadReason,
    ReadStarted,
    Step,
    WorkloadsNamed,
)
from flowmap.sources.kinds import KINDS
from flowmap.sources.netlink_socket import NETLINK_SOCK_DIAG, NetlinkSocket
from flowmap.sources.network import OWN, Network
from flowmap.sources.read_pace import Stopwatch, pause_after
from flowmap.sources.sockets.closing import Closings
from flowmap.sources.sockets.held import PEER_WAIT, Held
from flowmap.sources.sockets.kernel import NOTE, AddressWatch, SocketQueries, take_counted
from flowmap.sources.sockets.listener_cgroups import ListenerCgroups
from flowmap.sources.sockets.payload import CONNECTED
from flowmap.sources.sockets.peers import Peers
from flowmap.sources.sockets.policy import Policy
from flowmap.sources.sockets.roles import LocalAddresses
from flowmap.sources.sockets.tracker import Facts, Known, SocketTracker, closed_batch, counts, flow_batch, set_peers
from flowmap.sources.workloads.numbering import Numbering
from flowmap.sources.workloads.processes import ProcessSearch
from flowmap.sources.workloads.selection import Selection
from flowmap.wire.netlink.inet_diag import FAMILIES, DestroyGroup, Socket
from flowmap.wire.netlink.inet_diag_columns import SOCKETS, Rows, decode_sockets

if TYPE_CHECKING:
    from flowmap.config import CollectConfig
    from flowmap.config.models import CgroupsConfig
    from flowmap.sources.namespaces.search_queue import SearchPart

RECEIVE_BUFFER = 4 << 20
"""Bytes requested for the queue of destroy notifications: 6,500 sockets closing between two reads."""

_QUERY_BUFFER = 1 << 20
_CHUNK = 256 << 10  # bytes of notifications a step: about 650 sockets
_WAITS = 8  # waits of a full read for notifications of other sockets
_OVERRUN_GAP = 1.0  # seconds at least from the end of a full read to one after an overrun


class SocketsSource:
    """TCP sockets of the network namespace of the thread that calls :meth:`open`.

    ``interval`` is the longest pause between full reads in seconds (see ``sources/read_pace``), ``receive_buffer`` the
    bytes requested for the queue of notifications. Linux 4.3 or later; before 4.19 byte counts of closing connections
    can be off by one.
    """

    facts = KINDS["sockets"].facts
    as_of = float("inf")

    def __init__(
        self,
        *,
        interval: float,
        receive_buffer: int = RECEIVE_BUFFER,
        bytes_count: bool = True,
        processes: ProcessSearch | SearchPart | None = None,
        cgroups: CgroupsConfig | None = None,
        network: Network = OWN,
        numbering: Numbering | None = None,
        pace: Callable[[float], float] | None = None,
        tells_addresses: bool = False,
        peers: Peers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``bytes_count``: whether the bytes of this source are counted, so that its losses are reported.
        ``processes``: searches for the processes of open sockets; None: they are not searched for. ``cgroups``: those
        that count; None: all. ``numbering``: of workloads, shared with other sources. ``pace``: the pause after a full
        read that took so many seconds; None: see ``sources/read_pace``. ``tells_addresses``: whether the addresses of
        the namespace are steps, because several namespaces are read; ``peers``: destroyed sockets of all of them."""
        self.stats = SourceStats()
        self._bytes_count = bytes_count
        self.interval, self._receive_buffer, self._clock = interval, receive_buffer, clock
        self._seed = int.from_bytes(os.urandom(8), "little")
        self._events: NetlinkSocket | None = None
        self._network, self._pace, self._tells_addresses = network, pace, tells_addresses
        self._held = Held(peers)
        self._numbering = Numbering() if numbering is None else numbering
        self._listener_cgroups = ListenerCgroups()
        self._processes = processes
        if cgroups is not None:
            self._select(cgroups)

    def configure(self, settings: CollectConfig) -> None:
        """Apply the time between full reads and the choice of cgroups; for the thread that reads the source."""
        self.interval = settings.sockets.interval
        self._select(settings.sockets.cgroups)

    def _select(self, cgroups: CgroupsConfig) -> None:
        self._numbering.select(Selection(cgroups.include, cgroups.exclude))

    def open(self) -> None:
        """Join the destroy groups and open the sockets for queries; SourceError if the kernel lacks them."""
        self.close()
        open_socket = self._network.open_socket
        events = open_socket(NETLINK_SOCK_DIAG, groups=DestroyGroup, receive_buffer=self._receive_buffer, chunk=_CHUNK)
        try:
            self._queries = SocketQueries(receive_buffer=_QUERY_BUFFER, open_socket=open_socket)
            self._watch = AddressWatch(open_socket)
        except SourceError:
            events.close()
            raise
        self._events = events
        self._tracker = SocketTracker()
        self._listener_cgroups.forget()
        self._closings = Closings(self._tracker, self._queries, self._held)
        self._policy = Policy(self._tracker, self._closings, self._queries, seed=self._seed)
        self._next_read = self._finished_at = float("-inf")
        self._undecided: Rows = np.zeros(0, SOCKETS)  # destroyed sockets within this host without proof of the role
        self._undecided_until = float("inf")
        self._found: set[Address] | None = None  # addresses that are not reported yet
        self._missed = False  # an overrun since the last complete read began
        self.stats.receive_buffer = events.receive_buffer
        self.stats.up = True

    def close(self) -> None:
        """Close the descriptors; safe to call twice."""
        self.stats.up = False
        if self._events is not None:
            for socket in (self._events, self._queries, self._watch):
                socket.close()
            self._events = None
            self._held.leave()

    def fileno(self) -> int:
        """Readable while notifications are waiting; -1 while closed."""
        return -1 if self._events is None else self._events.fileno()

    def deadline(self) -> float:
        """When the next full read is due, a slice of the search for processes, or the end of a destroyed socket's wait
        for its peer socket."""
        due = min(self._next_read, self._closings.held_until())
        if self._missed:
            due = min(due, self._finished_at + self._gap())
        if self._processes is not None:
            due = min(due, self._processes.deadline())
        return min(due, self._wait_deadline())

    def _wait_deadline(self) -> float:
        return min(self._closings.deadline(), self._undecided_until)

    def poll(self) -> Iterator[Step]:
        """A full read if due, else the waiting notifications."""
        if self._events is None:
            raise SourceError("the sockets source is not open")
        if self._processes is not None:
            self._processes.step()
        try:
            reason = self._due(self._clock())
            yield from self._read_all(reason) if reason else self._drain(self._events)
        except SourceError:
            self.stats.up = False
            yield from self._released(everything=True)
            raise

    def finish(self) -> Iterator[Step]:
        """A full read, and what still waits."""
        if self._next_read != float("-inf"):
            self._next_read = 0.0
        yield from self.poll()
        yield from self._released(everything=True)

    def _due(self, now: float) -> ReadReason | None:
        if self._next_read == float("-inf"):
            return "start"
        if self._missed and now >= self._finished_at + self._gap():
            return "overrun"
        return "timer" if now >= self._next_read else None

    def _pause(self, seconds: float) -> float:
        return pause_after(seconds, self.interval) if self._pace is None else self._pace(seconds)

    def _gap(self) -> float:
        return max(_OVERRUN_GAP, 4 * self.stats.resync_seconds)

    def _read_all(self, reason: ReadReason) -> Iterator[Step]:
        assert self._events is not None
        began, watch = self._clock(), Stopwatch(self._clock)
        missed, self._missed = self._missed, False
        self.stats.count_resync(reason)
        yield ReadStarted(reason)
        self._read_surroundings()
        yield from self._watch.take_removed()
        parts: list[Rows] = []
        complete = True
        for family in FAMILIES:
            for part in self._queries.dump(family, CONNECTED):
                complete = complete and part.complete
                parts.append(take_counted(part.decoded, part.truncated, self.stats))
                yield FlowBatch(0)  # lets the engine do other work
        yield from self._with_names(self._dumped(np.concatenate(parts)))
        yield from self._drain(self._events)
        yield from self._drain_waiting(self._events)
        complete = complete and not self._missed
        if complete and missed:
            self._tracker.drop_lingering()
        elif complete:
            lingering = self._tracker.lingering()
            if not self._bytes_count:
                for numbers in (lingering.client_workload, lingering.server_workload):
                    numbers[numbers != 0] = self._of_another()
            yield lingering
        if complete:
            for batch in self._closings.linger():
                yield from self._with_names(batch)
        self._missed = self._missed or (missed and not complete)
        self._finished_at = self._clock()
        self.stats.resync_seconds = watch.seconds()
        dropped = self._numbering.dropped() | {"listeners": self._listener_cgroups.dropped}
        self.stats.workloads_dropped = {table: number for table, number in dropped.items() if number}
        self._next_read = self._finished_at + self._pause(watch.cost())
        yield ReadFinished(complete)
        if complete:
            yield CaughtUp(began)

    def _read_surroundings(self) -> None:
        """Read listeners, addresses and the range of ephemeral ports."""
        self._read_addresses()
        ports = self._network.client_ports()
        self._policy.ephemeral = ports.first, ports.last
        others = {key: note for key, note in self.stats.notes.items() if key != NOTE}
        self.stats.notes = others | ports.notes()
        self._listener_cgroups.update(self._read_listeners())

    def _read_addresses(self) -> None:
        if (addresses := self._watch.refresh()) is not None:
            self._policy.addresses = LocalAddresses(addresses)
            self._found = addresses
            self._held.set_addresses(addresses)

    def _read_listeners(self) -> Rows:
        listening = self._queries.listeners()
        self._policy.listeners.update(listening, now=self._clock())
        return listening

    def _dumped(self, rows: Rows) -> FlowBatch:
        # A dump that resumes in a hash chain that changed can show a socket twice.
        _, first = np.unique(rows["cookie"], return_index=True)
        rows = rows[first]
        facts, _ = self._policy.judge(rows)
        new = facts["read"] == 0
        self._note_workloads(rows, facts)
        self._note_processes(rows, facts)
        self._tracker.adopt(rows, facts)
        self._policy.remember(facts, new)
        counted = counts(facts)
        return flow_batch(rows[counted], facts[counted], RecordKind.DUMPED)

    def _note_workloads(self, rows: Rows, facts: Facts) -> None:
        """Set the workloads of sockets that have none, and of their peer sockets on this host."""
        new = facts["workload"] == 0
        facts["workload"][new] = self._numbering.of_cgroups(rows["cgroup"][new], self._network.name)
        if new.any():
            set_peers(facts)

    def _note_processes(self, rows: Rows, facts: Facts) -> None:
        """Set the workloads of open sockets whose process was found, and search for the others."""
        if self._processes is None:
            return
        open_ = np.flatnonzero(~facts["process"] & (rows["inode"] != 0))
        if found := self._processes.take_found():
            known = np.isin(rows["inode"][open_], np.fromiter(found, rows["inode"].dtype, len(found)))
            for at in open_[known].tolist():
                process = found[int(rows["inode"][at])]
                cgroup = int(rows["cgroup"][at])
                facts["workload"][at] = self._numbering.of_process(cgroup, process, self._network.name)
            facts["process"][open_[known]] = True
            set_peers(facts)
            open_ = open_[~known]
        if self._processes.is_idle and len(open_):
            inodes, cgroups = rows["inode"][open_].tolist(), rows["cgroup"][open_].tolist()
            places = {one: self._numbering.cgroup(one) for one in set(cgroups) - self._numbering.unread()}
            wanted = {inode: places[one] for inode, one in zip(inodes, cgroups, strict=True) if one in places}
            self._processes.want(wanted)

    def _with_names(self, batch: FlowBatch) -> Iterator[Step]:
        """The batch, after the workloads that have a name since the last one."""
        left_out = self._numbering.leave_out(batch.client_workload, batch.server_workload)
        batch.flags[left_out] |= np.uint16(Flag.LEFT_OUT)
        if named := self._numbering.take_named():
            yield WorkloadsNamed(named)
        if self._found is not None and self._tells_addresses:
            yield NamespaceAddresses(namespace.OWN, tuple(sorted(self._found)))
        self._found = None
        yield batch

    def _drain_waiting(self, events: NetlinkSocket) -> Iterator[Step]:
        """Deliver all waiting sockets: a flow without a record in a full read would count as ended."""
        for _ in range(_WAITS):
            left = self._wait_deadline() - self._clock()
            if left == float("inf"):
                return
            yield from self._drain(events, wait=min(max(left, 0.001), PEER_WAIT))
        yield from self._with_names(self._expired(float("inf")))

    def _drain(self, events: NetlinkSocket, *, wait: float = 0.0) -> Iterator[Step]:
        """Deliver the queued notifications, at most about one full queue, so that a burst does not block the caller."""
        budget = 2 * self.stats.receive_buffer + _CHUNK
        while budget > 0:
            received = events.receive(wait=wait)
            budget -= max(len(received.data), 1)
            if received.starts or received.truncated:
                decoded = decode_sockets(received.data, received.starts)
                yield from self._with_names(self._closed(take_counted(decoded, received.truncated, self.stats)))
            if received.overrun:
                self.stats.overruns += 1
                self._missed = True
                self._closings.reset()
                yield Lost("overrun")
            if received.drained:
                break
            wait = 0.0
        now = self._clock()
        if now >= self._wait_deadline():
            yield from self._with_names(self._expired(now))
        yield from self._released()
        if self._bytes_count:
            self._closings.report(self.stats)

    def _released(self, *, everything: bool = False) -> Iterator[Step]:
        if records := self._closings.release(everything=everything):
            yield from self._with_names(closed_batch(records))

    def _expired(self, now: float) -> FlowBatch:
        records: list[Known] = []
        if now >= self._undecided_until:
            rows, self._undecided = self._undecided, self._undecided[:0]
            self._undecided_until = float("inf")
            records = self._records(rows, self._policy.judge_destroyed(rows)[0])
        return closed_batch(records + self._closings.expire(now))

    def _closed(self, rows: Rows) -> FlowBatch:
        self._read_addresses()
        rows = np.concatenate([self._undecided, rows])
        facts, guessed = self._policy.judge_destroyed(rows)
        if guessed.any():  # the listener may be newer than the last read
            self._read_listeners()
            facts, guessed = self._policy.judge_destroyed(rows)
        later = guessed & facts["here"]
        self._undecided = rows[later]
        if not later.any():
            self._undecided_until = float("inf")
        elif self._undecided_until == float("inf"):
            self._undecided_until = self._clock() + PEER_WAIT
        return closed_batch(self._records(rows[~later], facts[~later]))

    def _records(self, rows: Rows, facts: Facts) -> list[Known]:
        new = facts["read"] == 0
        accepted = (facts["workload"] == 0) & (facts["role"] < 0) & ~facts["guessed"]
        if accepted.any():
            ports = rows["local_port"][accepted]
            rows["cgroup"][accepted] = self._listener_cgroups.of_accepted(ports, self._read_listeners())
        self._note_workloads(rows, facts)
        self._policy.remember(facts, new & (rows["remote_port"] != 0))
        now = self._clock()
        records: list[Known] = []
        for at, row in enumerate(rows.tolist()):
            record = self._closings.close(Socket(*row), facts[at : at + 1], now)
            if record is not None:
                records.append(record)
                if record.facts["peer"][0] == 0 and record.facts["peer_cgroup"][0]:
                    record.facts["peer"] = self._numbering.of_cgroups(record.facts["peer_cgroup"], self._network.name)
                if not self._bytes_count and record.facts["read"][0]:
                    record.facts["workload"], record.facts["peer"] = self._of_another(), 0
        return records

    def _of_another(self) -> int:
        """The workload in place of that of a socket which has ended, and whose record only measures: the flow has it
        from the read that showed the socket. By now its tuple may be another flow's."""
        return int(self._numbering.of_cgroups(np.zeros(1, np.uint64), self._network.name)[0])
