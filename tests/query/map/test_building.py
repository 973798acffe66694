"""Maps: every byte is on them once, whatever is folded or filtered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.export.series import SeriesKey, SeriesKind
from flowmap.export.series_table import SeriesTable
from flowmap.export.snapshot import Snapshot
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.model.traffic_map import OTHERS, Figures, MapQuery, Order, TrafficMap
from flowmap.model.views import PeerSeen, PeerWindow, Traffic
from flowmap.query.map.building import LiveMap, past_map

X, Y, Z = (Owner("w", f"ns-{name}", f"id-{name}", f"job {name.upper()}") for name in "xyz")
ROLE = Owner("flink.apache.org/role", "prod", "service", "(service)")
ROWS: list[tuple[SeriesKind, tuple[Owner, ...], str, str, int]] = [
    ("deployment", (X,), "", "kafka", 100),
    ("deployment", (X,), "", "redis", 10),
    ("deployment", (Y,), "", "kafka", 50),
    ("shared", (Y, Z), "", "mysql", 7),
    ("unattributed", (), "unknown", "kafka", 3),
    ("unattributed", (), "failed", "mysql", 2),
    ("internal", (ROLE,), "", "", 1),
]


def table_of(rows: list[tuple[SeriesKind, tuple[Owner, ...], str, str, int]]) -> SeriesTable:
    table = SeriesTable(
        labels=["namespace", "workspace", "deployment_id", "deployment", "peer"], max_series=1000, idle_after=60
    )
    for kind, owners, reason, peer, count in rows:
        ids = np.array([table.series(SeriesKey(kind, owners, reason, peer, "tcp"), now=0)], np.int32)
        counts = np.array([count], np.uint64)
        table.credit(ids, counts, counts * np.uint64(2), counts, counts, now=0)
        table.opened(ids)
    return table


def snapshot(rows: list[tuple[SeriesKind, tuple[Owner, ...], str, str, int]] = ROWS, **more: Any) -> Snapshot:
    infos = (DeploymentInfo(X, labels={"team": "a"}), DeploymentInfo(Y, labels={"team": "b"}))
    return Snapshot(taken_at=1000.0, series_table=table_of(rows).freeze(), deployments=infos, **more)


def drawn(found: TrafficMap) -> dict[tuple[str, str], int]:
    """Transmitted bytes of the links, by the names of their nodes."""
    left = {one.id: one.reason or one.name for one in found.deployments}
    right = {one.id: one.peer for one in found.peers}
    return {(left[link.deployment], right[link.peer]): link.figures.transmit_bytes for link in found.links}


ALL = {
    ("job X", "kafka"): 100,
    ("job X", "redis"): 10,
    ("job Y", "kafka"): 50,
    ("job Y, job Z", "mysql"): 7,
    ("unknown", "kafka"): 3,
    ("failed", "mysql"): 2,
    ("Flink cluster prod", ""): 1,
}
QUERIES: list[tuple[MapQuery, Any]] = [
    (MapQuery(), list(ALL)),
    (MapQuery(text="KAFKA"), [("job X", "kafka"), ("job Y", "kafka"), ("unknown", "kafka")]),
    (MapQuery(text="job kafka"), [("job X", "kafka"), ("job Y", "kafka")]),
    (MapQuery(text="ns-z"), [("job Y, job Z", "mysql")]),
    (MapQuery(text="id-x red"), [("job X", "redis")]),
    (MapQuery(text="nothing like it"), []),
    (MapQuery(namespace="ns-y"), [("job Y", "kafka"), ("job Y, job Z", "mysql")]),
    (MapQuery(label=("team", "b")), [("job Y", "kafka"), ("job Y, job Z", "mysql")]),
    (MapQuery(label=("team", "c")), []),
    (MapQuery(state=State.ATTRIBUTED), [("job X", "kafka"), ("job X", "redis"), ("job Y", "kafka")]),
    (MapQuery(state=State.SHARED), [("job Y, job Z", "mysql")]),
    (MapQuery(state=State.FAILED), [("failed", "mysql")]),
    (MapQuery(state=State.INTERNAL), [("Flink cluster prod", "")]),
    (MapQuery(deployment="id-z"), [("job Y, job Z", "mysql")]),
    (MapQuery(deployment="job X", peer="redis"), [("job X", "redis")]),
    (MapQuery(peer="mysql"), [("job Y, job Z", "mysql"), ("failed", "mysql")]),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES)
def test_what_a_query_finds(query: MapQuery, expected: list[tuple[str, str]]) -> None:
    found = LiveMap().build(snapshot(), query)
    assert drawn(found) == {pair: ALL[pair] for pair in expected}
    assert found.total.transmit_bytes == sum(ALL[pair] for pair in expected)
    assert found.namespaces == ("ns-x", "ns-y", "ns-z", "prod")


def test_the_largest_and_the_others() -> None:
    found = LiveMap().build(snapshot(), MapQuery(limit=1, order=Order.BYTES))
    assert drawn(found) == {
        ("job X", "kafka"): 100,
        ("job X", OTHERS): 10,
        (OTHERS, "kafka"): 50,
        (OTHERS, OTHERS): 7,
        ("unknown", "kafka"): 3,
        ("failed", OTHERS): 2,
        ("Flink cluster prod", OTHERS): 1,
    }
    assert [(one.name, one.folded) for one in found.deployments if one.id == OTHERS] == [(OTHERS, 2)]
    assert [(one.peer, one.folded) for one in found.peers] == [("kafka", 0), (OTHERS, 3)]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(0, 1 << 40)), max_size=30),
    st.integers(1, 5),
    st.sampled_from(list(Order)),
)
def test_nothing_is_lost_or_counted_twice(pairs: list[tuple[int, int, int]], limit: int, order: Order) -> None:
    owners: dict[int, tuple[SeriesKind, tuple[Owner, ...], str]] = {
        0: ("unattributed", (), "unknown"),
        6: ("shared", (X, Y), ""),
    }
    rows: list[tuple[SeriesKind, tuple[Owner, ...], str, str, int]] = [
        (*owners.get(left, ("deployment", (Owner("w", "n", f"id-{left}", "same name"),), "")), f"p{right}", count)
        for left, right, count in pairs
    ]
    found = LiveMap().build(snapshot(rows), MapQuery(limit=limit, order=order))
    expected = sum(count for *_, count in rows)
    for side in (found.deployments, found.peers, found.links):
        assert sum(one.figures.transmit_bytes for one in side) == expected
        assert sum(one.figures.receive_bytes for one in side) == 2 * expected
        assert sum(one.figures.connections for one in side) == len(rows)
    ids = {one.id for one in found.deployments}
    assert len(ids) == len(found.deployments) and {link.deployment for link in found.links} == ids
    assert len([one for one in found.deployments if one.kind in ("deployment", "shared")]) <= limit


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (MapQuery(), True),
        (MapQuery(state=State.PENDING), True),
        (MapQuery(state=State.SHARED), False),
        (MapQuery(text="x"), False),
    ],
)
def test_pending_flows_are_visible(query: MapQuery, shown: bool) -> None:
    open_flows = len(ROWS) + 2  # each row has one; of three pending flows one has ended
    found = LiveMap().build(
        snapshot(pending_flows=3, pending_transmit_bytes=40, pending_receive_bytes=1, open_flows=open_flows), query
    )
    pending = [one.figures for one in found.deployments if one.kind == "pending"]
    assert pending == ([Figures(40, 1, None, None, 3, 2)] if shown else [])
    if query == MapQuery():
        assert found.total.open_connections == open_flows
    assert found.total.transmit_bytes == sum(one.figures.transmit_bytes for one in found.links)


def test_rates_order_the_map() -> None:
    live, table = LiveMap(), table_of(ROWS)
    live.sample(Snapshot(taken_at=1000.0, series_table=table.freeze()))
    row = np.array([table.series(SeriesKey("deployment", (Y,), "", "kafka", "tcp"), now=0)], np.int32)
    table.credit(row, *(np.array([2000], np.uint64),) * 4, now=0)
    later = Snapshot(taken_at=1010.0, series_table=table.freeze())
    live.sample(later)
    first = live.build(later, MapQuery()).deployments[0]
    assert (first.name, first.figures.transmit_rate, first.figures.receive_rate) == ("job Y", 200.0, 200.0)
    largest = live.build(later, MapQuery(order=Order.OPEN_CONNECTIONS)).deployments[0]
    assert (largest.name, largest.figures.open_connections) == ("job X", 2)


def seen(owner: Owner, peer: str, count: int, state: State = State.ATTRIBUTED) -> PeerSeen:
    return PeerSeen(peer, "tcp", Traffic(count, 0, 0, 0, 1), (owner,), 0.0, 1.0, state)


def test_two_windows_compared() -> None:
    before = PeerWindow(0.0, 10.0, (seen(X, "kafka", 5), seen(X, "redis", 6), seen(Y, "kafka", 1)))
    now = PeerWindow(10.0, 20.0, (seen(X, "kafka", 7), seen(Y, "mysql", 8), seen(Z, "kafka", 9, State.AMBIGUOUS)))
    found = past_map(now, before, (), MapQuery())
    left, right = {one.id: one.name for one in found.deployments}, {one.id: one.peer for one in found.peers}
    assert {(left[one.deployment], right[one.peer]): one.change for one in found.links} == {
        ("job X", "kafka"): "",
        ("job X", "redis"): "gone",
        ("job Y", "kafka"): "gone",
        ("job Y", "mysql"): "new",
        ("no deployment", "kafka"): "new",
    }
    assert (found.new, found.gone, found.live, found.since, found.until) == (2, 2, False, 10.0, 20.0)
    assert found.total.transmit_bytes == 24
    assert past_map(now, None, (), MapQuery()).links[0].before is None
