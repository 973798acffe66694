"""Final records of destroyed sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowmap.flows.records.batch import FlowBatch
from flowmap.sources.sockets.closing import PEER_WAIT, Closings
from flowmap.sources.sockets.tracker import Known, SocketTracker, closed_batch
from flowmap.wire.netlink.inet_diag import Socket, SocketState
from tests.support.tcp_sockets import facts, rows, sock, turned


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
    """Closings with a ledger and a kernel of its own."""

    def __init__(self) -> None:
        self.tracker, self.kernel = SocketTracker(), FakeKernel()
        self.closings = Closings(self.tracker, self.kernel)

    def close(self, socket: Socket, role: int = 1, *, here: bool = False, now: float = 0.0) -> list[tuple[int, int]]:
        record = self.closings.close(socket, facts(role, here=here), now)
        return self.bytes([record] if record else [])

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
    assert case.closings.unsure == unsure


CERTAIN = [
    (ended(True, receive_queue=1), 3000),
    (sock(state=SocketState.CLOSE, bytes_acked=2, bytes_received=1, cookie=5), 0),
    (sock(state=SocketState.CLOSE, bytes_acked=2, cookie=5), 0),
]


@pytest.mark.parametrize(("socket", "received"), CERTAIN)
def test_fin_from_counters_without_lookup(case: Case, socket: Socket, received: int) -> None:
    assert [each[1] for each in case.close(socket)] == [received]
    assert (case.kernel.asked, case.closings.unsure) == (0, 0)


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
    assert case.closings.unsure == 0


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
