"""Questions of users about the books."""

from __future__ import annotations

import pytest

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.errors import QueryError
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.address import Address
from flowmap.model.deployment import State
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.views import EndpointFilter, FlowFilter, Lookup
from flowmap.model.workload import Local, Workload
from flowmap.sources.base import NamespacesNamed, ReadFinished, ReadStarted, WorkloadsNamed
from tests.support.accounting import accounting_for
from tests.support.live_traffic import EPOCH, FLOW, NAT, LiveTraffic, X, Y, decided_traffic
from tests.support.records import replace


@pytest.fixture
def traffic() -> LiveTraffic:
    return decided_traffic()


@pytest.mark.parametrize(
    ("source", "destination", "ports", "protocol", "state"),
    [
        ("10.0.0.1", "10.1.0.1", (40000, 9092), 6, State.ATTRIBUTED),
        ("10.0.0.1", "10.1.0.1", (None, 9092), 6, State.ATTRIBUTED),
        ("10.0.0.1", "10.1.0.1", (None, None), 6, State.ATTRIBUTED),
        ("10.1.0.1", "10.0.0.1", (9092, 40000), 6, State.ATTRIBUTED),
        ("10.0.0.2", "10.1.0.1", (40000, 9092), 6, State.SHARED),
        ("10.9.0.2", "10.8.0.1", (1234, 8080), 6, State.SHARED),
        ("10.8.0.1", "10.9.0.2", (8080, None), 6, State.SHARED),
        ("10.0.0.2", "10.8.0.1", (None, None), 6, None),
        ("2001:db8::1", "2001:db8::2", (40000, 53), 17, State.UNKNOWN),
        ("2001:db8::2", "2001:db8::1", (None, None), 17, State.UNKNOWN),
        ("2001:db8::1", "2001:db8::2", (40000, 53), 6, None),
        ("10.0.0.1", "10.1.0.1", (40001, 9092), 6, None),
        ("10.0.0.1", "10.1.0.1", (40000, 22), 6, None),
    ],
)
def test_a_connection_is_found_from_either_end_and_either_side_of_nat(
    traffic: LiveTraffic,
    source: str,
    destination: str,
    ports: tuple[int | None, int | None],
    protocol: int,
    state: State | None,
) -> None:
    view = traffic.queries.answer(traffic.connection(source, destination, ports, protocol), traffic.now)
    assert (view and view.state) == state


def test_a_name_comes_with_its_evidence_and_its_flow(traffic: LiveTraffic) -> None:
    view = traffic.queries.answer(traffic.connection("10.0.0.1", "10.1.0.1"), traffic.now)
    assert view is not None and view.flow is not None
    assert [(info.owner, info.creator) for info in view.deployments] == [(X, "me")]
    assert {(one.shape, one.rule, one.origin) for one in view.evidence} == {
        ("client", "inside", "live"),
        ("sink", "inside", "live"),
        ("source", "inside", "live"),
    }
    assert [one.asked_at for one in view.evidence] == [1001 + EPOCH] * 3
    assert (view.flow.transmit_bytes, view.flow.receive_packets, view.flow.source) == (500, 1, "test")
    assert (view.flow.started_at, view.flow.ended_at, view.flow.guessed) == (1001 + EPOCH, None, False)


def test_nat_and_guesses_are_told(traffic: LiveTraffic) -> None:
    flows = {str(flow.client.address): flow for flow in traffic.queries.flows(FlowFilter(), 10, None).flows}
    behind = flows["10.0.0.2"].translated
    assert behind is not None
    assert [str(end) for end in behind] == ["10.9.0.2:1234", "10.8.0.1:8080"]
    assert (flows["10.0.0.1"].translated, flows["2001:db8::1"].guessed) == (None, True)
    assert flows["2001:db8::1"].protocol == "udp"


def test_the_newest_of_several_with_one_tuple_is_told(traffic: LiveTraffic) -> None:
    traffic.see(replace(FLOW, kind=RecordKind.CLOSED), replace(FLOW, id=9, counters=None))
    view = traffic.queries.answer(traffic.connection("10.0.0.1", "10.1.0.1", (40000, 9092)), traffic.now)
    assert view is not None and view.flow is not None
    assert (view.state, view.deployments, view.flow.transmit_bytes) == (State.PENDING, (), 0)
    assert view.cause is not None and "asked about again" in view.cause


def test_of_many_connections_with_different_owners_none_is_picked(traffic: LiveTraffic) -> None:
    wanted = traffic.connection("10.0.0.1", "10.1.0.1")
    traffic.see(replace(FLOW, client_port=2, id=9, kind=RecordKind.CLOSED), replace(FLOW, kind=RecordKind.CLOSED))
    traffic.see(replace(FLOW, client_port=3, id=10), replace(FLOW, client_port=4, id=11))
    traffic.now += 60
    traffic.answer({"10.0.0.1": [X]})
    assert traffic.queries.answer(wanted, traffic.now) is not None
    columns, rows = traffic.accounting.table.columns, traffic.queries.find(wanted)
    decisions = traffic.accounting.attribution.decisions
    columns.state[rows], columns.verdict[rows] = 1, list(range(900, 900 + len(rows)))
    first = next(iter(decisions.values()))
    for n, owner in enumerate([X, Y] if len(rows) == 2 else [X] * len(rows)):
        decisions[900 + n] = type(first)(State.ATTRIBUTED, frozenset({owner}), {}, traffic.now)
    view = traffic.queries.answer(wanted, traffic.now)
    assert view is not None
    assert (view.state, [info.owner for info in view.deployments], view.flow) == (State.SHARED, [X, Y], None)
    columns.state[rows[0]], columns.verdict[rows[0]] = 0, -1
    view = traffic.queries.answer(wanted, traffic.now)
    assert view is not None
    assert (view.state, view.deployments) == (State.AMBIGUOUS, ())


def client(address: str, port: int | None = None) -> EndpointFilter:
    return EndpointFilter(Address.parse(address), port)


@pytest.mark.parametrize(
    ("wanted", "clients"),
    [
        (FlowFilter(), ["10.0.0.1", "10.0.0.2", "2001:db8::1"]),
        (FlowFilter(deployment="x"), ["10.0.0.1", "10.0.0.2"]),
        (FlowFilter(deployment="id-y"), ["10.0.0.2"]),
        (FlowFilter(deployment="nobody"), []),
        (FlowFilter(peer="10.1.0.1:9092"), ["10.0.0.1"]),
        (FlowFilter(peer="10.1.0.1"), ["10.0.0.1"]),
        (FlowFilter(peer="10.8.0.1:8080"), ["10.0.0.2"]),
        (FlowFilter(peer="[2001:db8::2]:53"), ["2001:db8::1"]),
        (FlowFilter(peer="2001:db8::2"), ["2001:db8::1"]),
        (FlowFilter(client=client("10.0.0.1")), ["10.0.0.1"]),
        (FlowFilter(client=client("10.0.0.1", 40000)), ["10.0.0.1"]),
        (FlowFilter(client=client("10.0.0.1", 40001)), []),
        (FlowFilter(client=client("2001:db8::1", 40000)), ["2001:db8::1"]),
        (FlowFilter(client=client("2001:db8::1")), ["2001:db8::1"]),
        (FlowFilter(state=State.UNKNOWN), ["2001:db8::1"]),
        (FlowFilter(state=State.PENDING), []),
        (FlowFilter(protocol=17), ["2001:db8::1"]),
        (FlowFilter(protocol=6, state=State.SHARED), ["10.0.0.2"]),
        (FlowFilter(deployment="x", peer="10.1.0.1"), ["10.0.0.1"]),
    ],
)
def test_filters(traffic: LiveTraffic, wanted: FlowFilter, clients: list[str]) -> None:
    page = traffic.queries.flows(wanted, 10, None)
    assert ([str(flow.client.address) for flow in page.flows], page.next_cursor) == (clients, None)


@pytest.mark.parametrize(
    ("wanted", "clients"),
    [
        (FlowFilter(container="c" * 64), ["10.0.0.1"]),
        (FlowFilter(container="c" * 12), ["10.0.0.1"]),
        (FlowFilter(unit="kafka"), ["10.0.0.1", "10.0.0.2"]),
        (FlowFilter(unit="kafka.service", peer="10.8.0.1:8080"), ["10.0.0.2"]),
        (FlowFilter(unit="kafka.service", container="c" * 64), []),
        (FlowFilter(unit="other.service"), []),
    ],
)
def test_filters_by_workload(traffic: LiveTraffic, wanted: FlowFilter, clients: list[str]) -> None:
    kafka, job = Workload(unit="kafka.service"), Workload(container="c" * 64)
    named = WorkloadsNamed(((2, kafka), (3, job)))
    traffic.accounting.apply(TakeStep(named, traffic.now, traffic.now))
    traffic.see(
        *(replace(one, kind=RecordKind.MEASURED, workloads=ends) for one, ends in ((FLOW, (3, 2)), (NAT, (2, 0))))
    )
    page = traffic.queries.flows(wanted, 10, None)
    assert [str(flow.client.address) for flow in page.flows] == clients
    first, second, third = traffic.queries.flows(FlowFilter(), 10, None).flows
    assert first.local == (Local("client", job), Local("server", kafka))
    assert (second.local, third.local) == ((Local("client", kafka),), ())


def test_a_tuple_in_several_network_namespaces_is_not_answered_by_one_of_them(traffic: LiveTraffic) -> None:
    named = NamespacesNamed(((1, NetworkNamespace(7, "blue")), (2, NetworkNamespace(8))))
    traffic.accounting.apply(TakeStep(named, traffic.now, traffic.now))
    wanted = traffic.connection("10.0.0.1", "10.1.0.1", (40000, 9092))
    blue, green = replace(FLOW, namespace=1), replace(FLOW, namespace=2)
    traffic.see(blue)
    traffic.answer()
    view = traffic.queries.answer(wanted, traffic.now, explain=True)
    assert view is not None
    assert (view.state, view.flow, view.explanation, view.matches) == (State.ATTRIBUTED, None, None, 2)
    assert view.cause == "2 connections match in the network namespaces blue and host; give one (netns)"
    traffic.see(green)
    view = traffic.queries.answer(wanted, traffic.now)
    assert view is not None and (view.state, view.deployments, view.matches) == (State.AMBIGUOUS, (), 3)
    assert view.cause == "3 connections match in the network namespaces blue, host and net:[8]; give one (netns)"
    for netns, namespace in (("blue", NetworkNamespace(7, "blue")), ("net:[8]", NetworkNamespace(8)), ("host", None)):
        view = traffic.queries.answer(wanted._replace(netns=netns), traffic.now)
        assert view is not None and view.flow is not None
        assert (view.flow.namespace, view.matches) == (namespace, 0)
    batch = [wanted.lookup, wanted._replace(netns="blue").lookup]
    several, one = traffic.queries.answers(batch, traffic.now)
    assert several is not None and one is not None
    assert (several.matches, one.state) == (3, State.ATTRIBUTED)
    traffic.see(replace(green, kind=RecordKind.CLOSED), replace(blue, kind=RecordKind.CLOSED))
    view = traffic.queries.answer(wanted, traffic.now)
    assert view is not None and view.flow is not None and view.flow.namespace is None, "only the host's is open"


@pytest.mark.parametrize("cursor", ["-1", "9" * 30])
def test_a_cursor_that_is_none(traffic: LiveTraffic, cursor: str) -> None:
    with pytest.raises(QueryError) as caught:
        traffic.queries.flows(FlowFilter(), 10, cursor)
    assert caught.value.field == "cursor"


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_pages_show_every_flow_once(traffic: LiveTraffic, limit: int) -> None:
    seen, cursor = [], None
    for _ in range(5):
        page = traffic.queries.flows(FlowFilter(), limit, cursor)
        assert len(page.flows) <= limit
        seen += [str(flow.client.address) for flow in page.flows]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ["10.0.0.1", "10.0.0.2", "2001:db8::1"]


def test_a_connection_nobody_saw_is_told_from_fresh_answers_only(traffic: LiveTraffic) -> None:
    unseen = traffic.connection("10.0.0.1", "10.1.0.1", (1, 9092))
    view, missing = traffic.queries.ask(unseen.lookup, traffic.now)
    assert (view.state, missing, view.flow) == (State.ATTRIBUTED, [], None)
    later = traffic.now + 1000
    view, missing = traffic.queries.ask(unseen.lookup, later)
    assert (view.state, view.deployments, len(missing)) == (State.PENDING, (), 3)
    assert {one.origin for one in view.evidence} == {"stale"}
    traffic.accounting.attribution.fail(missing[0], "timeout: away", now=later)
    view, _ = traffic.queries.ask(unseen.lookup, later)
    assert (view.state, view.cause) == (State.FAILED, "timeout: away")


def test_what_has_to_be_asked_about_a_connection_nobody_knows(traffic: LiveTraffic) -> None:
    view, missing = traffic.queries.ask(traffic.connection("10.7.0.1", "10.7.0.2", (None, 443)).lookup, traffic.now)
    assert view.state is State.PENDING
    assert [one.shape for one in missing] == [Shape.CLIENT, Shape.SINK, Shape.SOURCE]
    assert missing[1] == Question("ns", Shape.SINK, None, missing[1].destination)
    assert str(missing[1].destination) == "10.7.0.2:443"


def test_a_tie_shows_its_candidates_and_what_was_asked_about_both_ends() -> None:
    made = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",), semantics="connection")))
    for step in (ReadStarted("start"), ReadFinished(True)):
        made.accounting.apply(TakeStep(step, made.now, made.now))
    flow = replace(FLOW, flags=int(Flag.PRESENT))
    made.see(flow)
    made.answer({"10.0.0.1": [X, Y]})
    (link,) = made.accounting.attribution.ask(now=made.now, limit=9)
    view = made.queries.answer(made.connection("10.0.0.1", "10.1.0.1"), made.now)
    assert view is not None and view.flow is not None and view.cause is not None
    assert (view.state, view.deployments, view.flow.deployments) == (State.PENDING, (), ())
    assert "2 deployments are possible" in view.cause
    shown = [(one.shape, one.confidence, one.origin, {owner.name for owner in one.owners}) for one in view.evidence]
    both = {"x", "y"}
    assert shown == [
        ("client", "strong", "live", both),
        ("sink", "candidate", "live", both),
        ("link", "strong", "none", set()),
    ]
    assert made.queries.flows(FlowFilter(deployment="x"), 10, None).flows == (), "a candidate is no owner"
    made.accounting.attribution.receive(link, Answer(made.now, made.now + 0.25, frozenset({X})))
    made.answer({})
    view = made.queries.answer(made.connection("10.0.0.1", "10.1.0.1"), made.now)
    assert view is not None
    assert (view.state, [one.owner for one in view.deployments]) == (State.ATTRIBUTED, [X])
    assert [(one.shape, one.rule) for one in view.evidence][-1] == ("link", "inside")


def test_what_is_known_from_before_a_restart_says_so(traffic: LiveTraffic) -> None:
    made = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",), semantics="connection")))
    for question, known in traffic.accounting.attribution.intervals():
        made.accounting.attribution.restore(question, known, now=traffic.now)
    made.see(FLOW)
    view = made.queries.answer(made.connection("10.0.0.1", "10.1.0.1"), traffic.now)
    assert view is not None
    assert {one.origin for one in view.evidence} == {"history"}


def test_unknown_flows_say_where_the_reading_of_the_api_may_be_wrong() -> None:
    made = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",))))
    for step in (ReadStarted("start"), ReadFinished(True)):
        made.accounting.apply(TakeStep(step, made.now, made.now))
    made.see(*[replace(FLOW, client=f"10.0.0.{n}", server_port=n, flags=int(Flag.PRESENT), id=n) for n in range(1, 10)])
    made.answer({"nobody's": [X]})
    view = made.queries.answer(made.connection("10.0.0.1", "10.1.0.1"), made.now)
    assert view is not None and view.cause is not None
    assert (view.state, "dataflow" in view.cause) == (State.UNKNOWN, True)


def test_a_pending_flow_says_what_it_waits_for(traffic: LiveTraffic) -> None:
    traffic.see(replace(FLOW, client="10.7.0.1", id=20))
    wanted = traffic.connection("10.7.0.1", "10.1.0.1")
    view = traffic.queries.answer(wanted, traffic.now)
    assert view is not None and view.cause is not None
    assert (view.state, "asked about again" in view.cause) == (State.PENDING, True)
    asked = traffic.accounting.attribution.ask(now=traffic.now, limit=9)
    client = next(one for one in asked if one.shape is Shape.CLIENT and str(one.source) == "10.7.0.1:0")
    traffic.accounting.attribution.fail(client, "auth: no permission", now=traffic.now)
    view = traffic.queries.answer(wanted, traffic.now)
    assert view is not None and view.cause == "waiting for the control plane: auth: no permission"


def known(client: str, port: int | None, server: tuple[str, int | None] | None = None, protocol: int = 6) -> Lookup:
    there = None if server is None else EndpointFilter(Address.parse(server[0]), server[1])
    return Lookup(EndpointFilter(Address.parse(client), port), there, protocol)


MANY = [
    # lookup, state and names
    (known("10.0.0.1", 40000), State.ATTRIBUTED, ["x"]),
    (known("10.0.0.1", None), State.ATTRIBUTED, ["x"]),
    (known("10.0.0.1", 40000, ("10.1.0.1", 9092)), State.ATTRIBUTED, ["x"]),
    (known("10.1.0.1", 9092, ("10.0.0.1", 40000)), State.ATTRIBUTED, ["x"]),  # in the other direction
    (known("10.0.0.1", 40000, ("10.1.0.1", 9093)), None, []),
    (known("10.0.0.1", 40001), None, []),
    (known("10.1.0.1", 9092), None, []),  # a server is no client
    (known("10.0.0.1", 40000, protocol=17), None, []),
    (known("10.9.0.2", 1234), State.SHARED, ["x", "y"]),  # after source NAT
    (known("10.9.0.2", 1234, ("10.8.0.1", 8080)), State.SHARED, ["x", "y"]),
    (known("2001:db8::2", 53, protocol=17), State.UNKNOWN, []),  # the orientation is a guess
]


def test_many_connections_in_their_order(traffic: LiveTraffic) -> None:
    views = traffic.queries.answers([lookup for lookup, _, _ in MANY], traffic.now)
    found = [(view and view.state, [info.owner.name for info in view.deployments] if view else []) for view in views]
    assert found == [(state, names) for _, state, names in MANY]


def test_the_owners_of_a_client_that_was_not_seen(traffic: LiveTraffic) -> None:
    lookup = known("10.7.0.1", 1)
    view, missing = traffic.queries.ask(lookup, traffic.now)
    assert (view.state, [question.shape for question in missing]) == (State.PENDING, [Shape.CLIENT])
    traffic.accounting.attribution.receive(missing[0], Answer(traffic.now, traffic.now + 0.25, frozenset([X])))
    view, missing = traffic.queries.ask(lookup, traffic.now + 1)
    assert (view.state, [info.owner for info in view.deployments], view.flow, missing) == (
        State.ATTRIBUTED,
        [X],
        None,
        [],
    )
    assert "client address" in (view.cause or "")
