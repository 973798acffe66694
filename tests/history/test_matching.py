"""Masks over the flows of a block: time, endpoints, NAT, deployment, state and peer; and exact sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flowmap.flows.index.endpoints import EndpointKey
from flowmap.flows.index.lookups import LookupIndex
from flowmap.history.block import Block, encode
from flowmap.history.closed_flows import Fact
from flowmap.history.matching import BlockMatcher, microseconds, totals
from flowmap.model.address import Address
from flowmap.model.deployment import State
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.views import Connection, EndpointFilter, FlowFilter
from flowmap.model.workload import Workload
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
        (Connection(A, 40_000, B, 9092, 6), [0, 3]),
        (Connection(B, 9092, A, 40_000, 6), [0, 3]),
        (Connection(A, None, B, None, 6), [0, 3]),
        (Connection(A, None, B, None, 17), [2]),
        (Connection(A, 1, B, 9092, 6), []),
        (Connection(Address.parse("10.0.0.9"), 50_000, Address.parse("10.2.0.1"), 19_092, 6), [3]),
        (Connection(Address.parse("10.0.0.9"), 50_001, Address.parse("10.2.0.1"), 19_092, 6), []),
        (Connection(Address.parse("2001:db8::2"), None, Address.parse("2001:db8::1"), None, 6), [4]),
    ],
)
def test_endpoints_from_either_side(wanted: Connection, found: list[int]) -> None:
    assert numbers(matcher().between(wanted)) == found


ALWAYS = FlowFilter(since=NOW - 1000, until=NOW + 1000)
BLUE, GREEN = NetworkNamespace(7, "blue"), NetworkNamespace(8)


@pytest.mark.parametrize(
    ("netns", "found"),
    [("blue", [1, 3]), ("7", [1, 3]), ("net:[8]", [2]), ("host", [0, 3]), ("red", [])],
)
def test_a_network_namespace(netns: str, found: list[int]) -> None:
    flows = (Flow(), Flow(namespace=BLUE), Flow(namespace=GREEN), Flow(server_workload=Workload(namespace="blue")))
    kept = BlockMatcher(Block(encode(closed(*flows))), translated=False)
    assert numbers(kept.passes(replace(ALWAYS, netns=netns), peer_name)) == found
    wanted = Connection(A, 40_000, B, 9092, 6, netns)
    assert numbers(kept.between(wanted)) == found
    index = LookupIndex([wanted.lookup, wanted._replace(netns=None).lookup])
    assert [flows.tolist() for flows in kept.of_lookups(index)] == [found, [0, 1, 2, 3]]
    assert [kept.namespace(row) for row in range(4)] == [None, BLUE, GREEN, None]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ALWAYS, [0, 1, 2, 3, 4]),
        (replace(ALWAYS, since=NOW - 5), [0, 2, 3, 4]),
        (replace(ALWAYS, deployment="x"), [0, 2, 4]),
        (replace(ALWAYS, deployment="id-y"), [1, 2]),
        (replace(ALWAYS, deployment="z"), []),
        (replace(ALWAYS, state=State.SHARED), [2]),
        (replace(ALWAYS, state=State.PENDING), []),
        (replace(ALWAYS, protocol=17), [2]),
        (replace(ALWAYS, client=EndpointFilter(A, None)), [0, 2, 3]),
        (replace(ALWAYS, client=EndpointFilter(A, 1)), []),
        (replace(ALWAYS, peer="kafka"), [0, 1, 3, 4]),
        (replace(ALWAYS, peer="10.1.0.1"), [0, 1, 2, 3]),
        (replace(ALWAYS, peer="10.1.0.1:443"), [2]),
        (replace(ALWAYS, peer="kafka", deployment="x", state=State.ATTRIBUTED), [0, 4]),
    ],
)
def test_listings(wanted: FlowFilter, found: list[int]) -> None:
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
