"""Questions about the past of all hosts, in ClickHouse's own engine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from flowmap.clickhouse.filters import FIRST, LAST, Value
from flowmap.clickhouse.reader import MOST_HOSTS, StoreReader, slices
from flowmap.errors import QueryError
from flowmap.history.stored import StoredFlow
from flowmap.model.address import Address
from flowmap.model.deployment import Owner, State
from flowmap.model.views import Connection, EndpointFilter, FlowFilter, Lookup, PeerSeen
from tests.clickhouse.store import BILLING, EVER, ORDERS, RECENT, A, B, Store
from tests.clickhouse.test_schema import NOON, End, insert


def tcp(client: str = "10.0.0.1", port: int | None = 40000, server: str = "10.0.0.2") -> Connection:
    return Connection(Address.parse(client), port, Address.parse(server), 9092, 6)


def names(flow: StoredFlow) -> list[str]:
    return [info.owner.name for info in flow.view.deployments]


def test_a_connection_of_two_hosts_is_listed_once_with_what_each_saw(store: Store) -> None:
    insert(store.engine, A, B)
    (flow,) = store.flows()
    assert (flow.view.state, names(flow)) == (State.ATTRIBUTED, ["orders"])
    assert {one.host: (one.counts, one.transmit_bytes, one.state) for one in flow.view.observations} == {
        "a": ("ip", 100, State.ATTRIBUTED),
        "b": ("ip", 90, State.UNKNOWN),
    }
    assert flow.view.transmit_bytes == flow.view.observations[0].transmit_bytes, "the first one's, never a sum"
    assert (flow.view.started_at, flow.view.ended_at) == (NOON, NOON + 10)


def test_a_connection_of_one_host_is_listed(store: Store) -> None:
    insert(store.engine, B)
    (flow,) = store.flows()
    assert [one.host for one in flow.view.observations] == ["b"]
    assert (flow.view.state, names(flow), flow.view.transmit_bytes) == (State.UNKNOWN, [], 90)


OTHERS = [
    A._replace(number=2, client="10.0.0.3:7", owners=(BILLING,)),
    A._replace(number=3, client="10.0.0.4:7", owners=(ORDERS, BILLING), ended=40),
    A._replace(number=4, client="10.0.0.5:7", server="10.0.0.9:53", owners=()),
    A._replace(number=5, server="10.9.9.9:80", client="10.0.0.6:7", behind=("10.0.0.6:7", "10.0.0.8:8080")),
]
FILTERS = [
    (EVER, {1, 2, 3, 4, 5}),
    (FlowFilter(deployment="orders"), {1, 3, 5}),
    (FlowFilter(deployment="e"), {2, 3}),
    (FlowFilter(deployment="' OR 1 = 1 --"), set()),
    (FlowFilter(deployment="nothing"), set()),
    (FlowFilter(state=State.UNKNOWN), {4}),
    (FlowFilter(state=State.PENDING), set()),
    (FlowFilter(protocol=17), set()),
    (FlowFilter(client=EndpointFilter(Address.parse("10.0.0.3"), None)), {2}),
    (FlowFilter(client=EndpointFilter(Address.parse("10.0.0.3"), 8)), set()),
    (FlowFilter(peer="10.0.0.9"), {4}),
    (FlowFilter(peer="10.0.0.9:53"), {4}),
    (FlowFilter(peer="10.0.0.9:54"), set()),
    (FlowFilter(peer="10.9.9.9:80"), {5}),
    (FlowFilter(peer="10.0.0.8:8080"), {5}),
    (FlowFilter(peer="it's a peer"), set()),
    (FlowFilter(since=NOON + 20), {3}),
    (FlowFilter(until=NOON - 1), set()),
    (FlowFilter(since=NOON + 5, until=NOON + 6, deployment="d", state=State.ATTRIBUTED), {1, 3, 5}),
    (FlowFilter(unit="kafka"), set()),
    (FlowFilter(container="f" * 12), set()),
]


@pytest.mark.parametrize(("wanted", "numbers"), FILTERS)
def test_listings_are_filtered(store: Store, wanted: FlowFilter, numbers: set[int]) -> None:
    insert(store.engine, A, *OTHERS)
    if not wanted.of_past and wanted != EVER:
        wanted = replace(wanted, since=RECENT.since)
    ports = {"10.0.0.1": 1, "10.0.0.3": 2, "10.0.0.4": 3, "10.0.0.5": 4, "10.0.0.6": 5}
    assert {ports[str(flow.view.client.address)] for flow in store.flows(wanted)} == numbers


def test_peers_have_names_of_their_own(store: Store) -> None:
    insert(store.engine, A)
    store.peer("it's \\ a peer")
    assert len(store.flows(FlowFilter(peer="it's \\ a peer"))) == 1


@pytest.mark.parametrize(("limit", "wanted"), [(1, RECENT), (2, RECENT), (3, RECENT), (5, EVER)])
def test_pages_have_every_connection_once_the_latest_first(store: Store, limit: int, wanted: FlowFilter) -> None:
    every = [A._replace(number=n, client=f"10.0.0.1:{n}", ended=10 + n // 3) for n in range(1, 11)]
    insert(store.engine, *every, *(B._replace(number=n, client=f"10.0.0.1:{n}", ended=10 + n // 3) for n in (1, 5)))
    found: list[StoredFlow] = []
    cursor: str | None = None
    while True:
        page, cursor = store.reader.flows(wanted, limit, cursor)
        found += page
        if cursor is None:
            break
        assert len(page) == limit
    assert sorted(flow.view.client.port for flow in found) == list(range(1, 11))
    ends = [flow.view.ended_at or 0.0 for flow in found]
    assert ends == sorted(ends, reverse=True)


@pytest.mark.parametrize("cursor", ["", "h5", "1.2.3", "1.2.x.a", "99999999999999999999.1.1.a"])
def test_a_cursor_of_nothing(store: Store, cursor: str) -> None:
    with pytest.raises(QueryError, match="not a cursor"):
        store.reader.flows(EVER, 1, cursor)


AT = [
    # seconds after noon: whether the connection is found, and for sure
    (-0.5, []),
    (0.0, [True]),
    (5.0, [True]),
    (10.0, [True]),
    (10.5, []),
]


@pytest.mark.parametrize(("moment", "found"), AT)
def test_a_connection_at_a_moment(store: Store, moment: float, found: list[bool]) -> None:
    insert(store.engine, A, B, A._replace(number=2, client="10.0.0.1:7", started=100, ended=110))
    assert [flow.sure for flow in store.reader.at(tcp(), NOON + moment)] == found
    (lookup,) = store.reader.at_several([tcp().lookup], NOON + moment)
    assert [flow.sure for flow in lookup] == found


def test_a_connection_is_found_from_either_side_and_after_nat(store: Store) -> None:
    insert(store.engine, A._replace(server="10.9.9.9:80", behind=("10.5.0.1:50", "10.0.0.2:9092")))
    pairs = [("10.0.0.1", 40000, "10.9.9.9", 80), ("10.5.0.1", 50, "10.0.0.2", 9092)]
    for one, port, other, other_port in [*pairs, *((b, q, a, p) for a, p, b, q in pairs)]:
        wanted = Connection(Address.parse(one), port, Address.parse(other), other_port, 6)
        assert len(store.reader.at(wanted, NOON + 5)) == 1
        assert not store.reader.at(wanted._replace(protocol=17), NOON + 5)
        assert store.reader.last(wanted) is not None
        (found,) = store.reader.at_several([wanted.lookup], NOON + 5)
        assert len(found) == 1
    mixed = Connection(Address.parse("10.0.0.1"), 40000, Address.parse("10.0.0.2"), 9092, 6)
    assert not store.reader.at(mixed, NOON + 5)
    assert not store.reader.at_several([mixed.lookup], NOON + 5)[0]


def test_the_last_connection_between_two_endpoints(store: Store) -> None:
    assert store.reader.last(tcp()) is None
    early = A._replace(started=-9000, ended=-8000, number=9, owners=(BILLING,))
    insert(store.engine, early, A, B, A._replace(number=2, client="10.0.0.7:7", ended=50))
    found = store.reader.last(tcp())
    assert found is not None and (found.view.ended_at, names(found)) == (NOON + 10, ["orders"])
    # One host's kernel kept it for longer, and it is the other one's row that counts.
    insert(store.engine, A._replace(number=7, client="10.0.0.8:8", ended=20), B._replace(number=7, client="10.0.0.8:8"))
    insert(store.engine, B._replace(number=8, client="10.0.0.9:8", ended=20), A._replace(number=8, client="10.0.0.9:8"))
    for client in ("10.0.0.8", "10.0.0.9"):
        found = store.reader.last(tcp(client, 8))
        assert found is not None and len(found.view.observations) == 2
    found = store.reader.last(tcp(port=None))
    assert found is not None and names(found) == ["orders"]


def test_many_lookups_at_a_time(store: Store) -> None:
    insert(store.engine, A, B, *OTHERS)
    server = EndpointFilter(Address.parse("10.0.0.2"), 9092)
    wanted = [
        ("10.0.0.1", 40000, None, 1),
        ("10.0.0.1", None, None, 1),
        ("10.0.0.1", 1, None, 0),
        ("10.0.0.3", None, server, 1),
        ("10.0.0.3", None, EndpointFilter(server.address, 1), 0),
        ("10.0.0.99", None, None, 0),
        ("10.0.0.2", 9092, EndpointFilter(Address.parse("10.0.0.1"), 40000), 1),
    ]
    lookups = [Lookup(EndpointFilter(Address.parse(one), port), there, 6) for one, port, there, _ in wanted]
    assert [len(flows) for flows in store.reader.at_several(lookups, NOON + 5)] == [count for *_, count in wanted]


def totals(peers: Iterable[PeerSeen]) -> dict[tuple[tuple[str, ...], str, str], tuple[int, int]]:
    """Bytes sent and connections, by owners, state and kind of bytes."""
    found: dict[tuple[tuple[str, ...], str, str], tuple[int, int]] = {}
    for one in peers:
        place = tuple(owner.name for owner in one.owners), str(one.state), one.counts
        sent, connections = found.get(place, (0, 0))
        found[place] = sent + one.traffic.transmit_bytes, connections + one.traffic.connections
    return found


def test_peers_of_all_and_of_one_deployment(store: Store) -> None:
    payload = End("c", client="10.0.0.6:6", bytes="payload", sent=7, owners=(ORDERS,), number=6)
    insert(store.engine, A, B, *OTHERS, payload)
    of_orders = {
        (("orders",), "attributed", "ip"): (90 + 100, 2),
        (("orders", "billing"), "attributed", "ip"): (100, 1),
        (("orders",), "attributed", "payload"): (7, 1),  # never added to the others
    }
    assert totals(store.reader.peers("orders", NOON, NOON + 60).peers) == of_orders
    others = {((), "unknown", "ip"): (100, 1), (("billing",), "attributed", "ip"): (100, 1)}
    every = store.reader.peers(None, NOON, NOON + 60)
    assert totals(every.peers) == of_orders | others
    assert (every.since, every.until, every.sums_until) == (NOON, NOON + 60, None)
    (shared,) = (one for one in every.peers if len(one.owners) == 2)
    assert (shared.first_seen, shared.last_seen) == (NOON, NOON + 40)
    assert store.reader.peers(None, NOON + 50, NOON + 60).peers == ()
    assert store.reader.peers("nothing", NOON, NOON + 60).peers == ()


def test_peers_without_a_name_are_endpoints(store: Store) -> None:
    insert(store.engine, A, *OTHERS)
    found = {one.peer: one.traffic.connections for one in store.reader.peers(None, NOON, NOON + 60).peers}
    assert found == {"10.0.0.2:9092": 1, "10.0.0.9:53": 1, "10.0.0.8:8080": 1}
    before = StoreReader(store.server, translated_ends=False, clock=lambda: NOON + 60)
    assert "10.9.9.9:80" in {one.peer for one in before.peers(None, NOON, NOON + 60).peers}


def test_a_deployment_that_nothing_names_is_called_by_its_key(store: Store) -> None:
    insert(store.engine, A._replace(owners=("w/n/?",)))
    (flow,) = store.flows()
    assert [info.owner for info in flow.view.deployments] == [Owner("", "", "w/n/?", "w/n/?")]


def test_a_renamed_deployment_has_its_newest_name_everywhere(store: Store) -> None:
    insert(store.engine, A)
    store.name(ORDERS, "orders-2")
    (flow,) = store.flows(FlowFilter(deployment="orders-2"))
    assert names(flow) == ["orders-2"]
    assert not store.flows(FlowFilter(deployment="orders"))


def test_hosts_that_are_behind_are_named(store: Store) -> None:
    store.host("web-3", NOON - 3600)
    store.host("web-4", NOON + 59)
    line = "web-3 is behind: its connections that ended after 2026-11-30T11:00:00Z are missing"
    assert store.reader.missing(NOON - 60, NOON + 60, rows=True) == (line,)
    assert store.reader.missing(NOON - 60, NOON - 3601, rows=True) == ()
    for n in range(30):
        store.host(f"db-{n}", NOON - 3600)
    lines = store.reader.missing(NOON - 60, NOON + 60, rows=False)
    assert len(lines) == MOST_HOSTS + 1 and lines[-1] == f"{31 - MOST_HOSTS} more hosts are behind"


DAY = 86400
MIDNIGHT = NOON - DAY // 2


def test_rows_that_are_no_longer_kept_are_known_as_sums(store: Store) -> None:
    insert(store.engine, A, A._replace(number=2, client="10.0.0.1:2", started=-DAY, ended=-DAY + 10, sent=1000))
    for hours, sent in ((0, 1), (5, 2), (30, 4), (36, 8)):  # the last one of a day that still has rows
        store.sums("hours", MIDNIGHT - 2 * DAY + hours * 3600, ORDERS, sent)
    found = store.reader.peers("orders", MIDNIGHT - 2 * DAY + 1800, NOON + 60)
    assert (found.since, found.sums_until) == (MIDNIGHT - 2 * DAY, MIDNIGHT)
    assert sum(one.traffic.transmit_bytes for one in found.peers) == 1 + 2 + 4 + 8 + 100
    # A window whose rows are all kept is answered from rows.
    found = store.reader.peers("orders", MIDNIGHT, NOON + 60)
    assert (found.sums_until, sum(one.traffic.transmit_bytes for one in found.peers)) == (None, 100)
    lacking = "connections that ended before 2026-11-30T00:00:00Z are kept as sums only"
    assert store.reader.missing(MIDNIGHT - DAY, NOON, rows=True) == (lacking,)
    assert store.reader.missing(MIDNIGHT - DAY, NOON, rows=False) == ()
    assert store.reader.missing(MIDNIGHT, NOON, rows=True) == ()


def test_older_sums_are_by_day(store: Store) -> None:
    insert(store.engine, A)
    store.sums("hours", MIDNIGHT - 2 * DAY, ORDERS, 1)
    store.sums("days", MIDNIGHT - 2 * DAY, ORDERS, 1)
    store.sums("days", MIDNIGHT - 9 * DAY, ORDERS, 2)
    found = store.reader.peers("orders", MIDNIGHT - 9 * DAY + 5, MIDNIGHT)
    assert (found.since, sum(one.traffic.transmit_bytes for one in found.peers)) == (MIDNIGHT - 9 * DAY, 3)
    (peer,) = found.peers
    assert (peer.peer, peer.first_seen, peer.last_seen) == ("kafka", MIDNIGHT - 9 * DAY, MIDNIGHT - DAY)


def test_rows_that_are_too_many_are_known_as_sums(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the newest: the sums of the last minutes may not be made yet."""
    insert(store.engine, A)
    for minutes, sent in ((-60, 5), (-14, 7), (-15, 9)):
        store.sums("minutes", NOON + 60 * minutes, ORDERS, sent)
    answered = store.server.rows
    refused: list[str] = []

    def rows(sql: str, parameters: Mapping[str, Value]) -> list[list[Any]]:
        if "FROM connections" in sql and not refused:
            refused.append(sql)
            raise QueryError("the search of the store took too long")
        return answered(sql, parameters)

    monkeypatch.setattr(store.server, "rows", rows)
    found = store.reader.peers("orders", NOON - 3595, NOON + 60)
    assert (found.since, found.sums_until) == (NOON - 3600, NOON - 840)
    assert sum(one.traffic.transmit_bytes for one in found.peers) == 5 + 9 + 100
    refused.clear()
    with pytest.raises(QueryError, match="took too long"):
        store.reader.peers("orders", NOON - 800, NOON + 60)


SLICES = [
    # since, until, now, before: the first part, and how many there are at least
    (0.0, math.inf, 1e9, None, (1e9 - 60, LAST), 5),
    (1e9 - 30, math.inf, 1e9, None, (1e9 - 30, LAST), 1),
    (5e8, 6e8, 1e9, None, (6e8, LAST), 3),
    (0.0, math.inf, 1e9, 7e8, (7e8 + 1e-6 - 60, 7e8 + 1e-6), 5),
    (-math.inf, math.inf, 1e9, None, (1e9 - 60, LAST), 5),
    (2e9, math.inf, 1e9, None, (2e9, LAST), 1),
]


@pytest.mark.parametrize(("since", "until", "now", "before", "first", "count"), SLICES)
def test_slices_have_every_moment_once(
    since: float, until: float, now: float, before: float | None, first: tuple[float, float], count: int
) -> None:
    found = list(slices(since, until, now, before))
    assert found[0] == first and len(found) >= count
    assert found[-1][0] == max(since, FIRST)
    assert [begin for begin, _ in found[:-1]] == [end for _, end in found[1:]]
    assert all(begin < end for begin, end in found)


def test_a_new_store_is_answered_from_rows(store: Store) -> None:
    insert(store.engine, A)
    store.sums("hours", NOON, ORDERS, 100)
    found = store.reader.peers("orders", NOON - 5 * DAY, NOON + 60)
    assert (found.sums_until, sum(one.traffic.transmit_bytes for one in found.peers)) == (None, 100)
    assert store.reader.missing(NOON - 5 * DAY, NOON, rows=True) == ()
