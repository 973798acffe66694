"""The sockets source against the kernel: known payloads, every order of closing.

What runs on loopback needs no permission and looks only at ports of its own; what needs a quiet table or lost packets
makes a namespace.
"""

from __future__ import annotations

import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from flowmap.errors import SourceError
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.model.address import Address
from flowmap.sources.base import CaughtUp, Lost, ReadFinished, ReadStarted, Step, WorkloadsNamed
from flowmap.sources.read_pace import LEAST
from flowmap.sources.sockets.source import SocketsSource
from tests.support.netns import Namespace, connect, namespace, needs_root
from tests.support.waiting import until

Row = dict[str, int]


class SocketsRun:
    """Runs a source by hand and keeps, of the connections to ``ports``, every record."""

    def __init__(self, source: SocketsSource) -> None:
        self.source = source
        self.rows: list[Row] = []
        self.steps: list[Step] = []
        source.open()
        self.poll()

    def poll(self) -> None:
        self._keep(self.source.poll())

    def _keep(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, FlowBatch):
                names = list(step.columns())
                self.rows += [dict(zip(names, row, strict=True)) for row in step.rows()]
            elif not isinstance(step, WorkloadsNamed):
                self.steps.append(step)

    def read(self) -> None:
        """A full read now."""
        self._keep(self.source.finish())

    def until(self, done: Callable[[], bool], *, limit: float = 5.0) -> None:
        def polled() -> bool:
            self.poll()
            return done()

        until(polled, "the records", seconds=limit)

    def of(self, port: int, kind: RecordKind | None = None) -> list[Row]:
        """Records that name ``port`` at either end."""
        rows = [row for row in self.rows if port in (row["client_port"], row["server_port"])]
        return [row for row in rows if kind is None or row["kind"] == kind]

    def closed(self, port: int, number: int = 1) -> list[Row]:
        self.until(lambda: len(self.of(port, RecordKind.CLOSED)) >= number)
        return self.of(port, RecordKind.CLOSED)


@pytest.fixture
def watcher() -> Iterator[SocketsRun]:
    source = SocketsSource(interval=3600.0)
    try:
        yield SocketsRun(source)
    finally:
        source.close()


class Connection:
    """A connection over loopback; ``client`` and ``server`` are its two sockets."""

    def __init__(self, family: int = socket.AF_INET, address: str = "127.0.0.1") -> None:
        self.listener = socket.socket(family)
        self.listener.bind((address, 0))
        self.listener.listen(1)
        self.port = self.listener.getsockname()[1]
        self.client = socket.socket(socket.AF_INET6 if ":" in address and address != "::" else socket.AF_INET)
        self.client.connect(("127.0.0.1" if address == "::" else address, self.port))
        self.server, _ = self.listener.accept()
        self.up = self.down = 0

    def send(self, up: int, down: int) -> None:
        """Move payload and wait until it arrived."""
        for sender, receiver, size in ((self.client, self.server, up), (self.server, self.client, down)):
            left = size
            if left:
                sender.sendall(b"x" * size)
            while left:
                left -= len(receiver.recv(left))
        self.up += up
        self.down += down


def _abort(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def _client_first(c: Connection) -> None:
    c.client.close()
    assert c.server.recv(1) == b""
    c.server.close()


def _client_first_unread(c: Connection) -> None:
    c.client.close()
    time.sleep(0.05)
    c.server.close()


def _server_first(c: Connection) -> None:
    c.server.close()
    assert c.client.recv(1) == b""
    c.client.close()


def _server_first_unread(c: Connection) -> None:
    c.server.close()
    time.sleep(0.05)
    c.client.close()


def _half_close_client(c: Connection) -> None:
    c.client.shutdown(socket.SHUT_WR)
    assert c.server.recv(1) == b""
    c.send(0, 777)
    c.server.close()
    assert c.client.recv(1) == b""
    c.client.close()


def _half_close_server(c: Connection) -> None:
    c.server.shutdown(socket.SHUT_WR)
    assert c.client.recv(1) == b""
    c.send(555, 0)
    c.client.close()
    assert c.server.recv(1) == b""
    c.server.close()


def _both_shut_down(c: Connection) -> None:
    c.client.shutdown(socket.SHUT_WR)
    c.server.shutdown(socket.SHUT_WR)
    time.sleep(0.05)
    c.client.close()
    c.server.close()


def _client_aborts(c: Connection) -> None:
    _abort(c.client)
    c.server.close()


def _server_aborts(c: Connection) -> None:
    _abort(c.server)
    c.client.close()


def _unread_payload(c: Connection) -> None:
    c.server.sendall(b"y" * 7)
    c.down += 7
    time.sleep(0.05)
    c.client.close()
    c.server.close()


CLOSINGS = [
    _client_first,
    _client_first_unread,
    _server_first,
    _server_first_unread,
    _half_close_client,
    _half_close_server,
    _both_shut_down,
    _client_aborts,
    _server_aborts,
    _unread_payload,
]


@pytest.mark.parametrize("close", CLOSINGS)
@pytest.mark.parametrize("seen", [False, True], ids=["short", "seen"])
@pytest.mark.parametrize("listening", [True, False], ids=["listening", "unlistened"])
def test_payload_is_exact_and_counted_once(
    watcher: SocketsRun, close: Callable[[Connection], None], seen: bool, listening: bool
) -> None:
    c = Connection()
    if not listening:
        c.listener.close()
    c.send(1000, 3000)
    if seen:
        watcher.read()
        (row,) = watcher.of(c.port)
        assert (row["kind"], row["transmit_bytes"], row["receive_bytes"]) == (RecordKind.DUMPED, 1000, 3000)
    close(c)
    (row,) = watcher.closed(c.port)
    c.listener.close()
    assert (row["transmit_bytes"], row["receive_bytes"]) == (c.up, c.down)
    assert row["server_port"] == c.port
    assert not row["flags"] & Flag.GUESSED
    assert len({(row["id"], row["client_port"]) for row in watcher.of(c.port)}) == 1
    time.sleep(0.02)
    watcher.read()
    assert [row["kind"] for row in watcher.of(c.port)].count(RecordKind.CLOSED) == 1
    assert watcher.of(c.port)[-1]["kind"] == RecordKind.CLOSED


def test_two_hundred_connections_shorter_than_a_poll(watcher: SocketsRun) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = listener.getsockname()[1]
        for number in range(200):
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
            client.sendall(b"x" * (number + 1))
            server.sendall(b"y" * (3 * number))
            first, second = (client, server) if number % 2 else (server, client)
            server.recv(1 << 16)
            left = 3 * number
            while left:
                left -= len(client.recv(left))
            first.close() if number % 2 else first.shutdown(socket.SHUT_WR)
            while second.recv(1 << 16):
                pass
            second.close()
            first.close()
        rows = watcher.closed(port, 200)
        assert len(rows) == 200
        assert sum(row["transmit_bytes"] for row in rows) == sum(range(201))
        assert sorted(row["transmit_bytes"] for row in rows) == list(range(1, 201))
        assert sorted(row["receive_bytes"] for row in rows) == [3 * number for number in range(200)]
        assert {row["server_port"] for row in rows} == {port}


@pytest.mark.parametrize(("address", "family"), [("::1", socket.AF_INET6), ("::", socket.AF_INET6)])
def test_ipv6_and_ipv4_on_a_dual_stack_socket(watcher: SocketsRun, address: str, family: int) -> None:
    c = Connection(family, address)
    c.send(10, 20)
    watcher.read()
    (seen,) = watcher.of(c.port)
    end = Address.parse("127.0.0.1" if address == "::" else "::1")
    assert Address(seen["server_high"], seen["server_low"]) == end == Address(seen["client_high"], seen["client_low"])
    _client_first(c)
    (row,) = watcher.closed(c.port)
    assert (row["transmit_bytes"], row["receive_bytes"], row["id"]) == (10, 20, seen["id"])
    c.listener.close()


def test_listeners_attempts_and_time_wait_are_not_flows(watcher: SocketsRun) -> None:
    c = Connection()
    watcher.read()
    with pytest.raises(ConnectionRefusedError), socket.socket() as refused:
        refused.bind(("127.0.0.1", 0))
        nobody = refused.getsockname()[1]
        refused.connect(("127.0.0.1", 1))
    _client_first(c)
    c.listener.close()
    watcher.closed(c.port)
    watcher.read()
    assert [row["kind"] for row in watcher.of(c.port)] == [RecordKind.DUMPED, RecordKind.CLOSED]
    assert watcher.of(nobody) == []


def test_a_socket_connected_to_itself_counts_once(watcher: SocketsRun) -> None:
    with socket.socket() as alone:
        alone.bind(("127.0.0.1", 0))
        port = alone.getsockname()[1]
        alone.connect(("127.0.0.1", port))
        alone.sendall(b"x" * 77)
        assert len(alone.recv(100)) == 77
        watcher.read()
    (seen, closed) = [*watcher.of(port), *watcher.closed(port)][:2]
    for row in (seen, closed):
        assert (row["transmit_bytes"], row["receive_bytes"]) == (77, 77)


def test_a_reset_connection_stays_until_its_application_closes_it(watcher: SocketsRun) -> None:
    c = Connection()
    c.send(5, 6)
    watcher.read()
    _abort(c.server)
    time.sleep(0.05)
    watcher.read()
    watcher.read()
    rows = watcher.of(c.port)
    assert [row["kind"] for row in rows] == [RecordKind.DUMPED] * 3
    assert [bool(row["flags"] & Flag.ENDING) for row in rows] == [False, True, True]
    c.client.close()
    c.listener.close()
    (row,) = watcher.closed(c.port)
    assert (row["transmit_bytes"], row["receive_bytes"]) == (5, 6)


def test_counters_of_a_half_closed_connection_never_fall(watcher: SocketsRun) -> None:
    c = Connection()
    c.send(100, 200)
    watcher.read()
    c.client.shutdown(socket.SHUT_WR)
    assert c.server.recv(1) == b""
    watcher.read()
    c.send(0, 50)
    watcher.read()
    rows = watcher.of(c.port)
    assert [(row["transmit_bytes"], row["receive_bytes"]) for row in rows] == [(100, 200), (100, 200), (100, 250)]
    assert [bool(row["flags"] & Flag.ENDING) for row in rows] == [False, True, True]
    for end in (c.client, c.server, c.listener):
        end.close()


def test_steps_of_a_read() -> None:
    source = SocketsSource(interval=3600.0)
    try:
        before = time.monotonic()
        watcher = SocketsRun(source)
        started, finished, caught = watcher.steps
        assert started == ReadStarted("start") and finished == ReadFinished(True)
        assert isinstance(caught, CaughtUp) and before <= caught.at <= time.monotonic()
        assert not source.facts.announces_births and source.stats.up
        watcher.poll()
        assert len(watcher.steps) == 3, "nothing but a full read tells that a connection is alive"
        assert source.deadline() > time.monotonic() + LEAST / 2
    finally:
        source.close()
        source.close()
    with pytest.raises(SourceError, match="not open"):
        next(source.poll())


@pytest.mark.kernel
@needs_root
def test_overrun_is_told_and_mended() -> None:
    with namespace() as room, room.entered():
        source = SocketsSource(interval=3600.0, receive_buffer=4096)
        try:
            watcher = SocketsRun(source)
            held = Connection()
            for _ in range(100):
                c = Connection()
                c.send(1, 1)
                _client_first(c)
                c.listener.close()
            watcher.until(lambda: source.stats.overruns > 0)
            assert Lost("overrun") in watcher.steps
            lost = watcher.steps.index(Lost("overrun"))
            watcher.until(lambda: ReadStarted("overrun") in watcher.steps)
            again = watcher.steps.index(ReadStarted("overrun"))
            assert not any(isinstance(step, CaughtUp) for step in watcher.steps[lost:again])
            assert watcher.steps[again + 1] == ReadFinished(True)
            assert isinstance(watcher.steps[again + 2], CaughtUp)
            assert watcher.of(held.port, RecordKind.DUMPED)
            for end in (held.client, held.server, held.listener):
                end.close()
        finally:
            source.close()


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Namespace, Namespace]]:
    """Two hosts on one wire."""
    with namespace() as left, namespace() as right:
        connect(left, right, "wire0", "wire0")
        left.address("wire0", "10.9.0.1/24", "fd09::1/64")
        right.address("wire0", "10.9.0.2/24", "fd09::2/64")
        yield left, right


SERVICE_PORTS = itertools.count(9092)
"""A port for every connection, so that late messages of one test's sockets do not reach the next test; below the
ephemeral ones, as services have them, since an abort between hosts leaves only the ports to tell who is the client."""


def _between(left: Namespace, right: Namespace, address: str) -> Connection:
    c = Connection.__new__(Connection)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with right.entered():
        c.listener = socket.create_server((address, next(SERVICE_PORTS)), family=family)
    c.port = c.listener.getsockname()[1]
    with left.entered():
        c.client = socket.socket(family)
        c.client.connect((address, c.port))
    c.server, _ = c.listener.accept()
    c.up = c.down = 0
    return c


# One byte may be off where the other host closes after this one had said all and looked away (notes["final_byte"]).
REMOTE = [close for close in CLOSINGS if close not in (_half_close_client, _client_aborts, _server_aborts)]


@pytest.mark.kernel
@needs_root
@pytest.mark.parametrize("bytes_count", [True, False])
def test_final_counters_without_bytes_are_not_delivered(hosts: tuple[Namespace, Namespace], bytes_count: bool) -> None:
    left, right = hosts
    with right.entered():
        source = SocketsSource(interval=3600.0, bytes_count=bytes_count)
        watcher = SocketsRun(source)
        c = _between(left, right, "10.9.0.2")
        try:
            c.send(1000, 3000)
            _half_close_server(c)
            watcher.closed(c.port)
            assert ("final_byte" in source.stats.notes) == bytes_count
        finally:
            source.close()
            c.listener.close()


@pytest.mark.kernel
@needs_root
@pytest.mark.parametrize("close", REMOTE)
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("address", ["10.9.0.2", "fd09::2"])
def test_payload_to_another_host(
    hosts: tuple[Namespace, Namespace], close: Callable[[Connection], None], side: str, address: str
) -> None:
    left, right = hosts
    with (left if side == "client" else right).entered():
        source = SocketsSource(interval=3600.0)
        watcher = SocketsRun(source)
        c = _between(left, right, address)
        try:
            c.send(1000, 3000)
            close(c)
            (row,) = watcher.closed(c.port)
            expected = (c.up, c.down)
            if (close, side) == (_half_close_server, "server"):
                expected = (c.up + 1, c.down)  # it closed first and read everything: both look the same
                assert "final_byte" in source.stats.notes
            assert (row["transmit_bytes"], row["receive_bytes"]) == expected
            assert row["server_port"] == c.port
            # Reset without a FIN and never seen before: a SYN or a FIN may be what was acknowledged beyond the payload.
            assert bool(row["flags"] & Flag.GUESSED) == ((close, side) == (_unread_payload, "client"))
        finally:
            source.close()
            c.listener.close()


@pytest.mark.kernel
@needs_root
def test_lost_packets_show_as_retransmits_and_payload_stays_exact(hosts: tuple[Namespace, Namespace]) -> None:
    left, right = hosts
    right.nft("table inet loss { chain in { type filter hook input priority 0; numgen inc mod 10 == 7 drop; }; }")
    with left.entered():
        source = SocketsSource(interval=3600.0)
        watcher = SocketsRun(source)
        c = _between(left, right, "10.9.0.2")
        try:
            c.send(400_000, 1000)
            watcher.read()
            (seen,) = watcher.of(c.port)
            assert seen["flags"] & Flag.HEALTH and seen["retransmits"] > 0 and seen["round_trip"] > 0
            assert (seen["transmit_bytes"], seen["receive_bytes"]) == (400_000, 1000)
            assert seen["transmit_packets"] > 10
        finally:
            right.nft("delete table inet loss")
            source.close()
            for end in (c.client, c.server, c.listener):
                end.close()


@pytest.mark.kernel
@needs_root
def test_an_aborted_connection_to_another_host_is_counted_as_lost(hosts: tuple[Namespace, Namespace]) -> None:
    left, right = hosts
    with left.entered():
        source = SocketsSource(interval=3600.0)
        watcher = SocketsRun(source)
        c = _between(left, right, "10.9.0.2")
        try:
            c.send(10, 20)
            watcher.read()
            c.send(1, 2)
            _abort(c.client)
            (row,) = watcher.closed(c.port)
            assert (row["transmit_bytes"], row["receive_bytes"]) == (10, 20)
            assert source.stats.lost == {"aborted": 1}
        finally:
            source.close()
            for end in (c.server, c.listener):
                end.close()


def _live_at_random(seed: int, end: float, truth: list[tuple[int, int, int, int]]) -> None:
    """Open, use and close connections in every way; note client port, server port and payload each way."""
    draw = random.Random(seed)
    while time.monotonic() < end:
        c = Connection(address=f"127.0.0.{seed + 1}")
        if draw.random() < 0.3:
            c.listener.close()
        ports = (c.client.getsockname()[1], c.port)
        c.send(draw.choice([0, 1, draw.randint(0, 50_000)]), draw.choice([0, 1, draw.randint(0, 50_000)]))
        time.sleep(draw.choice([0, 0, 0.01, 0.1, 0.2]))
        first, second = (c.client, c.server) if draw.random() < 0.5 else (c.server, c.client)
        way = draw.choice(["close", "shutdown", "both", "abort"])
        if way == "abort":
            # What an aborting client moved since the last read is known from its server alone, which must not dawdle.
            _abort(first)
        elif way == "close":
            first.close()
            time.sleep(draw.choice([0, 0.001, 0.05]))
        else:
            first.shutdown(socket.SHUT_WR)
            second.shutdown(socket.SHUT_WR) if way == "both" else second.recv(1)
            time.sleep(draw.choice([0, 0.05, 0.2]))
        second.close()
        time.sleep(draw.choice([0, 0.05, 0.2]))
        first.close()
        c.listener.close()
        truth.append((*ports, c.up, c.down))


@pytest.mark.kernel
@needs_root
def test_conservation_in_a_crowd() -> None:
    with namespace() as room, room.entered():
        source = SocketsSource(interval=0.1)
        truth: list[tuple[int, int, int, int]] = []
        try:
            watcher = SocketsRun(source)
            end = time.monotonic() + 3
            crowd = [threading.Thread(target=_live_at_random, args=(seed, end, truth)) for seed in range(5)]
            for each in crowd:
                each.start()
            while any(each.is_alive() for each in crowd):
                watcher.poll()
                time.sleep(0.005)
            watcher.until(lambda: sum(row["kind"] == RecordKind.CLOSED for row in watcher.rows) >= len(truth))
            watcher.read()
        finally:
            source.close()
    names = ("client_port", "server_port", "transmit_bytes", "receive_bytes")
    assert sorted(truth) == sorted(
        tuple(row[n] for n in names) for row in watcher.rows if row["kind"] == RecordKind.CLOSED
    )
    last: dict[int, Row] = {}
    for row in watcher.rows:
        before = last.get(row["id"], dict.fromkeys(row, 0))
        assert before["kind"] != RecordKind.CLOSED, "nothing follows the end"
        assert all(row[name] >= before[name] for name in names[2:]), "counters never fall"
        last[row["id"]] = row
    assert {row["kind"] for row in last.values()} == {RecordKind.CLOSED}
