"""Final records of destroyed sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowmap.flows.records.batch import FlowBatch, RecordKind
from flowmap.model.address import Address
from flowmap.model.source import SourceStats
from flowmap.sources.sockets import peers as peers_module
from flowmap.sources.sockets.closing import Closings
from flowmap.sources.sockets.held import PEER_WAIT, Held
from flowmap.sources.sockets.peers import Peers
from flowmap.sources.sockets.tracker import Known, SocketTracker, closed_batch
from flowmap.wire.netlink.inet_diag import Socket, SocketState
from tests.support.tcp_sockets import CLIENT, SERVER, facts, rows, sock, turned


class FakeKernel:
    """Knows the sockets it is given."""

    def __init__(self) -> None:
        self.twin: Socket | None = None
        self.own: Socket | None = None
        self.asked = 0

    def lookup(self, socket: Socket, *, turned: bool) -> Socket | None:
        self.asked += 1
        return self.twin if turned else self.own


class Case:
    """Closings with a ledger and a kernel of its own, in one namespace of a host."""

    def __init__(self, peers: Peers | None = None, *addresses: str) -> None:
        self.tracker, self.kernel = SocketTracker(), FakeKernel()
        self.peers = Peers() if peers is None else peers
        self.held = Held(self.peers)
        self.held.set_addresses(set(map(Address.parse, addresses)))
        self.closings = Closings(self.tracker, self.kernel, self.held)

    def close(self, socket: Socket, role: int = 1, *, here: bool = False, now: float = 0.0) -> list[tuple[int, int]]:
        record = self.closings.close(socket, facts(role, here=here), now)
        return self.bytes([record] if record else [])

    def release(self) -> list[tuple[int, int]]:
        return self.bytes(self.closings.release())

    @staticmethod
    def bytes(records: list[Known]) -> list[tuple[int, int]]:
        batch: FlowBatch = closed_batch(records)
        return list(zip(batch.transmit_bytes.tolist(), batch.receive_bytes.tolist(), strict=True))


@pytest.fixture
def case() -> Iterator[Case]:
    yield Case()


def ended(fin: bool, *, own_fin: bool = True, **fields: int) -> Socket:
    """A destroyed client's socket: 1000 up, 3000 down."""
    given = {"bytes_acked": 1001 + own_fin, "bytes_sent": 1000, "bytes_received": 3000 + fin, "data_segments_in": 3}
    return sock()._replace(**given | {"cookie": 5, "state": SocketState.CLOSE} | fields)


def server_of(client: Socket, **fields: int) -> Socket:
    given = {"bytes_acked": 3001, "bytes_sent": 3000, "bytes_received": 1001, "data_segments_in": 1}
    given |= {"state": SocketState.CLOSE, "cookie": 6}
    return turned(client, **given | fields)


REMNANT = [  # fin, what is left in the kernel, bytes, unsure
    (True, None, 3000, 0),  # closed second: nothing is left
    (False, sock(state=SocketState.FIN_WAIT2, timer=3), 3000, 0),
    (False, sock(state=SocketState.TIME_WAIT, timer=3), 3000, 1),
    (True, sock(state=SocketState.TIME_WAIT, timer=3), 3001, 1),  # shut down first, read to the end: off by one, told
]


@pytest.mark.parametrize(("fin", "left", "received", "unsure"), REMNANT)
def test_fin_from_the_rest_in_the_kernel(
    case: Case, fin: bool, left: Socket | None, received: int, unsure: int
) -> None:
    case.kernel.own = left
    assert case.close(ended(fin)) == [(1000, received)]
    assert case.peers.unsure == unsure


CERTAIN = [
    (ended(True, receive_queue=1), 3000),
    (sock(state=SocketState.CLOSE, bytes_acked=2, bytes_received=1, cookie=5), 0),
    (sock(state=SocketState.CLOSE, bytes_acked=2, cookie=5), 0),
]


@pytest.mark.parametrize(("socket", "received"), CERTAIN)
def test_fin_from_counters_without_lookup(case: Case, socket: Socket, received: int) -> None:
    assert [each[1] for each in case.close(socket)] == [received]
    assert (case.kernel.asked, case.peers.unsure) == (0, 0)


@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("order", ["server first", "client first", "server lives"])
def test_fin_from_the_peer_socket(case: Case, fin: bool, order: str) -> None:
    client = ended(fin)
    server = server_of(client)
    if order == "server first":
        assert case.close(server, -1, here=True) == []
        assert case.close(client, here=True) == [(1000, 3000)]
    elif order == "client first":
        assert case.close(client, here=True) == []
        assert case.closings.deadline() == PEER_WAIT
        assert case.close(server, -1, here=True) == [(1000, 3000)]
    else:
        case.kernel.twin = server_of(client, state=SocketState.CLOSE_WAIT)
        assert case.close(client, here=True) == [(1000, 3000)]
        assert case.close(server, -1, here=True) == []
    assert case.closings.deadline() == float("inf")
    assert case.closings.expire(float("inf")) == []
    assert case.peers.unsure == 0


@pytest.mark.parametrize("order", ["server first", "client first", "server lives"])
@pytest.mark.parametrize("known", [0, 8])
def test_the_workload_of_the_peer_socket(case: Case, order: str, known: int) -> None:
    """Where no read has seen both sockets, or they are destroyed in different messages."""
    client, client_facts = ended(False), facts(here=True, workload=2, peer=known)
    server, server_facts = server_of(client), facts(-1, here=True, workload=3)
    if order == "server lives":
        case.kernel.twin = server_of(client, state=SocketState.CLOSE_WAIT, cgroup=99)
    pairs = [(client, client_facts), (server, server_facts)]
    closed = pairs if order != "server first" else pairs[::-1]
    (record,) = filter(None, [case.closings.close(one, its_facts, 0.0) for one, its_facts in closed])
    told = (99, known) if order == "server lives" else (0, known or 3)
    assert (int(record.facts["peer_cgroup"][0]), int(record.facts["peer"][0])) == told


def test_wait_for_the_peer_socket(case: Case) -> None:
    client = ended(False)
    assert case.close(client, here=True, now=10.0) == []
    assert case.closings.expire(10.0 + PEER_WAIT / 2) == []
    case.kernel.own = sock(state=SocketState.TIME_WAIT, timer=3)
    assert case.bytes(case.closings.expire(10.0 + PEER_WAIT)) == [(1000, 3000)]
    assert case.close(server_of(client), -1, here=True, now=99.0) == [], "once only"


@pytest.mark.parametrize("server_first", [True, False])
def test_aborted_client_counts_from_its_server_socket(case: Case, server_first: bool) -> None:
    client = ended(False)
    emptied = client._replace(remote_port=0, bytes_acked=0, bytes_sent=0, bytes_received=0, send_queue=65538)
    server = server_of(client, bytes_acked=3000, bytes_received=1000)
    steps = [(server, -1), (emptied, 1)] if server_first else [(emptied, 1), (server, -1)]
    records = [record for socket, role in steps for record in case.close(socket, role, here=True)]
    assert records == [(1000, 3000)]
    assert case.closings.expire(float("inf")) == [] and case.closings.unknown == 0


def test_aborted_connection_to_another_host(case: Case) -> None:
    seen = sock(cookie=5, bytes_acked=11, bytes_sent=10, bytes_received=20)
    case.tracker.adopt(rows(seen), facts())
    assert case.close(seen._replace(remote_port=0, bytes_acked=0, send_queue=65538)) == [(10, 20)]
    assert case.closings.unknown == 1
    assert case.close(sock(cookie=8, ports=(40009, 0), send_queue=65538, state=SocketState.CLOSE)) == []
    assert case.closings.expire(PEER_WAIT) == [] and case.closings.unknown == 2


NO_FLOWS = [
    sock(ports=(9092, 0), state=SocketState.CLOSE),  # a listener
    sock(state=SocketState.CLOSE, send_queue=1),  # a SYN that was refused
]


@pytest.mark.parametrize("socket", NO_FLOWS)
def test_no_flow(case: Case, socket: Socket) -> None:
    assert case.close(socket) == []
    assert case.closings.expire(float("inf")) == []


def test_forgotten_socket_counts_once(case: Case) -> None:
    case.tracker.adopt(rows(sock(cookie=5)), facts())
    case.tracker.adopt(rows(), facts(number=0))
    case.tracker.drop_lingering()
    assert case.close(ended(True)) == []
    assert case.closings.late == 1


SERVICE = "10.96.0.1"
LEFT = sock(state=SocketState.TIME_WAIT, timer=3)
"""After it a socket alone counts no FIN, and is unsure."""


class Host:
    """A client and a server in two namespaces, which are read by one daemon."""

    def __init__(self) -> None:
        self.peers = Peers()
        self.client, self.server = Case(self.peers, CLIENT), Case(self.peers, SERVER)
        self.client.kernel.own = LEFT


@pytest.fixture
def host() -> Iterator[Host]:
    yield Host()


@pytest.mark.parametrize("left", [None, LEFT, sock()], ids=["nothing left", "TIME_WAIT", "port used again"])
@pytest.mark.parametrize("called", [(SERVER, 9092), (SERVICE, 80)], ids=["direct", "service"])
@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("client_first", [False, True])
def test_the_peer_socket_in_another_namespace_decides(
    host: Host, client_first: bool, fin: bool, called: tuple[str, int], left: Socket | None
) -> None:
    client, server = ended(fin), server_of(ended(fin))
    client = client._replace(remote_low=Address.parse(called[0]).low, remote_port=called[1])
    host.client.kernel.own = left
    may_wait = called[0] == SERVER or left is LEFT
    if client_first and may_wait:
        assert host.client.close(client) == []
        assert host.server.close(server, -1) == [(1000, 3000)]
        assert host.client.release() == [(1000, 3000)]
    elif not client_first:
        assert host.server.close(server, -1) == []
        assert host.client.close(client) == [(1000, 3000)]
        assert host.server.release() == [(1000, 3000)]
    assert host.peers.unsure == 0
    assert host.client.closings.held_until() == float("inf")


@pytest.mark.parametrize(("drained_at", "records"), [(10.0 + PEER_WAIT / 2, []), (10.0 + PEER_WAIT, [(1000, 3001)])])
def test_no_peer_socket_until_all_namespaces_were_read(
    host: Host, drained_at: float, records: list[tuple[int, int]]
) -> None:
    assert host.client.close(ended(True), now=10.0) == []
    host.peers.drained_at = drained_at
    assert host.client.release() == records
    assert host.peers.unsure == len(records)


NOT_HELD = [  # the addresses of a third namespace, the socket, the namespaces read: decided at once, from one socket
    pytest.param(CLIENT, ended(True), True, id="isolated networks: two have the client's address"),
    pytest.param(SERVER, ended(True), True, id="isolated networks: two have the server's address"),
    pytest.param("10.0.0.3", ended(True, info_size=200), True, id="kernel without bytes_sent"),
    pytest.param("10.0.0.3", ended(True, receive_queue=1), False, id="certain by its counters"),
]


@pytest.mark.parametrize(("third", "socket", "unsure"), NOT_HELD)
def test_decided_at_once(host: Host, third: str, socket: Socket, unsure: bool) -> None:
    Case(host.peers, third)
    assert host.client.close(socket) == [(1000, 3000 + unsure)]
    assert host.peers.unsure == unsure


def test_one_namespace_holds_nothing() -> None:
    case = Case(None, CLIENT)
    case.kernel.own = LEFT
    assert case.close(ended(True)) == [(1000, 3001)]


@pytest.mark.parametrize(
    ("server", "alone"),
    [
        ({"bytes_sent": 2998}, False),
        ({"bytes_received": 1002}, False),
        ({"bytes_sent": 5000, "bytes_received": 900}, False),
        ({"bytes_sent": 5000}, True),  # the client closed while the server still sent
    ],
)
def test_counters_of_one_connection(host: Host, server: dict[str, int], alone: bool) -> None:
    host.client.kernel.own = None  # alone, it counts the FIN
    client = ended(False)
    host.server.close(server_of(client, **server), -1)
    assert host.client.close(client) == ([(1000, 3000)] if alone else [])
    host.peers.drained_at = 1.0
    assert host.client.release() == ([] if alone else [(1000, 2999)])


def test_a_service_and_another_server_of_the_same_client_port(host: Host) -> None:
    client = ended(True, remote_low=Address.parse(SERVICE).low)
    assert host.server.close(server_of(ended(True), bytes_sent=5000, bytes_acked=5001), -1) == []
    assert host.client.close(client) == [], "the server may be another one"
    host.peers.drained_at = 1.0
    assert host.client.release() == [(1000, 3001)] and host.peers.unsure == 1


@pytest.mark.parametrize(("later", "unsure"), [(59.0, 0), (61.0, 1)])
def test_the_side_that_reads_on_closes_late(host: Host, later: float, unsure: int) -> None:
    client = ended(True)
    assert host.server.close(server_of(client), -1) == []
    host.peers.drained_at = 1.0
    assert host.server.release() == [(1000, 3000)]
    other = turned(server_of(client), local_port=40001, remote_port=9092)
    host.client.close(other._replace(bytes_sent=1, bytes_received=1), now=later)
    records = host.client.close(client, now=later)
    host.peers.drained_at = later + 1
    records += host.client.release()
    assert (1000, 3000 + unsure) in records


def test_full_table_of_peer_sockets(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "LIMIT", 1)
    first, second = ended(True), ended(True, local_port=40001)
    assert host.client.close(first) == host.client.close(second) == []
    assert host.server.close(server_of(second), -1) == [(1000, 3000)]
    host.server.close(server_of(first), -1)
    host.peers.drained_at = 1.0
    assert host.client.release() == [(1000, 3001), (1000, 3000)]
    stats = SourceStats()
    host.server.closings.report(stats)
    assert stats.notes["final_byte"] == (
        "1 closed connections may be off by one received byte: it may be the peer's FIN; "
        "1 closed sockets were dropped before their peer socket was found"
    )


def test_lost_notifications_forget_peer_sockets(host: Host) -> None:
    client = ended(True)
    assert host.server.close(server_of(client), -1) == []
    host.client.closings.reset()
    assert host.client.close(client) == []
    host.peers.drained_at = 1.0
    assert host.client.release() == [(1000, 3001)]


def test_a_full_read_shows_held_sockets(host: Host) -> None:
    """With the bytes that are certain. The final record adds the last one, if it is payload."""
    host.client.kernel.own = None
    client = ended(False)
    assert host.client.close(client) == []
    shown = [batch for batch in host.client.closings.linger() if len(batch)]
    assert [(int(one.kind[0]), int(one.receive_bytes[0])) for one in shown] == [(RecordKind.DUMPED, 2999)]
    host.server.close(server_of(client), -1)
    assert host.client.release() == [(1000, 3000)]
    assert list(host.client.closings.linger()) == []


def test_a_full_read_ends_the_wait_of_a_tuple_that_is_used_again(host: Host) -> None:
    assert host.client.close(ended(True)) == []
    host.client.tracker.adopt(rows(sock(cookie=9)), facts())
    shown = [batch for batch in host.client.closings.linger() if len(batch)]
    assert [(int(one.kind[0]), int(one.receive_bytes[0])) for one in shown] == [(RecordKind.CLOSED, 3001)]
    assert host.client.closings.held_until() == float("inf")
