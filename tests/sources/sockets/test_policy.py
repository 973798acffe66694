"""The role of sockets from all evidence together."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.model.address import Address
from flowmap.sources.sockets.closing import Closings
from flowmap.sources.sockets.policy import Policy
from flowmap.sources.sockets.roles import LocalAddresses
from flowmap.sources.sockets.tracker import SocketTracker
from flowmap.wire.netlink.inet_diag import TIMER_TIME_WAIT, Socket
from tests.support.tcp_sockets import CLIENT, SERVER, S, rows, sock, turned

Fields = dict[str, int]
OPENED: Fields = {"bytes_acked": 1001, "bytes_sent": 1000, "bytes_received": 3000}
UNSURE: Fields = {"state": S.CLOSE, "bytes_acked": 1001, "bytes_sent": 1000, "bytes_received": 3000}
"""A destroyed socket with one acknowledged byte beyond its payload: a SYN or a FIN."""


class Lookups:
    """The rest of connections in the kernel."""

    def __init__(self, own: Socket | None = None, peer: Socket | None = None) -> None:
        self.own, self.peer, self.asked = own, peer, 0

    def lookup(self, socket: Socket, *, turned: bool) -> Socket | None:
        self.asked += 1
        return self.peer if turned else self.own


def policy(kernel: Lookups, *local: str) -> tuple[Policy, SocketTracker]:
    tracker = SocketTracker()
    made = Policy(tracker, Closings(tracker, kernel), kernel, seed=1)
    made.ephemeral = 32768, 60999
    made.addresses = LocalAddresses({Address.parse(one) for one in local})
    return made, tracker


@pytest.mark.parametrize(
    ("socket", "role", "guessed"),
    [
        (sock()._replace(**OPENED), 1, False),
        (sock(ports=(9092, 40000), unacked=1), -1, True),
        (sock(ports=(40000, 9092), unacked=1), 1, True),
    ],
    ids=["counters", "server port", "client port"],
)
def test_role(socket: Socket, role: int, guessed: bool) -> None:
    facts, guesses = policy(Lookups())[0].judge(rows(socket))
    assert (facts["role"].tolist(), guesses.tolist()) == ([role], [guessed])
    assert facts["guessed"].tolist() == [guessed]


def test_a_role_is_decided_once() -> None:
    judge, tracker = policy(Lookups())
    first = rows(sock(ports=(9092, 40000), cookie=7, unacked=1))
    facts, _ = judge.judge(first)
    tracker.adopt(first, facts)
    later, guesses = judge.judge(rows(sock(ports=(9092, 40000), cookie=7)._replace(**OPENED)))
    assert later["role"].tolist() == [-1]
    assert not guesses.any()


def test_two_sockets_within_this_host_get_opposite_roles() -> None:
    client = sock()._replace(**OPENED)
    facts, _ = policy(Lookups(), CLIENT, SERVER)[0].judge(rows(client, turned(client)))
    assert facts["here"].all()
    assert facts["role"].tolist() == [1, -1]


def test_a_remembered_role_holds_for_the_peer_socket() -> None:
    judge, _ = policy(Lookups(), CLIENT, SERVER)
    server = sock(SERVER, CLIENT, (40001, 40000), bytes_acked=0, bytes_received=0)
    client = turned(server, **OPENED)
    facts, _ = judge.judge(rows(client))
    judge.remember(facts, np.ones(1, bool))
    found, guesses = judge.judge(rows(server))
    assert (found["role"].tolist(), guesses.tolist()) == ([-1], [False])


@pytest.mark.parametrize(
    ("own", "peer", "local", "role", "guessed"),
    [
        ({"timer": TIMER_TIME_WAIT}, None, (), -1, False),
        (None, None, (), 1, True),
        (None, {"timer": TIMER_TIME_WAIT, "state": S.TIME_WAIT}, (CLIENT, SERVER), -1, False),
    ],
    ids=["TIME_WAIT remains: a FIN", "nothing remains", "the peer has received a FIN"],
)
def test_destroyed_socket_looks_for_the_rest(
    own: Fields | None, peer: Fields | None, local: tuple[str, ...], role: int, guessed: bool
) -> None:
    destroyed = sock()._replace(**UNSURE)
    kernel = Lookups(
        None if own is None else sock()._replace(**own), None if peer is None else turned(destroyed)._replace(**peer)
    )
    facts, guesses = policy(kernel, *local)[0].judge_destroyed(rows(destroyed))
    assert (facts["role"].tolist(), guesses.tolist()) == ([role], [guessed])
    assert kernel.asked
