"""Questions about the past, over a real file beside its writer."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowmap.errors import HistoryError, QueryError
from flowmap.history.closed_flows import ClosedFlows, Fact
from flowmap.history.file import Limits
from flowmap.history.reader import HistoryReader
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import State
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.views import Connection, EndpointFilter, FlowFilter, Lookup
from flowmap.model.workload import Local, Workload
from tests.support.closed_flows import NOW, Flow, X, Y, replace
from tests.support.history import History

LIMITS = Limits(retain=1e9, max_size=16 << 20)
NOTHING = ClosedFlows.concatenate(())
EVER = FlowFilter()


AT = [
    # the moment, whether the flow is found, whether for sure
    (NOW - 10.1, []),
    (NOW - 9.0, [False]),  # it may have begun
    (NOW - 5.0, [True]),
    (NOW - 1.5, [False]),  # it may have ended
    (NOW - 0.9, []),
]


@pytest.mark.parametrize(("moment", "found"), AT)
def test_a_flow_at_a_moment(history: History, moment: float, found: list[bool]) -> None:
    history.write(Flow(born=NOW - 8, doubt=2.0, ended=NOW - 1), Flow(client_port=7), Flow(client="10.0.0.9"))
    assert history.at(moment) == found
    assert len(history.at(moment, None)) >= len(found), "without the client's port its other connection, too"


def test_the_last_flow_between_two_endpoints(history: History) -> None:
    wanted = Connection(Address.parse("10.0.0.1"), 40000, Address.parse("10.1.0.1"), 9092, 6)
    assert history.reader.last(wanted) == []
    history.write(Flow(born=NOW - 90_000, ended=NOW - 80_000), Flow(client_port=7))
    history.write(Flow(born=NOW - 8, ended=NOW - 3), Flow(born=NOW - 60, ended=NOW - 50), Flow(client="10.0.0.9"))
    (found,) = history.reader.last(wanted)
    assert found is not None and found.view.ended_at == pytest.approx(NOW - 3)
    assert history.reader.last(wanted._replace(protocol=17)) == []


def test_the_last_flows_of_several_network_namespaces(history: History) -> None:
    blue = NetworkNamespace(7, "blue")
    wanted = Connection(Address.parse("10.0.0.1"), 40000, Address.parse("10.1.0.1"), 9092, 6)
    history.write(Flow(ended=NOW - 5), Flow(ended=NOW - 4, namespace=blue), Flow(ended=NOW - 3))
    found = history.reader.last(wanted)
    assert [(one.view.namespace, one.view.ended_at) for one in found] == [(None, NOW - 3), (blue, NOW - 4)]
    (one,) = history.reader.last(wanted._replace(netns="blue"))
    assert one.view.namespace == blue


def test_a_flow_is_found_from_either_side_and_after_nat(history: History) -> None:
    history.write(Flow(translated=("10.9.0.1", 50, "10.9.0.2", 60)))
    tuples = [("10.0.0.1", 40000, "10.1.0.1", 9092), ("10.9.0.1", 50, "10.9.0.2", 60)]
    for one, one_port, other, other_port in [*tuples, *((b, q, a, p) for a, p, b, q in tuples)]:
        wanted = Connection(Address.parse(one), one_port, Address.parse(other), other_port, 6)
        assert len(history.reader.at(wanted, NOW - 5)) == 1
        assert not history.reader.at(wanted._replace(protocol=17), NOW - 5)
    assert not history.reader.at(
        Connection(Address.parse("10.0.0.1"), 40000, Address.parse("10.9.0.2"), 60, 6), NOW - 5
    )


def test_several_connections_at_a_moment(history: History) -> None:
    history.write(Flow(translated=("10.9.0.1", 50, "10.9.0.2", 60)), Flow(client_port=7, ended=NOW - 1))
    server = EndpointFilter(Address.parse("10.1.0.1"), 9092)
    wanted = [
        # address and port of the client, server, how many flows are found
        ("10.0.0.1", 40000, None, 1),
        ("10.0.0.1", None, None, 2),
        ("10.0.0.1", None, server, 2),
        ("10.9.0.1", 50, None, 1),  # after source NAT
        ("10.0.0.1", 7, server, 1),
        ("10.0.0.1", 7, EndpointFilter(server.address, 1), 0),
        ("10.1.0.1", 9092, None, 0),
        ("10.1.0.1", 9092, EndpointFilter(Address.parse("10.0.0.1"), 7), 1),
    ]
    lookups = [Lookup(EndpointFilter(Address.parse(one), port), there, 6) for one, port, there, _ in wanted]
    assert [len(flows) for flows in history.reader.at_several(lookups, NOW - 5)] == [count for *_, count in wanted]
    assert not any(history.reader.at_several(lookups, NOW - 9000))


def test_lasting_flows_are_found(history: History) -> None:
    history.write(Flow(born=NOW - 90_000, ended=NOW - 1), *(Flow(client_port=n) for n in range(1, 50)))
    assert (history.at(NOW - 80_000), history.at(NOW - 5)) == ([True], [True])
    assert history.at(NOW - 80_000, 7) == []


def test_facts_of_a_flow(history: History) -> None:
    history.write(
        Flow(
            owners=(X, Y),
            flags=Fact.GUESSED,
            translated=("10.9.0.1", 50, "10.9.0.2", 60),
            client_workload=POD,
            server_workload=KAFKA,
        ),
        Flow(flags=Fact.PREEXISTING | Fact.CUT, owners=()),
    )
    older, newer = reversed(history.reader.flows(EVER, 10).flows)
    view = older.view
    assert (view.state, [info.owner for info in view.deployments], view.guessed) == (State.SHARED, [X, Y], True)
    assert (view.transmit_bytes, view.receive_bytes, view.transmit_packets, view.receive_packets) == (100, 200, 3, 4)
    assert view.translated == (Endpoint(Address.parse("10.9.0.1"), 50), Endpoint(Address.parse("10.9.0.2"), 60))
    assert (view.started_at, view.ended_at, view.source) == (NOW - 10, NOW - 1, "scripted")
    assert [(piece.shape, piece.origin, piece.rule) for piece in older.evidence] == [
        ("client", "history", "inside"),
        ("sink", "history", "around"),
    ]
    assert (newer.view.started_at, newer.view.ended_at, newer.view.state) == (None, None, State.UNKNOWN)
    assert newer.begun_after == -math.inf
    assert (view.local, newer.view.local) == ((Local("client", POD), Local("server", KAFKA)), ())


KAFKA = Workload("/system.slice/kafka.service", unit="kafka.service")
POD = Workload("/kubepods/pod1/f", container="f" * 64, unit="cri-containerd-f.scope")

FILTERS = [
    (FlowFilter(deployment="id-x"), {1, 3}),
    (FlowFilter(deployment="y"), {2, 3}),
    (FlowFilter(deployment="z"), set()),
    (FlowFilter(state=State.UNKNOWN), {4}),
    (FlowFilter(protocol=17), {5}),
    (FlowFilter(client=EndpointFilter(Address.parse("10.0.0.7"), None)), {6}),
    (FlowFilter(client=EndpointFilter(Address.parse("10.0.0.7"), 1)), set()),
    (FlowFilter(peer="10.1.0.8"), {7}),
    (FlowFilter(peer="10.1.0.8:53"), {7}),
    (FlowFilter(peer="10.9.0.2:60"), {8}),
    (FlowFilter(peer="kafka", state=State.ATTRIBUTED), {1, 2, 5, 6, 9}),
    (FlowFilter(since=NOW + 1), {9}),
    (FlowFilter(until=NOW - 100), {8}),
    (FlowFilter(container=POD.container), {2}),
    (FlowFilter(container="f" * 12), {2}),
    (FlowFilter(container="f" * 11), set()),
    (FlowFilter(unit="kafka"), {1, 2}),
    (FlowFilter(unit="kafka.service", client=EndpointFilter(Address.parse("10.0.0.1"), 1)), {1}),
    (FlowFilter(unit="kafka.service", container=POD.container), set()),
]


@pytest.mark.parametrize(("wanted", "ports"), FILTERS)
def test_listings_are_filtered(history: History, wanted: FlowFilter, ports: set[int]) -> None:
    x, y = Flow(owners=(X,)), Flow(owners=(Y,))
    history.write(
        replace(x, client_port=1, client_workload=KAFKA),
        replace(y, client_port=2, client_workload=POD, server_workload=KAFKA),
        replace(x, client_port=3, owners=(X, Y)),
    )
    history.write(replace(x, client_port=4, owners=()), replace(y, client_port=5, protocol=17, owners=(Y,)))
    history.write(replace(y, client="10.0.0.7", client_port=6, owners=(Y,)))
    history.write(replace(y, client_port=7, server="10.1.0.8", server_port=53, owners=()))
    history.write(replace(y, client_port=8, born=NOW - 200, translated=("10.0.0.1", 8, "10.9.0.2", 60), owners=()))
    history.write(replace(y, client_port=9, ended=NOW + 5))
    known = {"id-x": {1, 3}, "y": {2, 3, 5, 6, 9}}
    expected = known.get(wanted.deployment or "", ports) if wanted.deployment else ports
    if wanted.state is State.UNKNOWN:
        expected = {4, 7, 8}
    assert {one.view.client.port for one in history.reader.flows(wanted, 100).flows} == expected


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 40), st.data())
def test_pages_show_each_flow_once_during_merges(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int, data: st.DataObject
) -> None:
    history = History(str(tmp_path_factory.mktemp("history") / "h"))
    for n, size in enumerate(sizes):
        history.write(*(Flow(client_port=n, counters=(m, 0, 0, 0)) for m in range(size)))
    expected = [(n, m) for n, size in enumerate(sizes) for m in range(size)][::-1]
    seen: list[tuple[int, int]] = []
    below: int | None = None
    while True:
        page = history.reader.flows(EVER, limit, below)
        seen += [(one.view.client.port, one.view.transmit_bytes) for one in page.flows]
        below = page.below
        if below is None:
            break
        assert len(page.flows) == limit
        if data.draw(st.booleans()):
            history.store.merge()
    history.store.close()
    assert seen == expected


def test_peers_of_a_deployment_in_a_window(history: History) -> None:
    big = (1 << 63) + 5
    history.write(
        Flow(counters=(big, 1, 1, 1)),
        Flow(counters=(big, 2, 1, 1), born=NOW - 50),
        Flow(server="10.1.0.8", owners=(X, Y)),
        Flow(owners=(Y,)),
        Flow(born=NOW - 500, ended=NOW - 400),
    )
    history.write(Flow(counters=(1, 1, 1, 1)))
    seen = {(one.peer, one.owners): one for one in history.reader.peers("id-x", NOW - 100, NOW)}
    assert seen.keys() == {("kafka", (X,)), ("10.1.0.8:9092", (X, Y))}
    kafka = seen["kafka", (X,)]
    assert (kafka.traffic.transmit_bytes, kafka.traffic.receive_bytes, kafka.traffic.connections) == (2 * big + 1, 4, 3)
    assert (kafka.first_seen, kafka.last_seen) == (NOW - 50, NOW - 1)
    assert not history.reader.peers("id-x", NOW + 5, NOW + 6)
    assert sum(one.traffic.connections for one in history.reader.peers("x", -math.inf, math.inf, below=6)) == 4


def test_the_time_limit_of_a_question(history: History) -> None:
    history.write(Flow())
    slow = HistoryReader(history.path, peer_name=str, translated_ends=True, seconds=-1.0)
    with pytest.raises(QueryError, match="narrow"):
        slow.flows(EVER, 10)


def test_close_cancels_questions(history: History) -> None:
    history.write(Flow())
    history.reader.close()
    with pytest.raises(QueryError):
        history.reader.flows(EVER, 10)


def test_broken_blocks_are_skipped_and_counted(history: History) -> None:
    history.write(Flow(client_port=1))
    history.write(Flow(client_port=2))
    with closing(sqlite3.connect(history.path)) as database, database:
        database.execute("UPDATE block SET data = zeroblob(length(data)) WHERE seq = 1")
    assert [one.view.client.port for one in history.reader.flows(EVER, 10).flows] == [2]
    assert history.reader.unreadable == 1
    for _ in range(20):
        history.write(Flow())
        history.store.merge()
    assert history.store.flows == 22, "joining blocks leaves it where it is"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(HistoryError) as caught:
        HistoryReader(str(tmp_path / "none"), peer_name=str, translated_ends=True).flows(EVER, 1)
    assert caught.value.reason == "cannot_open"
