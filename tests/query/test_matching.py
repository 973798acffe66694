"""Which tracked flows a question is about."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import RecordKind
from flowmap.model.address import Address
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.views import Connection, EndpointFilter, FlowFilter, Lookup
from flowmap.model.workload import Workload
from flowmap.query.matching import of_connection, of_lookups, passing, within
from flowmap.sources.base import NamespacesNamed, WorkloadsNamed
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of, replace

FLOW = Record(RecordKind.OPENED, id=1)
NAT = replace(FLOW, client="10.0.0.2", id=2, translated=("10.9.0.2", 1234, "10.8.0.1", 8080))
UDP = replace(FLOW, client="10.0.0.3", protocol=17, id=3)
LEFT_OUT = replace(FLOW, server_port=22, id=4)


def tracked(*records: Record) -> FlowAccounting:
    """An accounting that took one record a second from 101.0 on, and ignores port 22."""
    accounting = accounting_for(exclude=("tcp/22",))
    for number, record in enumerate(records, 101):
        accounting.apply(TakeStep(batch_of(record), float(number), number - 0.5))
    return accounting


def ids(accounting: FlowAccounting, rows: np.ndarray) -> list[int]:
    return [int(number) for number in accounting.table.columns.id[rows]]


def address(text: str) -> Address:
    return Address.parse(text)


@pytest.mark.parametrize(
    ("source", "ports", "destination", "protocol", "found"),
    [
        ("10.0.0.1", (40000, 9092), "10.1.0.1", 6, [1]),
        ("10.1.0.1", (9092, None), "10.0.0.1", 6, [1]),
        ("10.0.0.1", (None, 22), "10.1.0.1", 6, []),
        ("10.0.0.1", (40001, None), "10.1.0.1", 6, []),
        ("10.9.0.2", (1234, 8080), "10.8.0.1", 6, [2]),
        ("10.8.0.1", (None, None), "10.9.0.2", 6, [2]),
        ("10.0.0.2", (None, None), "10.8.0.1", 6, []),
        ("10.0.0.3", (None, None), "10.1.0.1", 17, [3]),
        ("10.0.0.3", (None, None), "10.1.0.1", 6, []),
    ],
)
def test_a_connection(
    source: str, ports: tuple[int | None, int | None], destination: str, protocol: int, found: list[int]
) -> None:
    accounting = tracked(FLOW, NAT, UDP, LEFT_OUT)
    wanted = Connection(address(source), ports[0], address(destination), ports[1], protocol)
    rows = of_connection(accounting.table, accounting.table.live(), wanted)
    assert ids(accounting, rows) == found


def test_the_newest_flow_is_last() -> None:
    accounting = tracked(replace(FLOW, client_port=7, id=9), FLOW, replace(FLOW, client_port=5, id=5))
    wanted = Connection(address("10.0.0.1"), None, address("10.1.0.1"), None, 6)
    assert ids(accounting, of_connection(accounting.table, accounting.table.live()[::-1], wanted)) == [9, 1, 5]


def test_many_lookups_in_their_order() -> None:
    accounting = tracked(FLOW, NAT, UDP, LEFT_OUT)
    lookups = [
        Lookup(EndpointFilter(address("10.9.0.2"), 1234), EndpointFilter(address("10.8.0.1"), 8080), 6),
        Lookup(EndpointFilter(address("10.0.0.9"), None), None, 6),
        Lookup(EndpointFilter(address("10.0.0.1"), 40000), None, 6),
        Lookup(EndpointFilter(address("10.0.0.3"), None), EndpointFilter(address("10.1.0.1"), None), 17),
    ]
    found = of_lookups(accounting.table, accounting.table.live(), lookups)
    assert [ids(accounting, rows) for rows in found] == [[2], [], [1], [3]]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (FlowFilter(), [1, 2, 3]),
        (FlowFilter(protocol=17), [3]),
        (FlowFilter(client=EndpointFilter(address("10.0.0.2"), None)), [2]),
        (FlowFilter(client=EndpointFilter(address("10.0.0.2"), 1)), []),
        (FlowFilter(peer="10.1.0.1:9092"), [1, 3]),
        (FlowFilter(peer="10.8.0.1"), [2]),
        (FlowFilter(since=1102.5), [1, 2, 3]),
        (FlowFilter(until=1102.5), [1, 2]),
    ],
)
def test_filters(wanted: FlowFilter, found: list[int]) -> None:
    accounting = tracked(FLOW, NAT, UDP)
    assert ids(accounting, passing(accounting, accounting.table.live(), wanted, 1000.0)) == found


@pytest.mark.parametrize(
    ("netns", "found"),
    [
        ("blue", [2, 4]),  # 4 was counted by the host; its server's socket is in blue
        ("net:[7]", [2, 4]),
        ("8", [3]),
        ("host", [1, 4]),
        ("green", []),
    ],
)
def test_a_network_namespace(netns: str, found: list[int]) -> None:
    accounting = tracked(FLOW, replace(FLOW, namespace=1, id=2), replace(FLOW, namespace=2, id=3))
    named = ((1, NetworkNamespace(7, "blue")), (2, NetworkNamespace(8)))
    workloads = ((2, Workload("/a", namespace="blue")), (3, Workload("/b", namespace="host")))
    for step in (NamespacesNamed(named), WorkloadsNamed(workloads)):
        accounting.apply(TakeStep(step, 104.0, 104.0))
    forwarded = replace(FLOW, client_port=1, id=4)
    for record in (forwarded, replace(forwarded, kind=RecordKind.MEASURED, id=0, workloads=(0, 2))):
        accounting.apply(TakeStep(batch_of(record), 105.0, 105.0))
    rows = accounting.table.live()
    assert ids(accounting, passing(accounting, rows, FlowFilter(netns=netns), 0.0)) == found
    wanted = Connection(address("10.0.0.1"), None, address("10.1.0.1"), None, 6, netns)
    assert ids(accounting, of_connection(accounting.table, rows, wanted)) == found
    several = of_lookups(accounting.table, rows, [wanted.lookup, wanted._replace(netns=None).lookup])
    assert [ids(accounting, some) for some in several] == [found, [1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("since", "until", "inside"),
    [
        (-math.inf, math.inf, True),
        (1103.5, math.inf, False),
        (1103.0, 1104.0, True),
        (-math.inf, 1099.0, False),
        (-math.inf, 1101.0, True),
    ],
)
def test_a_window_of_time(since: float, until: float, inside: bool) -> None:
    accounting = tracked(FLOW)
    columns, rows = accounting.table.columns, accounting.table.live()
    columns.born_after[rows], columns.born_by[rows], columns.ended_by[rows] = 100.0, 101.0, 103.0
    assert within(columns, rows, since, until, 1000.0).tolist() == [inside]
    columns.born_after[rows] = -math.inf
    assert within(columns, rows, since, until, 1000.0).tolist() == [inside], "an older one counts from its first record"
