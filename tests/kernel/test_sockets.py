"""The sockets source against the kernel: known payloads, every order of closing.

What runs on loopback needs no permission and looks only at ports of its own; what needs a quiet table or lost packets
makes a namespace.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from flowmap.collect.base import CaughtUp, Lost, ReadFinished, ReadStarted, Step
from flowmap.collect.sockets import SocketsSource
from flowmap.flows.address import Address
from flowmap.flows.batch import Flag, FlowBatch, Kind
from tests.kernel.netns import Namespace, connect, namespace, needs_root

Row = dict[str, int]


class Watcher:
    """Runs a source by hand and keeps, of the connections to ``ports``, every record."""

    def __init__(self, source: SocketsSource) -> None:
        self.source = source
        self.rows: list[Row] = []
        self.steps: list[Step] = []
        source.open()
        self.poll()

    def poll(self) -> None:
        for step in self.source.poll():
            if isinstance(step, FlowBatch):
                names = list(step.columns())
                self.rows += [dict(zip(names, row, strict=True)) for row in step.rows()]
            else:
                self.steps.append(step)

    def read(self) -> None:
        """A full read now."""
        self.source._next_read = time.monotonic()
        self.poll()

    def until(self, done: Callable[[], bool], *, limit: float = 5.0) -> None:
        end = time.monotonic() + limit
        while not done() and time.monotonic() < end:
            self.poll()
            time.sleep(0.01)
        assert done()

    def of(self, port: int, kind: Kind | None = None) -> list[Row]:
        """Records that name ``port`` at either end."""
        rows = [row for row in self.rows if port in (row["client_port"], row["server_port"])]
        return [row for row in rows if kind is None or row["kind"] == kind]

    def closed(self, port: int, number: int = 1) -> list[Row]:
        self.until(lambda: len(self.of(port, Kind.CLOSED)) >= number)
        return self.of(port, Kind.CLOSED)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    source = SocketsSource(interval=3600.0)
    try:
        yield Watcher(source)
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
    watcher: Watcher, close: Callable[[Connection], None], seen: bool, listening: bool
) -> None:
    c = Connection()
    if not listening:
        c.listener.close()
    c.send(1000, 3000)
    if seen:
        watcher.read()
        (row,) = watcher.of(c.port)
        assert (row["kind"], row["transmit_bytes"], row["receive_bytes"]) == (Kind.SEEN, 1000, 3000)
    close(c)
    (row,) = watcher.closed(c.port)
    c.listener.close()
    assert (row["transmit_bytes"], row["receive_bytes"]) == (c.up, c.down)
    assert row["server_port"] == c.port
    assert not row["flags"] & Flag.GUESSED
    assert len({(row["id"], row["client_port"]) for row in watcher.of(c.port)}) == 1
    time.sleep(0.15)
    watcher.read()
    assert [row["kind"] for row in watcher.of(c.port)].count(Kind.CLOSED) == 1
    assert watcher.of(c.port)[-1]["kind"] == Kind.CLOSED
