"""The questions about endpoints and connections, and how their answers combine."""

from __future__ import annotations

import pytest

from flowmap.attribute.questions import (
    Owners,
    Place,
    Question,
    Semantics,
    Shape,
    candidates,
    combine,
    connection_questions,
    question_for,
    state_of,
    state_of_several,
)
from flowmap.flows.batch import RecordKind
from flowmap.flows.endpoints import EndpointKey
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner, State
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
    ],
)
def test_state_of_several(found: list[tuple[str, Owners]], expected: tuple[str, Owners]) -> None:
    assert state_of_several([(State(state), owners) for state, owners in found], 2) == expected
