"""Destroyed sockets that wait for their peer socket in another namespace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowmap.model.address import Address
from flowmap.sources.sockets.held import PEER_WAIT, Held, Verdict
from flowmap.sources.sockets.peers import Peers
from flowmap.sources.sockets.tracker import Known
from tests.support.tcp_sockets import CLIENT, SERVER, facts, sock, turned

ALONE = Verdict(False, unsure=True)
SOCKET = sock(bytes_sent=10, bytes_received=31)
PEER = turned(SOCKET, bytes_sent=30, bytes_received=11)


@pytest.fixture
def peers() -> Iterator[Peers]:
    yield Peers()


def held(peers: Peers, address: str) -> Held:
    made = Held(peers)
    made.set_addresses({Address.parse(address)})
    return made


WAITS = [  # the server's address is read, unsure, certain: whether it is held
    (True, True, False, True),
    (True, False, False, True),
    (True, False, True, False),
    (False, True, False, True),  # perhaps a service
    (False, False, False, False),
    (False, False, True, False),
]


@pytest.mark.parametrize(("read", "unsure", "certain", "waits"), WAITS)
def test_which_sockets_are_held(peers: Peers, read: bool, unsure: bool, certain: bool, waits: bool) -> None:
    client, _ = held(peers, CLIENT), held(peers, SERVER if read else "10.0.0.9")
    alone = Verdict(True, unsure)
    verdict = client.judge(Known(SOCKET, facts()), alone, certain=certain, now=5.0)
    assert verdict == (None if waits else alone)
    assert client.deadline() == (5.0 + PEER_WAIT if waits else float("inf"))


def test_released_when_the_peer_socket_is_found(peers: Peers) -> None:
    client, server = held(peers, CLIENT), held(peers, SERVER)
    assert client.judge(Known(SOCKET, facts()), ALONE, certain=False, now=0.0) is None
    assert client.release() == []
    assert server.judge(Known(PEER, facts(-1)), ALONE, certain=False, now=0.0) == Verdict(True)
    assert [verdict for _, verdict in client.release()] == [Verdict(True)]


def test_everything_is_released_at_the_end(peers: Peers) -> None:
    client, _ = held(peers, CLIENT), held(peers, SERVER)
    client.judge(Known(SOCKET, facts()), ALONE, certain=False, now=0.0)
    assert [verdict for _, verdict in client.release(everything=True)] == [ALONE]


def test_lower_bounds_change_nothing(peers: Peers) -> None:
    client, _ = held(peers, CLIENT), held(peers, SERVER)
    known = Known(SOCKET, facts())
    client.judge(known, ALONE, certain=False, now=0.0)
    assert [bool(one.facts["fin"][0]) for one in client.lower_bounds()] == [True]
    assert not known.facts["fin"][0]


def test_a_tuple_that_is_used_again(peers: Peers) -> None:
    client, _ = held(peers, CLIENT), held(peers, SERVER)
    for number, pair in enumerate((77, 78)):
        known = Known(sock(ports=(40000 + number, 9092)), facts(pair=pair))
        client.judge(known, ALONE, certain=False, now=0.0)
    assert [known.socket.local_port for known, _ in client.release_reused(facts(pair=78))] == [40001]
    assert len(client.lower_bounds()) == 1


def test_the_report_is_of_all_namespaces(peers: Peers) -> None:
    one, other = held(peers, CLIENT), held(peers, SERVER)
    assert one.report() == ""
    other.count(ALONE)
    other.count(Verdict(True))
    assert one.report() == "1 closed connections may be off by one received byte: it may be the peer's FIN"
