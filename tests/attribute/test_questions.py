"""The questions about endpoints and connections, and how their answers combine."""

from __future__ import annotations

import pytest

from flowmap.attribute.questions import (
    FLINK_PLACE,
    Owners,
    Place,
    Question,
    Semantics,
    Shape,
    candidates,
    combine,
    connection_questions,
    of_flink,
    question_for,
    state_of,
    state_of_several,
)
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.flows.records.batch import RecordKind
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import FLINK, Owner, Role, State
from tests.support.records import Record

X, Y, Z = (Owner("w", "ns", name, name) for name in "xyz")
NONE: Owners = frozenset()
FLOW = Record(RecordKind.OPENED)
C, S, R, H = Shape.CLIENT, Shape.SINK, Shape.SOURCE, Shape.HOST


def some(*owners: Owner) -> Owners:
    return frozenset(owners)


@pytest.mark.parametrize(
    ("semantics", "answers", "expected"),
    [
        ("connection", {C: some(X, Y), S: some(Y, Z)}, some(Y)),
        ("connection", {C: some(X), S: None}, None),
        ("connection", {C: NONE, S: None}, NONE),
        ("connection", {C: None, S: some(X)}, None),
        ("dataflow", {S: some(X), R: some(Y)}, some(X, Y)),
        ("dataflow", {S: some(X), R: None}, None),
        ("dataflow", {S: NONE, R: NONE}, NONE),
        ("both", {C: some(X), S: some(X), R: None}, some(X)),
        ("both", {C: some(X, Y), S: some(X), R: None}, None),
        ("both", {C: some(X, Y), S: some(X), R: some(Y)}, None),
        ("both", {C: some(X, Y), S: some(X), R: some(Y), H: NONE}, some(X, Y)),
        ("both", {C: some(X, Y), S: some(X), R: some(Y), H: some(Z)}, some(X)),
        ("both", {C: some(X, Y), S: NONE, R: some(Y), H: some(X, Y)}, NONE),
        ("dataflow", {S: NONE, R: some(Y), H: some(Y)}, some(Y)),
        ("both", {C: some(X), S: NONE, R: NONE}, NONE),
        ("both", {C: NONE, S: None, R: None}, NONE),
        ("both", {}, None),
    ],
)
def test_candidates(semantics: Semantics, answers: dict[Shape, Owners | None], expected: Owners | None) -> None:
    assert candidates(semantics, answers) == expected


@pytest.mark.parametrize(("number", "state"), [(0, "unknown"), (1, "attributed"), (2, "shared"), (3, "ambiguous")])
def test_state_of(number: int, state: str) -> None:
    assert state_of(frozenset([X, Y, Z][:number]), 2) == State(state)


@pytest.mark.parametrize("shape", [C, S, R])
def test_question_for(shape: Shape) -> None:
    address = Address.parse("2001:db8::1")
    end = EndpointKey(address, 0, 0, False) if shape is C else EndpointKey(address, 9092, 6, True)
    asked = question_for("ns", shape, end)
    place = Endpoint(address, end.port)
    assert (asked.source, asked.destination) == ((None, place) if shape is S else (place, None))


def test_connection_questions() -> None:
    client, service = Address.parse("10.0.0.1"), Endpoint(Address.parse("10.1.0.1"), 9092)
    places = (Place("", "ns"), Place("v", "other"))
    asked = connection_questions("both", places, client, service)
    assert [(one.shape, one.place) for one in asked] == [(shape, place) for shape in (C, S, R, H) for place in places]
    assert {one.source for one in asked if one.shape is C} == {Endpoint(client, 0)}
    assert {one.destination for one in asked if one.shape is S} == {service}
    assert {one.source for one in asked if one.shape is H} == {Endpoint(service.address, 0)}
    assert [one.shape for one in connection_questions("dataflow", places[:1], client, service)] == [S, R]


@pytest.mark.parametrize(
    ("first", "second", "service", "expected"),
    [
        (some(X), NONE, some(X, Y), some(X)),  # places add up
        (some(X), some(Y), some(X, Y), some(X, Y)),
        (some(X), None, some(X), None),  # a missing answer could add an owner
        (NONE, NONE, None, NONE),
    ],
)
def test_combine(first: Owners, second: Owners | None, service: Owners | None, expected: Owners | None) -> None:
    answers = {
        Question("ns", C, None, None): first,
        Question("other", C, None, None): second,
        Question("ns", S, None, None): service,
    }
    assert combine("connection", answers) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([("attributed", some(X))], ("attributed", some(X))),
        ([("attributed", some(X)), ("attributed", some(Y))], ("shared", some(X, Y))),
        ([("shared", some(X, Y)), ("attributed", some(Z))], ("ambiguous", NONE)),
        ([("attributed", some(X)), ("unknown", NONE)], ("ambiguous", NONE)),
        ([("unknown", NONE)], ("unknown", NONE)),
        ([("pending", NONE), ("pending", NONE)], ("pending", NONE)),
        ([("pending", NONE), ("unknown", NONE)], ("ambiguous", NONE)),
    ],
)
def test_state_of_several(found: list[tuple[str, Owners]], expected: tuple[str, Owners]) -> None:
    assert state_of_several([(State(state), owners) for state, owners in found], 2) == expected


JOB, OTHER_JOB = (Owner(FLINK, cluster, name, name) for cluster, name in (("prod", "orders"), ("other", "logs")))
OF_TM = frozenset((JOB, Role.TASK_MANAGER.of("prod")))


@pytest.mark.parametrize(
    ("client", "service", "expected"),
    [
        pytest.param(OF_TM, frozenset(), {JOB}, id="a job and an endpoint outside"),
        pytest.param(frozenset(), frozenset(), set(), id="no cluster"),
        pytest.param(None, frozenset(), None, id="the client is not known"),
        pytest.param(OF_TM, None, None, id="the service is not known"),
        pytest.param(OF_TM, {Role.SERVICE.of("prod")}, {Role.SERVICE.of("prod")}, id="the cluster's own service"),
        pytest.param(frozenset(), {Role.SERVICE.of("prod")}, {Role.SERVICE.of("prod")}, id="a user of its REST"),
        pytest.param(OF_TM, {Role.SERVICE.of("other")}, {JOB}, id="a job and another cluster's service"),
        pytest.param(OF_TM, {Role.COORDINATION.of("prod")}, {Role.SERVICE.of("prod")}, id="ZooKeeper"),
        pytest.param(frozenset(), {Role.COORDINATION.of("prod")}, set(), id="another program and ZooKeeper"),
        pytest.param(OF_TM, {Role.TASK_MANAGER.of("prod")}, {JOB}, id="a job and a program on a TaskManager's host"),
        pytest.param(
            {Role.JOB_MANAGER.of("prod")}, {Role.TASK_MANAGER.of("prod")}, {Role.SERVICE.of("prod")}, id="metrics"
        ),
        pytest.param({Role.JOB_MANAGER.of("prod")}, {Role.TASK_MANAGER.of("other")}, set(), id="another cluster's"),
        pytest.param(
            OF_TM | {JOB}, {Role.LEADER.of("prod")}, {JOB, Role.HOST.of("prod")}, id="the leader's port, or not"
        ),
        pytest.param(OF_TM | {JOB}, {Role.LEADER.of("other")}, {JOB}, id="another cluster's leader"),
        pytest.param(set(), {Role.LEADER.of("prod")}, set(), id="another program to the leader's host"),
        pytest.param(
            {Role.JOB_MANAGER.of("prod"), Role.HOST.of("prod")},
            {Role.TASK_MANAGER.of("prod")},
            {Role.HOST.of("prod")},
            id="a JobManager or another program of its host",
        ),
        pytest.param(
            OF_TM | {Role.JOB_MANAGER.of("prod")},
            {Role.TASK_MANAGER.of("prod")},
            {JOB, Role.HOST.of("prod")},
            id="both on one host",
        ),
        pytest.param(OF_TM, {Role.UNREAD.of("down")}, {JOB}, id="a cluster that is down does not matter"),
        pytest.param(frozenset(), {Role.UNREAD.of("down")}, None, id="the client could be of the one that is down"),
    ],
)
def test_owners_by_the_roles_of_both_endpoints(
    client: Owners | None, service: Owners | None, expected: set[Owner] | None
) -> None:
    assert of_flink(client, service) == expected


@pytest.mark.parametrize(
    ("owners", "state"),
    [
        ({Role.SERVICE.of("prod")}, State.INTERNAL),
        ({JOB}, State.ATTRIBUTED),
        ({JOB, OTHER_JOB}, State.SHARED),
        ({JOB, Role.HOST.of("prod")}, State.UNKNOWN),
    ],
)
def test_state_by_owners_and_roles(owners: set[Owner], state: State) -> None:
    assert state_of(frozenset(owners), 4) is state


def test_places_of_flink_have_their_own_questions_and_add_up() -> None:
    places = (Place("", "ns"), FLINK_PLACE)
    client, service = Address.parse("10.0.0.5"), Endpoint(Address.parse("10.1.0.1"), 9092)
    asked = connection_questions("connection", places, client, service)
    assert [(one.shape, one.workspace) for one in asked] == [
        (Shape.CLIENT, ""),
        (Shape.CLIENT, FLINK),
        (Shape.SINK, ""),
        (Shape.SINK, FLINK),
    ]
    answers: dict[Question, Owners | None] = dict.fromkeys(asked, frozenset())
    answers[asked[1]] = OF_TM
    assert combine("connection", answers) == frozenset((JOB,))
    answers[asked[0]] = None
    assert combine("connection", answers) is None
