"""Masks over the flows of a block: time, endpoints, NAT, deployment, state and peer; and exact sums."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.endpoints import EndpointKey
from flowmap.history.block import Block, encode
from flowmap.history.closed_flows import Fact
from flowmap.history.matching import BlockMatcher, FlowTuple, Wanted, microseconds, totals
from flowmap.model.address import Address
from flowmap.model.deployment import State
from tests.support.closed_flows import NOW, Flow, X, Y, closed

NAT = ("10.0.0.9", 50_000, "10.2.0.1", 19_092)
FLOWS = (
    Flow(),
    Flow(client="10.0.0.2", owners=(Y,), born=NOW - 100, ended=NOW - 50, doubt=5),
    Flow(server_port=443, owners=(X, Y), protocol=17),
    Flow(owners=(), translated=NAT),
    Flow(client="2001:db8::1", server="2001:db8::2", flags=Fact.CUT),
)
A, B = Address.parse("10.0.0.1"), Address.parse("10.1.0.1")


def matcher(*, translated: bool = False) -> BlockMatcher:
    return BlockMatcher(Block(encode(closed(*FLOWS))), translated=translated)


def peer_name(key: EndpointKey) -> str:
    return "kafka" if key.port == 9092 else ""


def numbers(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("since", "until", "may", "surely"),
    [
        (NOW - 5, NOW - 5, [0, 2, 3, 4], [0, 2, 3, 4]),
        (NOW - 103, NOW - 103, [1], []),  # its start is known to 5 s
        (NOW - 106, NOW - 106, [], []),
        (NOW - 53, NOW - 53, [1], []),
        (NOW - 60, NOW - 60, [1], [1]),
        (NOW - 200, NOW, [0, 1, 2, 3, 4], []),
        (NOW + 1, NOW + 2, [], []),
    ],
)
def test_time(since: float, until: float, may: list[int], surely: list[int]) -> None:
    assert numbers(matcher().within(since, until)) == may
    if since == until:
        assert numbers(matcher().surely_at(since)) == surely


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (FlowTuple(A, 40_000, B, 9092, 6), [0, 3]),
        (FlowTuple(B, 9092, A, 40_000, 6), [0, 3]),
        (FlowTuple(A, None, B, None, 6), [0, 3]),
        (FlowTuple(A, None, B, None, 17), [2]),
        (FlowTuple(A, 1, B, 9092, 6), []),
        (FlowTuple(Address.parse("10.0.0.9"), 50_000, Address.parse("10.2.0.1"), 19_092, 6), [3]),
        (FlowTuple(Address.parse("10.0.0.9"), 50_001, Address.parse("10.2.0.1"), 19_092, 6), []),
        (FlowTuple(Address.parse("2001:db8::2"), None, Address.parse("2001:db8::1"), None, 6), [4]),
    ],
)
def test_endpoints_from_either_side(wanted: FlowTuple, found: list[int]) -> None:
    assert numbers(matcher().between(wanted)) == found


ALWAYS = Wanted(NOW - 1000, NOW + 1000)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ALWAYS, [0, 1, 2, 3, 4]),
        (ALWAYS._replace(since=NOW - 5), [0, 2, 3, 4]),
        (ALWAYS._replace(deployment="x"), [0, 2, 4]),
        (ALWAYS._replace(deployment="id-y"), [1, 2]),
        (ALWAYS._replace(deployment="z"), []),
        (ALWAYS._replace(state=State.SHARED), [2]),
        (ALWAYS._replace(state=State.PENDING), []),
        (ALWAYS._replace(protocol=17), [2]),
        (ALWAYS._replace(client=(A, None)), [0, 2, 3]),
        (ALWAYS._replace(client=(A, 1)), []),
        (ALWAYS._replace(peer="kafka"), [0, 1, 3, 4]),
        (ALWAYS._replace(peer="10.1.0.1"), [0, 1, 2, 3]),
        (ALWAYS._replace(peer="10.1.0.1:443"), [2]),
        (ALWAYS._replace(peer="kafka", deployment="x", state=State.ATTRIBUTED), [0, 4]),
    ],
)
def test_listings(wanted: Wanted, found: list[int]) -> None:
    assert numbers(matcher().passes(wanted, peer_name)) == found


@pytest.mark.parametrize(("translated", "port"), [(False, 9092), (True, 19_092)])
def test_the_service_before_or_after_nat(translated: bool, port: int) -> None:
    (key,), position = matcher(translated=translated).services(np.array([3]))
    assert (key.port, position.tolist()) == (port, [0])


def test_sums_beyond_64_bits() -> None:
    column = np.array([2**64 - 1, 2**64 - 1, 1], np.uint64)
    assert totals([column], np.array([0, 0, 1]), 2) == [[2 * (2**64 - 1), 1]]


@pytest.mark.parametrize(("seconds", "expected"), [(1.5, 1_500_000), (-np.inf, -9 * 10**18), (np.inf, 9 * 10**18)])
def test_times_within_the_columns(seconds: float, expected: int) -> None:
    assert microseconds(seconds) == expected
