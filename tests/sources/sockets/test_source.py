"""The policy of the sockets source, without a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.flows.batch import Flag, FlowBatch, RecordKind
from flowmap.model.address import Address
from flowmap.sources.sockets.closing import PEER_WAIT, Closings
from flowmap.sources.sockets.kernel import ephemeral_ports
from flowmap.sources.sockets.payload import opened, received_payload, sent_payload
from flowmap.sources.sockets.roles import (
    LISTENER_LIFE,
    LISTENER_LIMIT,
    Listeners,
    LocalAddresses,
    decide,
    guess,
    pair_keys,
)
from flowmap.sources.sockets.tracker import FACTS, Facts, Known, SocketTracker, closed_batch, counts
from flowmap.wire.netlink.inet_diag import Socket, SocketState
from flowmap.wire.netlink.inet_diag_columns import SOCKETS, Rows

NOTHING = dict.fromkeys(Socket._fields, 0)
CLIENT, SERVER = "10.0.0.1", "10.0.0.2"


def sock(local: str = CLIENT, remote: str = SERVER, ports: tuple[int, int] = (40000, 9092), **fields: int) -> Socket:
    """An IPv4 connection; from the client's side unless told otherwise."""
    here, there = Address.parse(local), Address.parse(remote)
    known = {"local_high": here.high, "local_low": here.low, "remote_high": there.high, "remote_low": there.low}
    known |= {"local_port": ports[0], "remote_port": ports[1], "info_size": 280, "state": SocketState.ESTABLISHED}
    return Socket(**NOTHING | known | fields)


def turned(socket: Socket, **fields: int) -> Socket:
    """The socket at the other end."""
    ends = {
        f"{a}_{part}": getattr(socket, f"{b}_{part}")
        for a, b in (("local", "remote"), ("remote", "local"))
        for part in ("high", "low", "port")
    }
    return Socket(**NOTHING | ends | {"info_size": 280, "state": socket.state} | fields)


def rows(*sockets: Socket) -> Rows:
    return np.array([tuple(each) for each in sockets], SOCKETS)


S = SocketState
COUNTERS = [  # state, fields, opened, sent, received (with what is known of the FIN): payload is 1000 up, 3000 down
    (S.ESTABLISHED, {"bytes_acked": 1001, "bytes_sent": 1000, "bytes_received": 3000}, 1, 1000, 3000),
    (S.ESTABLISHED, {"bytes_acked": 3000, "bytes_sent": 3000, "bytes_received": 1000}, -1, 3000, 1000),
    (S.ESTABLISHED, {"bytes_acked": 1, "bytes_sent": 0, "bytes_received": 3000}, 1, 0, 3000),
    # repeated segments are sent twice and acknowledged once
    (
        S.ESTABLISHED,
        {"bytes_acked": 1001, "bytes_sent": 1500, "bytes_retransmitted": 500, "bytes_received": 3000},
        *(1, 1000, 3000),
    ),
    # in flight: nothing is proved, the role of the row says that it is a client's
    (S.ESTABLISHED, {"bytes_acked": 501, "bytes_sent": 1000, "unacked": 1, "send_queue": 500}, 0, 500, 0),
    (S.CLOSE_WAIT, {"bytes_acked": 1001, "bytes_sent": 1000, "bytes_received": 3001}, 1, 1000, 3000),
    (S.FIN_WAIT1, {"bytes_acked": 1001, "bytes_sent": 1000, "unacked": 1, "bytes_received": 3000}, 0, 1000, 3000),
    (S.FIN_WAIT2, {"bytes_acked": 1002, "bytes_sent": 1000, "bytes_received": 3000}, 1, 1000, 3000),
    (S.FIN_WAIT2, {"bytes_acked": 3001, "bytes_sent": 3000, "bytes_received": 1000}, -1, 3000, 1000),
    (S.LAST_ACK, {"bytes_acked": 1001, "bytes_sent": 1000, "unacked": 1, "bytes_received": 3001}, 0, 1000, 3000),
    (S.CLOSING, {"bytes_acked": 1001, "bytes_sent": 1000, "unacked": 1, "bytes_received": 3001}, 0, 1000, 3000),
    (S.CLOSE, {"bytes_acked": 1002, "bytes_sent": 1000, "bytes_received": 3000}, 1, 1000, 3000),
    (S.CLOSE, {"bytes_acked": 1001, "bytes_sent": 1000, "bytes_received": 3000}, 0, 1000, 3000),
    (S.CLOSE, {"bytes_acked": 3000, "bytes_sent": 3000, "bytes_received": 1000}, -1, 3000, 1000),
    # destroyed with 200 bytes and its FIN unacknowledged: what was acknowledged counts
    (
        S.CLOSE,
        {"bytes_acked": 801, "bytes_sent": 1000, "send_queue": 201, "bytes_received": 3000},
        *(1, 800, 3000),
    ),
    # before 4.19
    (S.ESTABLISHED, {"bytes_acked": 1001, "bytes_received": 3000, "info_size": 192}, 0, 1000, 3000),
    (S.FIN_WAIT2, {"bytes_acked": 1002, "bytes_received": 3000, "info_size": 192}, 0, 1000, 3000),
]


@pytest.mark.parametrize(("state", "fields", "opener", "sent", "received"), COUNTERS)
def test_payload(state: SocketState, fields: dict[str, int], opener: int, sent: int, received: int) -> None:
    row = rows(sock()._replace(**fields, state=state))
    assert opened(row).tolist() == [opener]
    assert sent_payload(row, np.array([opener >= 0])).tolist() == [sent]
    fin = np.array([state in (S.CLOSE_WAIT, S.LAST_ACK, S.CLOSING)])
    assert received_payload(row, fin).tolist() == [received]


LISTENING = [  # listener, v6only, end, held
    ("10.0.0.2", 0, "10.0.0.2", True),
    ("10.0.0.2", 0, "10.0.0.3", False),
    ("0.0.0.0", 0, "10.0.0.3", True),
    ("0.0.0.0", 0, "fd00::1", False),
    ("::", 0, "10.0.0.3", True),
    ("::", 0, "fd00::1", True),
    ("::", 1, "10.0.0.3", False),
    ("::", 1, "fd00::1", True),
    ("fd00::1", 0, "fd00::1", True),
    ("fd00::2", 0, "fd00::1", False),
]


@pytest.mark.parametrize(("listener", "v6only", "end", "held"), LISTENING)
def test_listeners(listener: str, v6only: int, end: str, held: bool) -> None:
    listeners = Listeners()
    listeners.update(rows(sock(listener, "::", (9092, 0), v6only=v6only)), now=0.0)

    def holds(port: int) -> bool:
        row = rows(sock(end, "::", (port, 0)))
        return bool(listeners.holds(row["local_high"], row["local_low"], row["local_port"])[0])

    assert (holds(9092), holds(9093)) == (held, False)
    listeners.update(rows(), now=LISTENER_LIFE)
    assert holds(9092) == held, "accepted sockets outlive their listener"
    listeners.update(rows(), now=LISTENER_LIFE + 1)
    assert not holds(9092)


def test_listeners_are_bounded() -> None:
    listeners = Listeners()
    many = [sock(str(Address(0, 0xFFFF00000000 + at)), "::", (80, 0)) for at in range(LISTENER_LIMIT + 10)]
    listeners.update(rows(*many), now=0.0)
    row = rows(many[9], many[10])
    assert listeners.holds(row["local_high"], row["local_low"], row["local_port"]).tolist() == [False, True]


def test_local_addresses() -> None:
    here = LocalAddresses({Address.parse("10.0.0.1"), Address.parse("fd00::1")})
    ends = ["127.0.0.1", "127.255.3.4", "::1", "10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2", "128.0.0.1", "::2"]
    row = rows(*(sock(end) for end in ends))
    assert here.holds(row["local_high"], row["local_low"]).tolist() == [True] * 5 + [False] * 4


GUESSES = [((40000, 9092), 1), ((9092, 40000), -1), ((8000, 9000), -1), ((40001, 40000), 1), ((9092, 9092), 0)]


@pytest.mark.parametrize(("ports", "role"), GUESSES)
def test_guess(ports: tuple[int, int], role: int) -> None:
    row = rows(sock(ports=ports), sock(ports=(ports[1], ports[0])))
    assert guess(row, (32768, 60999)).tolist() == [role, -role]


@given(
    st.tuples(*[st.integers(-1, 1)] * 6), st.sampled_from([(40000, 9092), (9092, 9092), (40001, 40000)]), st.booleans()
)
def test_of_two_sockets_exactly_one_counts(evidence: tuple[int, ...], ports: tuple[int, int], swapped: bool) -> None:
    """Whatever each of them is told, and in whatever order they come."""
    one = sock("127.0.0.1", "127.0.0.2", ports)
    both = [one, turned(one)][:: -1 if swapped else 1]
    row = rows(*both)
    pair, side = pair_keys(row, 42)
    assert pair[0] == pair[1] and side[0] == -side[1] != 0
    proof, remembered, listened = (np.array(evidence[at : at + 2], np.int8) for at in (0, 2, 4))
    roles, guessed = decide(proof, remembered, listened, guess(row, (32768, 60999)), pair, side, np.array([True, True]))
    assert sorted(roles.tolist()) == [-1, 1]
    assert guessed[0] == guessed[1]


def test_evidence_in_order() -> None:
    row = rows(sock())
    pair, side = pair_keys(row, 1)
    one, none, minus = np.array([1], np.int8), np.array([0], np.int8), np.array([-1], np.int8)
    apart = np.array([False])
    for proof, remembered, listened, role, is_guess in (
        (none, none, none, 1, True),
        (none, none, minus, -1, False),
        (one, none, minus, 1, False),
        (one, minus, one, -1, False),
    ):
        roles, guessed = decide(proof, remembered, listened, guess(row, (32768, 60999)), pair, side, apart)
        assert (roles.tolist(), guessed.tolist()) == ([role], [is_guess])


def test_a_socket_connected_to_itself_is_its_client() -> None:
    row = rows(sock("127.0.0.1", "127.0.0.1", (5000, 5000)))
    pair, side = pair_keys(row, 1)
    minus = np.array([-1], np.int8)
    roles, guessed = decide(minus, minus, minus, minus, pair, side, np.array([True]))
    assert (side.tolist(), roles.tolist(), guessed.tolist()) == ([0], [1], [False])


def facts(role: int = 1, *, here: bool = False, number: int = 1, **more: int) -> Facts:
    made = np.zeros(number, FACTS)
    made["role"], made["syn"], made["here"] = role, role > 0, here
    made["pair"], made["side"] = 77, role
    for name, value in more.items():
        made[name] = value
    return made


def test_counters_never_fall_and_go_on_past_32_bits() -> None:
    tracker = SocketTracker()
    first = rows(sock(cookie=5, bytes_acked=1001, bytes_sent=1000, bytes_received=10, segments_out=0xFFFF_FFFF))
    tracker.adopt(first, facts())
    second = rows(sock(cookie=5, bytes_acked=1001, bytes_sent=1000, bytes_received=10, segments_out=4))
    second["state"] = SocketState.CLOSE_WAIT  # a FIN was counted as payload a moment too early
    again = tracker.recall(second)
    tracker.adopt(second, again)
    assert (again["sent"][0], again["received"][0], again["out"][0]) == (1000, 10, (1 << 32) + 4)
    assert again["fin"][0]


def test_a_reused_socket_is_new() -> None:
    tracker = SocketTracker()
    tracker.adopt(rows(sock(cookie=5)), facts())
    assert tracker.recall(rows(sock(cookie=5)))["role"].tolist() == [1]
    assert tracker.recall(rows(sock(cookie=5, ports=(40001, 9092)), sock(cookie=6)))["role"].tolist() == [0, 0]


def test_a_socket_that_leaves_without_a_word_lingers_once_a_read() -> None:
    tracker = SocketTracker()
    tracker.adopt(rows(sock(cookie=5), sock(cookie=6)), facts(number=2))
    assert len(tracker.lingering()) == 0
    tracker.adopt(rows(sock(cookie=6)), tracker.recall(rows(sock(cookie=6))))
    batch = tracker.lingering()
    assert (batch.id.tolist(), batch.kind.tolist()) == ([5], [RecordKind.DUMPED]) and batch.flags[0] & Flag.ENDING
    known = tracker.mark_destroyed(5)
    assert known is not None and known.socket.cookie == 5
    assert tracker.mark_destroyed(5) is None and tracker.mark_destroyed(99) is None
    assert len(tracker.lingering()) == 0
    tracker.adopt(rows(), facts(number=0))
    tracker.drop_lingering()
    assert tracker.is_forgotten(6) and not tracker.is_forgotten(5)
    assert tracker.mark_destroyed(6) is None


def test_only_the_servers_socket_within_this_host_does_not_count() -> None:
    assert [bool(counts(facts(role, here=here))[0]) for role in (1, -1) for here in (True, False)] == [
        *(True, True),
        *(False, True),
    ]


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
def test_the_final_byte_of_a_connection_to_another_host(
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
def test_no_question_is_asked_where_the_counters_tell(case: Case, socket: Socket, received: int) -> None:
    assert [each[1] for each in case.close(socket)] == [received]
    assert (case.kernel.asked, case.closings.unsure) == (0, 0)


@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("order", ["server first", "client first", "server lives"])
def test_within_this_host_the_other_socket_tells(case: Case, fin: bool, order: str) -> None:
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


def test_the_wait_for_the_peer_ends(case: Case) -> None:
    client = ended(False)
    assert case.close(client, here=True, now=10.0) == []
    assert case.closings.expire(10.0 + PEER_WAIT / 2) == []
    case.kernel.own = sock(state=SocketState.TIME_WAIT, timer=3)
    assert case.bytes(case.closings.expire(10.0 + PEER_WAIT)) == [(1000, 3000)]
    assert case.close(server_of(client), -1, here=True, now=99.0) == [], "once only"


@pytest.mark.parametrize("server_first", [True, False])
def test_an_aborted_client_within_this_host_is_counted_from_its_server(case: Case, server_first: bool) -> None:
    client = ended(False)
    emptied = client._replace(remote_port=0, bytes_acked=0, bytes_sent=0, bytes_received=0, send_queue=65538)
    server = server_of(client, bytes_acked=3000, bytes_received=1000)
    steps = [(server, -1), (emptied, 1)] if server_first else [(emptied, 1), (server, -1)]
    records = [record for socket, role in steps for record in case.close(socket, role, here=True)]
    assert records == [(1000, 3000)]
    assert case.closings.expire(float("inf")) == [] and case.closings.unknown == 0


def test_an_aborted_connection_to_another_host_is_told(case: Case) -> None:
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


def test_a_forgotten_socket_is_not_counted_again(case: Case) -> None:
    case.tracker.adopt(rows(sock(cookie=5)), facts())
    case.tracker.adopt(rows(), facts(number=0))
    case.tracker.drop_lingering()
    assert case.close(ended(True)) == []
    assert case.closings.late == 1


PORTS: list[tuple[str | None, tuple[int, int], str]] = [
    # the file, the range, and why it is a guess
    ("1024\t65535\n", (1024, 65535), ""),
    ("0\t0\n", (0, 0), ""),
    (None, (32768, 60999), "does not exist"),
    ("nonsense", (32768, 60999), "contains no range"),
    ("1 2 3", (32768, 60999), "contains no range"),
]


@pytest.mark.parametrize(("text", "ports", "cause"), PORTS)
def test_the_range_of_client_ports(tmp_path: Path, text: str | None, ports: tuple[int, int], cause: str) -> None:
    file = tmp_path / "ip_local_port_range"
    if text is not None:
        file.write_text(text)
    found = ephemeral_ports(file)
    assert (found.first, found.last) == ports
    assert cause in found.cause and bool(found.cause) == bool(cause)
    assert list(found.notes()) == (["client_ports"] if cause else [])
    assert [finding.name for finding in found.findings("sockets")] == (["sockets.client_ports"] if cause else [])
