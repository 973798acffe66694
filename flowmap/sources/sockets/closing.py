"""Final records of destroyed sockets, with or without the peer's FIN among the received bytes.

A destroy notification has the counters, but neither the previous state nor whether the FIN arrived. For a connection
within this host the peer socket decides: bytes sent there are bytes received here. It also decides if it is in another
network namespace that is read (``held``, ``peers``). For other connections the TIME_WAIT socket decides most cases. The
rest is off by at most that one byte, and is counted as unsure.

What a socket alone leaves open was found by experiment on 6.18, with and without load. The side that shuts down first
and reads to the end has counted the FIN, but leaves the same TIME_WAIT socket as a side that closed first. Between
namespaces every wrong byte was of such a side, and was counted wherever its socket was read first; no lookup was late
there, and no port used again. A side without a TIME_WAIT socket is taken for the one that closed second. It is not if
it closed first while the other one still sent, as that data removes the TIME_WAIT socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from flowmap.flows.records.batch import FlowBatch, RecordKind
from flowmap.model.source import SourceStats
from flowmap.sources.sockets.held import PEER_WAIT, Held, Verdict
from flowmap.sources.sockets.peers import LIMIT
from flowmap.sources.sockets.tracker import Facts, Known, SocketTracker, closed_batch
from flowmap.wire.netlink.inet_diag import COUNTED, SENT_COUNTED, TIMER_TIME_WAIT, Socket, SocketState


class Kernel(Protocol):
    """Lookups of sockets in the kernel."""

    def lookup(self, socket: Socket, *, turned: bool) -> Socket | None:
        """The socket with these endpoints or, ``turned``, its peer socket; None if there is none on this host."""


class _Waiting(NamedTuple):
    known: Known
    aborted: bool
    until: float


class Closings:
    """Turns destroy notifications into final records, one for each connection.

    Connections within this host have two notifications, in any order, with the same ``pair``. ``held``: sockets whose
    peer socket may be in another namespace.
    """

    def __init__(self, tracker: SocketTracker, kernel: Kernel, held: Held | None = None) -> None:
        self._tracker = tracker
        self._kernel = kernel
        self._held = Held() if held is None else held
        self._waiting: dict[int, _Waiting] = {}  # client sockets without a notification of the server socket
        self._servers: dict[int, Known] = {}  # server sockets destroyed first
        self._server_of: dict[int, int] = {}  # client port: pair in _servers
        self._finished: dict[int, None] = {}  # client socket recorded, server socket still open
        self._aborted: dict[int, list[float]] = {}  # by local port: deadlines of emptied sockets that no read has seen
        self.roles: dict[int, int] = {}
        """By pair: the ``side`` (see ``roles.pair_keys``) of the client."""
        self.unknown = 0
        """Aborted connections without last counters."""
        self.late = 0
        """Notifications of sockets that were forgotten before."""

    def report(self, stats: SourceStats) -> None:
        """Set the losses and doubts in the statistics of the source."""
        for reason, number in (("aborted", self.unknown), ("late", self.late)):
            if number:
                stats.lost[reason] = number
        if note := self._held.report():
            stats.notes["final_byte"] = note

    def reset(self) -> None:
        """Forget sockets that wait for a second notification: it may have been lost."""
        for table in (self._servers, self._server_of, self._finished, self.roles):
            table.clear()
        self._held.forget()

    def has_abort(self, port: int) -> bool:
        """Whether an unseen socket on this local port was just emptied by its application."""
        return port in self._aborted

    def remember_role(self, pair: int, side: int) -> None:
        """Remember ``side`` as the client of a pair."""
        self.roles[pair] = side
        _bound(self.roles)

    def deadline(self) -> float:
        """When :meth:`expire` is due; infinity if no socket waits."""
        times = [waiting.until for waiting in self._waiting.values()]
        return min([*times, *(untils[0] for untils in self._aborted.values())], default=float("inf"))

    def expire(self, now: float) -> list[Known]:
        """Records of sockets whose wait has ended; of all with ``now`` infinite."""
        for port, untils in list(self._aborted.items()):
            while untils and untils[0] <= now:
                self._pop_abort(port)
                self.unknown += 1
        done = [pair for pair, waiting in self._waiting.items() if waiting.until <= now]
        return [self._end_wait(pair) for pair in done]

    def _end_wait(self, pair: int) -> Known:
        waiting = self._waiting.pop(pair)
        self._finish(pair)
        if waiting.aborted:
            self.unknown += 1
            return waiting.known
        return self._alone(waiting.known)

    def close(self, socket: Socket, facts: Facts, now: float) -> Known | None:
        """The record of one notification, or None if there is none (yet). ``facts``: from the policy."""
        known = self._tracker.mark_destroyed(socket.cookie)
        if socket.remote_port == 0:
            return self._abort(socket, known, now)
        if known is None and self._tracker.is_forgotten(socket.cookie):
            self.late += 1
            return None
        if known is None and _never_connected(socket):
            return None
        record = Known(socket, known.facts if known else facts)
        if not record.facts["here"][0]:
            return self._apart(record, now)
        if record.facts["side"][0] == 0:
            return self._alone(record)
        return self._client(record, now) if record.facts["role"][0] > 0 else self._server(record)

    def _client(self, record: Known, now: float) -> Known | None:
        pair = int(record.facts["pair"][0])
        server = self._pop_server(pair)
        if server is not None:
            self.roles.pop(pair, None)
            return _with_fin(_beside(record, server), _unique(server.socket))
        if self._pop_abort(record.socket.remote_port):
            return self._alone(record)
        twin = self._kernel.lookup(record.socket, turned=True)
        if twin is not None and twin.info_size >= SENT_COUNTED:
            self._finish(pair)
            record.facts["peer_cgroup"] = twin.cgroup
            return _with_fin(record, _unique(twin))
        return self._wait(pair, _Waiting(record, False, now + PEER_WAIT))

    def _server(self, record: Known) -> Known | None:
        pair = int(record.facts["pair"][0])
        waiting = self._waiting.pop(pair, None)
        if waiting is not None:
            self.roles.pop(pair, None)
            client = _beside(waiting.known, record)
            return _from_server(client, record) if waiting.aborted else _with_fin(client, _unique(record.socket))
        if pair in self._finished:
            del self._finished[pair]
            self.roles.pop(pair, None)
            return None
        if record.socket.remote_port in self._aborted and self._kernel.lookup(record.socket, turned=True) is None:
            self._pop_abort(record.socket.remote_port)
            return self._instead(record)
        self._servers[pair] = record
        self._server_of[record.socket.remote_port] = pair
        _bound(self._servers)
        _bound(self._server_of)
        return None

    def _abort(self, socket: Socket, known: Known | None, now: float) -> Known | None:
        """The application aborted the connection, and the kernel cleared its counters."""
        if known is None:
            return self._abort_unseen(socket, now)
        facts = known.facts
        pair = int(facts["pair"][0])
        if not facts["here"][0]:
            self.unknown += 1
            return known
        if facts["role"][0] < 0:
            return None
        server = self._pop_server(pair)
        if server is not None:
            return _from_server(_beside(known, server), server)
        return self._wait(pair, _Waiting(known, True, now + PEER_WAIT))

    def _abort_unseen(self, socket: Socket, now: float) -> Known | None:
        if socket.send_queue == 0:  # a listener, or a socket that never connected
            return None
        if any(waiting.known.socket.remote_port == socket.local_port for waiting in self._waiting.values()):
            return None  # a server socket: the client socket has the counters
        pair = self._server_of.get(socket.local_port)
        server = self._servers.get(pair) if pair is not None else None
        if server is not None and self._kernel.lookup(server.socket, turned=True) is None:
            self._pop_server(int(server.facts["pair"][0]))
            return self._instead(server)
        untils = self._aborted.setdefault(socket.local_port, [])
        untils.append(now + PEER_WAIT)
        if len(untils) > LIMIT // 16:
            self._pop_abort(socket.local_port)
            self.unknown += 1
        return None

    def _apart(self, record: Known, now: float) -> Known | None:
        """The record of a socket whose peer socket is not in this namespace; None: it is held."""
        alone, certain = self._judge(record)
        verdict = self._held.judge(record, alone, certain=certain, now=now)
        return None if verdict is None else self._decided(record, verdict)

    def held_until(self) -> float:
        """When :meth:`release` is due; infinity if no socket is held."""
        return self._held.deadline()

    def release(self, *, everything: bool = False) -> list[Known]:
        """Records of held sockets whose peer socket was found, or not in time."""
        return [self._decided(*one) for one in self._held.release(everything=everything)]

    def linger(self) -> Iterator[FlowBatch]:
        """Records for a full read, which does not show held sockets any more: the final ones of tuples that are used
        again, and what is certain so far of the others."""
        if self._held.deadline() < float("inf"):
            reused = self._held.release_reused(self._tracker.facts[~self._tracker.facts["gone"]])
            yield closed_batch(self._decided(*one) for one in reused)
            yield closed_batch(self._held.lower_bounds(), RecordKind.DUMPED)

    def _alone(self, record: Known) -> Known:
        return self._decided(record, self._judge(record)[0])

    def _decided(self, record: Known, verdict: Verdict) -> Known:
        self._held.count(verdict)
        record.facts["fin"] = verdict.fin
        return record

    def _judge(self, record: Known) -> tuple[Verdict, bool]:
        """Decide about the FIN from this socket and its TIME_WAIT socket. True: the socket's counters are proof."""
        fin = _fin(record)
        if fin is not None:
            return Verdict(fin), True
        if not _fin_acked(record):
            return Verdict(False, unsure=True), False
        left = self._kernel.lookup(record.socket, turned=False)
        lingers = left is not None and left.timer == TIMER_TIME_WAIT
        # The side that closed second leaves no TIME_WAIT socket: it received the FIN before it sent its own. The side
        # that closed first leaves one. After close() the peer's FIN arrives when the counters have stopped, after
        # shutdown() before that.
        return Verdict(not lingers, unsure=left is not None and left.state == SocketState.TIME_WAIT), False

    def _instead(self, server: Known) -> Known:
        """Record the server socket, as its client socket was emptied."""
        self.roles.pop(int(server.facts["pair"][0]), None)
        return self._alone(server)

    def _wait(self, pair: int, waiting: _Waiting) -> Known | None:
        self._waiting[pair] = waiting
        return self._end_wait(next(iter(self._waiting))) if len(self._waiting) > LIMIT else None

    def _pop_abort(self, port: int) -> bool:
        untils = self._aborted.get(port)
        if untils is None:
            return False
        untils.pop(0)
        if not untils:
            del self._aborted[port]
        return True

    def _pop_server(self, pair: int) -> Known | None:
        server = self._servers.pop(pair, None)
        if server is not None:
            self._server_of.pop(server.socket.remote_port, None)
        return server

    def _finish(self, pair: int) -> None:
        self._finished[pair] = None
        _bound(self._finished)


def _bound(table: dict[int, Known] | dict[int, int] | dict[int, None]) -> None:
    if len(table) > LIMIT:
        del table[next(iter(table))]


def _never_connected(socket: Socket) -> bool:
    """Whether the SYN was refused or never answered: it is still in the queue."""
    return socket.bytes_acked == socket.bytes_received == 0 and socket.send_queue > 0


def _unique(socket: Socket) -> int:
    return socket.bytes_sent - socket.bytes_retransmitted


def _beside(client: Known, server: Known) -> Known:
    """The client socket, with the workload of the server socket if none is known for it."""
    if client.facts["peer"][0] == 0:
        client.facts["peer"] = server.facts["workload"]
    return client


def _with_fin(record: Known, other_sent: int) -> Known:
    """Set ``fin``: a byte received beyond those the peer sent is its FIN."""
    record.facts["fin"] = record.socket.bytes_received > other_sent
    return record


def _from_server(client: Known, server: Known) -> Known:
    """The counters of an emptied client socket, from its server socket."""
    facts, socket = client.facts, server.socket
    received = max(socket.bytes_received - int(server.facts["fin"][0]), 0)
    facts["sent"] = np.maximum(facts["sent"], np.uint64(received))
    acked = min(socket.bytes_acked, _unique(socket))
    facts["received"] = np.maximum(facts["received"], np.uint64(acked))
    return client


def _fin(record: Known) -> bool | None:
    """Whether ``bytes_received`` counts a FIN; None if the socket alone does not decide."""
    socket, facts = record.socket, record.facts
    if facts["fin"][0]:
        return True
    if facts["side"][0] == 0:  # connected to itself
        return socket.bytes_received > _unique(socket)
    if socket.bytes_received == 0 or socket.info_size < COUNTED:
        return False
    if socket.info_size >= SENT_COUNTED and socket.data_segments_in == 0:
        return True
    # With unread payload the kernel resets the connection instead of sending a FIN: the unread byte is the FIN.
    if _fin_acked(record) and socket.receive_queue == 1:
        return True
    return None


def _fin_acked(record: Known) -> bool:
    return record.socket.bytes_acked > _unique(record.socket) + bool(record.facts["syn"][0])
