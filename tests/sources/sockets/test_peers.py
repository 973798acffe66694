"""Which two destroyed sockets of a host are those of one connection, and what that says about the FIN."""

from __future__ import annotations

import pytest

from flowmap.model.address import Address
from flowmap.sources.sockets import peers as peers_module
from flowmap.sources.sockets.peers import KEPT, Destroyed, Peers
from flowmap.wire.netlink.inet_diag import Socket
from tests.support.tcp_sockets import CLIENT, SERVER, sock, turned


class Host:
    """Namespaces 1, 2, … with these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.peers = Peers()
        for one in addresses:
            self.peers.set_addresses(self.peers.join(), frozenset([Address.parse(one)]))

    def offer(self, number: int, socket: Socket, *, now: float = 0.0) -> Destroyed | None:
        return self.peers.offer(number, socket, is_client=socket.remote_port < socket.local_port, now=now)


def client(sent: int, received: int, **more: int) -> Socket:
    return sock()._replace(bytes_sent=sent, bytes_received=received, **more)


def server(sent: int, received: int, **more: int) -> Socket:
    return turned(sock(), bytes_sent=sent, bytes_received=received, **more)


COUNTERS = [  # client, server: whether each received a FIN; None: not one connection
    (client(10, 31), server(30, 11), (True, True)),
    (client(10, 30), server(30, 11), (False, True)),
    (client(10, 31), server(30, 10), (True, False)),
    (client(10, 30), server(30, 10), (False, False)),
    (client(14, 31, bytes_retransmitted=4), server(30, 10), (True, False)),
    (client(10, 20), server(30, 11), (False, True)),
    (client(10, 20), server(30, 9), None),
    (client(10, 32), server(30, 10), None),
    (client(10, 30), server(30, 12), None),
]


@pytest.mark.parametrize(("one", "other", "fins"), COUNTERS)
@pytest.mark.parametrize("server_first", [False, True])
def test_counters(one: Socket, other: Socket, fins: tuple[bool, bool] | None, server_first: bool) -> None:
    host = Host(CLIENT, SERVER)
    order = [(1, one), (2, other)]
    offered = [host.offer(*each) for each in (order[::-1] if server_first else order)]
    told = [each.fin for each in (offered[::-1] if server_first else offered) if each is not None]
    assert told == list(fins or (None, None))


PLACES = [  # addresses of the namespaces: whether the client's socket is kept
    ([CLIENT], False),
    ([CLIENT, SERVER], True),
    ([CLIENT, "10.0.0.9"], True),  # perhaps a service
    ([CLIENT, SERVER, SERVER], False),
    ([CLIENT, SERVER, CLIENT], False),
    (["10.0.0.9", SERVER], False),
]


@pytest.mark.parametrize(("addresses", "kept"), PLACES)
def test_each_address_is_of_one_namespace(addresses: list[str], kept: bool) -> None:
    assert (Host(*addresses).offer(1, client(1, 1)) is not None) is kept


def test_addresses_of_a_namespace_that_is_not_read_any_more() -> None:
    host = Host(CLIENT, SERVER, SERVER)
    host.peers.leave(3)
    assert host.offer(1, client(1, 1)) is not None


def test_a_peer_socket_is_found_once() -> None:
    host = Host(CLIENT, SERVER)
    host.offer(1, client(10, 31))
    found = [host.offer(2, server(30, 11)) for _ in range(2)]
    assert [one.fin for one in found if one is not None] == [True, None]


@pytest.mark.parametrize(("later", "fin"), [(KEPT - 1, True), (KEPT + 1, None)])
def test_kept_for_as_long_as_time_wait(later: float, fin: bool | None) -> None:
    host = Host(CLIENT, SERVER)
    host.offer(1, client(10, 31))
    host.offer(1, client(1, 1, local_port=40001), now=later)
    found = host.offer(2, server(30, 11), now=later)
    assert found is not None and found.fin is fin


def test_the_oldest_is_dropped_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "LIMIT", 2)
    host = Host(CLIENT, SERVER)
    for port in range(3):
        host.offer(1, client(10, 31, local_port=40000 + port))
    found = [host.offer(2, server(30, 11, remote_port=40000 + port)) for port in (1, 2, 0)]
    assert [one.fin for one in found if one is not None] == [True, True, None]
    assert host.peers.dropped == 1
