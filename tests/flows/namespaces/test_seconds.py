"""Connections between network namespaces of one host: every byte is counted once.

The model is a host: namespaces with one address each, connections between them and with hosts elsewhere, sockets with
counters, and a queue of destroyed sockets for each namespace. The table sees what a source reads there, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowmap.flows.namespaces.sightings import Sightings
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.flows.records.changes import Changes
from flowmap.flows.table import FlowTable
from flowmap.model.address import Address
from tests.support.records import Record, batch_of

NAMESPACES = range(4)  # 0 is the daemon's own
ELSEWHERE, SERVICE = "192.0.2.1", "10.96.0.1"
SERVER_PORT = 9092


def address(namespace: int) -> str:
    return f"10.0.0.{namespace + 1}"


@dataclass(eq=False)
class Link:
    """One connection, and what it carried."""

    client: int | None
    """Namespace of the client; None: on another host."""
    server: int | None
    client_port: int
    through_service: bool
    """The client has connected to the address of a service, which is translated to the server's."""
    moved: list[int] = field(default_factory=lambda: [0, 0])
    ending: bool = False
    settled: bool = False
    """Whether a reader saw one of its sockets to the end."""
    seen: bool = False
    vague: bool = False
    """Seen first by the first read of a namespace that may be older than the daemon: earlier bytes do not count."""


@dataclass(eq=False)
class Socket:
    link: Link
    is_client: bool
    namespace: int
    id: int
    watched: bool
    """Its namespace was read all the time since it was opened."""
    behind: list[int] = field(default_factory=lambda: [0, 0])
    """Bytes that this end does not know of yet: what it sent is not acknowledged."""

    def record(self, kind: RecordKind, number: int) -> Record:
        link = self.link
        server = ELSEWHERE if link.server is None else address(link.server)
        if link.through_service and self.is_client:
            server = SERVICE
        sent, received = (moved - late for moved, late in zip(link.moved, self.behind, strict=True))
        return Record(
            kind,
            client=ELSEWHERE if link.client is None else address(link.client),
            client_port=link.client_port,
            server=server,
            server_port=443 if server == SERVICE else SERVER_PORT,
            id=self.id,
            counters=(sent, received, 0, 0),
            flags=(Flag.PRESENT if self.is_client else 0) | (Flag.ENDING if link.ending else 0),
            namespace=number,
        )


class Host(RuleBasedStateMachine):
    """Sockets come and go; readers look at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.table = FlowTable(500)
        self.sightings = Sightings(self.table)
        self.now = 100.0
        self.links: list[Link] = []
        self.sockets: list[Socket] = []
        self.queues: dict[int, list[Socket]] = {place: [] for place in NAMESPACES}
        self.read: dict[int, int] = {}
        """Those that are read, and the number of each."""
        self.last_number = -1
        self.counted = [0, 0]
        self.last_id = 0
        for place in NAMESPACES:
            self.start_reading(place, is_new=True)

    def start_reading(self, place: int, *, is_new: bool) -> None:
        self.last_number += 1
        number = self.read[place] = self.last_number
        if number:
            self.table.open_namespace(number, is_new=is_new)
        self.sightings.places.set(number, [Address.parse(address(place)), Address.parse("127.0.0.1")])
        self.full_read(place)

    # What happens on the host.

    @rule(
        client=st.sampled_from([*NAMESPACES, None]),
        server=st.sampled_from([*NAMESPACES, None]),
        through_service=st.booleans(),
    )
    def connect(self, client: int | None, server: int | None, through_service: bool) -> None:
        if client == server:
            return
        used = {socket.link.client_port for socket in self.sockets}
        port = min({1, 2, 3, 4, 5, 6, 7, 8, 9} - used, default=None)
        if port is None:
            return
        link = Link(client, server, port, through_service)
        self.links.append(link)
        for namespace, is_client in ((client, True), (server, False)):
            if namespace is not None:
                self.last_id += 1
                self.sockets.append(Socket(link, is_client, namespace, self.last_id, namespace in self.read))

    @precondition(lambda self: self.sockets)
    @rule(data=st.data(), sent=st.integers(0, 1000), received=st.integers(0, 1000), lag=st.booleans())
    def move(self, data: st.DataObject, sent: int, received: int, lag: bool) -> None:
        socket = data.draw(st.sampled_from(self.sockets))
        if socket.link.ending:
            return
        for one in self.sockets:
            if one.link is socket.link:
                one.behind = [0, 0]
                if lag:  # who sent it has no acknowledgement yet
                    one.behind[0 if one.is_client else 1] = sent if one.is_client else received
        socket.link.moved[0] += sent
        socket.link.moved[1] += received

    @precondition(lambda self: self.sockets)
    @rule(data=st.data())
    def shut(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.sockets)).link
        link.ending = True
        for one in self.sockets:
            if one.link is link:
                one.behind = [0, 0]

    @precondition(lambda self: any(one.link.ending for one in self.sockets))
    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        socket = data.draw(st.sampled_from([one for one in self.sockets if one.link.ending]))
        self.sockets.remove(socket)
        if socket.namespace in self.read:
            self.queues[socket.namespace].append(socket)

    @rule(place=st.sampled_from(NAMESPACES[1:]))
    def stop_reading(self, place: int) -> None:
        """The namespace cannot be read any more; its sockets live on."""
        if place in self.read:
            self.now += 1
            for changes in self.sightings.close_namespace(self.read.pop(place), self.now):
                self.add(changes)
            for socket in (*self.sockets, *self.queues[place]):
                socket.watched &= socket.namespace != place
            self.queues[place].clear()

    @rule(place=st.sampled_from(NAMESPACES))
    def read_again(self, place: int) -> None:
        if place not in self.read:
            for socket in self.sockets:
                socket.link.vague |= socket.namespace == place and not socket.link.seen
            self.start_reading(place, is_new=False)

    # What the readers do.

    @rule(data=st.data())
    def take_events(self, data: st.DataObject) -> None:
        self.drain(data.draw(st.sampled_from(sorted(self.read))))

    @rule(data=st.data())
    def read_all(self, data: st.DataObject) -> None:
        self.full_read(data.draw(st.sampled_from(sorted(self.read))))

    def drain(self, place: int) -> None:
        closed, self.queues[place] = self.queues[place], []
        if closed:
            self.apply([one.record(RecordKind.CLOSED, self.read[place]) for one in closed])
        for one in closed:
            one.link.settled |= one.watched
            one.link.seen = True

    def full_read(self, place: int) -> None:
        number = self.read[place]
        self.sightings.begin_read(number)
        shown = [one.record(RecordKind.DUMPED, number) for one in self.sockets if one.namespace == place]
        if shown:
            self.apply(shown)
        for one in self.sockets:
            one.link.seen |= one.namespace == place
        self.drain(place)
        self.now += 1
        for changes in self.sightings.end_read(complete=True, now=self.now, namespace=number):
            self.add(changes)

    def apply(self, records: list[Record]) -> None:
        self.now += 1
        self.add(self.sightings.apply(batch_of(*records), now=self.now, read_at=self.now - 0.5))

    def add(self, changes: Changes) -> None:
        for sent, received, *_ in changes.deltas.tolist():
            self.counted[0] += sent
            self.counted[1] += received
        self.table.free(changes.closed)

    # What must hold.

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        assert all(self.counted[way] <= sum(link.moved[way] for link in self.links) for way in (0, 1))

    def teardown(self) -> None:
        for link in self.links:
            link.ending = True
        for socket in list(self.sockets):
            socket.behind = [0, 0]
            self.sockets.remove(socket)
            if socket.namespace in self.read:
                self.queues[socket.namespace].append(socket)
        for place in self.read:
            self.drain(place)
        for place in self.read:
            self.full_read(place)
        for way in (0, 1):
            assert self.counted[way] >= sum(
                link.moved[way] for link in self.links if link.settled and not link.vague
            ), "no byte is lost"
        assert len(self.table) == 0


Host.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestHost = Host.TestCase
