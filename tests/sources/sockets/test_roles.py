"""Client or server: evidence and guesses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.model.address import Address
from flowmap.sources.sockets.roles import (
    LISTENER_LIFE,
    LISTENER_LIMIT,
    Listeners,
    LocalAddresses,
    decide,
    guess,
    pair_keys,
)
from tests.support.tcp_sockets import rows, sock, turned

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
def test_exactly_one_of_two_sockets_counts(evidence: tuple[int, ...], ports: tuple[int, int], swapped: bool) -> None:
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


def test_self_connection() -> None:
    row = rows(sock("127.0.0.1", "127.0.0.1", (5000, 5000)))
    pair, side = pair_keys(row, 1)
    minus = np.array([-1], np.int8)
    roles, guessed = decide(minus, minus, minus, minus, pair, side, np.array([True]))
    assert (side.tolist(), roles.tolist(), guessed.tolist()) == ([0], [1], [False])
