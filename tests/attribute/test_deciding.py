"""What judged answers about both endpoints mean together: corroborated, guarded and resting."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.attribute.answers.cache import AnswerCache
from flowmap.attribute.answers.shape_stats import ENOUGH, ShapeStats
from flowmap.attribute.answers.timeline import Answer, Judgement
from flowmap.attribute.deciding import INFERRED, SHARED_ADDRESS, Deciding
from flowmap.attribute.questions import FLINK_PLACE, UNREADABLE, Owners, Place, Question, Shape, question_for
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.model.address import Address
from flowmap.model.deployment import Owner, Role, State

X, Y = (Owner("w", "ns", name, name) for name in "xy")
LOST = Owner("w", "ns", UNREADABLE, "")
PLACE = Place("", "ns")
CLIENT = EndpointKey(Address.parse("10.0.0.1"), 0, 0, False)
SERVICE = EndpointKey(Address.parse("10.1.0.1"), 9092, 6, True)
NOW = 1000.0


def about(shape: Shape, place: Place = PLACE) -> Question:
    return question_for(place, shape, CLIENT if shape is Shape.CLIENT else SERVICE)


def judgement(*owners: Owner, rule: str = "inside", asked: float = NOW - 2) -> Judgement:
    return Judgement(frozenset(owners), rule, Answer(asked, asked + 1, frozenset(owners)))


class Case:
    """A cache with answers, and what was judged."""

    def __init__(self, **settings: Any) -> None:
        self.settings = AttributionSettings(namespaces=("ns",), **{"semantics": "both", **settings})
        self.cache, self.stats = AnswerCache(self.settings), ShapeStats(self.settings)
        self.deciding = Deciding(self.settings, self.cache, self.stats)

    def answered(self, shape: Shape, *owners: Owner, at: float) -> Question:
        question = about(shape)
        self.cache.add(question, Answer(at, at + 1, frozenset(owners)))
        return question

    def rest(self, shape: Shape) -> None:
        """So many answers without a name that the shape rests."""
        for number in range(ENOUGH):
            asked = question_for(PLACE, shape, EndpointKey(Address(0, number), 0, 0, shape is not Shape.CLIENT))
            self.stats.receive(asked, frozenset(), now=NOW - 100)

    def decide(self, judged: dict[Shape, Judgement | None]) -> tuple[State, Owners] | None:
        found = self.deciding.decide({about(shape): one for shape, one in judged.items()}, NOW)
        return None if found is None else (found.state, found.owners)


C, S, R, H = Shape.CLIENT, Shape.SINK, Shape.SOURCE, Shape.HOST


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        ({C: judgement(X), S: judgement(X), R: judgement()}, (State.ATTRIBUTED, {X})),
        ({C: judgement(X, Y), S: judgement(X, Y), R: judgement()}, (State.SHARED, {X, Y})),
        ({C: judgement(), S: judgement(X), R: None}, (State.UNKNOWN, set())),
        ({C: None, S: judgement(X), R: judgement()}, None),
        ({C: judgement(LOST), S: judgement(LOST), R: judgement()}, (State.UNKNOWN, set())),
    ],
)
def test_judged_answers_become_a_decision(
    judged: dict[Shape, Judgement | None], expected: tuple[State, set[Owner]] | None
) -> None:
    assert Case().decide(judged) == (None if expected is None else (expected[0], frozenset(expected[1])))


@pytest.mark.parametrize(
    ("client", "service_at", "owners", "named"),
    [
        (judgement(X), NOW - 100, (X,), True),
        (judgement(X), NOW - 100, (X, Y), True),
        (judgement(X), NOW - 100, (Y,), False),
        (judgement(X), NOW - 5000, (X,), False),
        (judgement(X, Y), NOW - 100, (X, Y), False),
        (judgement(LOST), NOW - 100, (LOST,), False),
    ],
    ids=["older answer", "one of its owners", "another owner", "older than stale_for", "two owners", "unreadable"],
)
def test_an_older_answer_about_the_service_corroborates_the_only_owner_of_the_client(
    client: Judgement, service_at: float, owners: tuple[Owner, ...], named: bool
) -> None:
    case = Case(stale_for=600.0)
    case.answered(S, *owners, at=service_at)
    found = case.deciding.decide({about(C): client, about(S): None, about(R): judgement()}, NOW)
    assert (found is not None) == named
    if found is not None:
        assert (found.state, set(found.owners)) == (State.ATTRIBUTED, {X})
        assert found.outcomes[about(S)].rule == "corroborated"


@pytest.mark.parametrize(
    ("host_at", "host", "expected"),
    [
        (None, (), None),
        (NOW - 50, (), None),
        (NOW - 1, (), (State.ATTRIBUTED, {X})),
        (NOW - 1, (X,), (State.UNKNOWN, set())),
        (NOW - 1, (Y,), (State.UNKNOWN, set())),
    ],
    ids=["not asked", "asked before", "no deployment there", "it runs there", "any deployment runs there"],
)
def test_a_source_answer_names_a_flow_only_if_its_host_was_asked_about(
    host_at: float | None, host: tuple[Owner, ...], expected: tuple[State, set[Owner]] | None
) -> None:
    case = Case()
    if host_at is not None:
        case.answered(H, *host, at=host_at)
    judged = {C: judgement(X, Y), S: judgement(), R: judgement(X, asked=NOW - 2), H: None}
    assert case.decide(judged) == (None if expected is None else (expected[0], frozenset(expected[1])))


@pytest.mark.parametrize(
    ("candidates", "expected", "forced"), [((), (State.UNKNOWN, frozenset()), False), ((X,), None, True)]
)
def test_resting_shapes_are_waited_for_only_where_they_could_name(
    candidates: tuple[Owner, ...], expected: tuple[State, Owners] | None, forced: bool
) -> None:
    case = Case()
    for shape in (S, R):
        case.rest(shape)
    resting = case.answered(R, at=NOW - 90)
    judged = {C: judgement(X, Y), S: judgement(*candidates), R: None}
    assert case.decide(judged) == expected
    assert (resting in case.deciding.forced) == forced


def test_an_owner_needs_no_cause() -> None:
    judged: dict[Question, Judgement | None] = {about(C): judgement(X), about(S): judgement(X), about(R): judgement()}
    found = Case().deciding.decide(judged, NOW)
    assert found is not None
    assert (found.state, found.cause, found.decided_at) == (State.ATTRIBUTED, "", NOW)
    assert set(found.outcomes) == set(judged)


def test_without_rest_every_shape_is_waited_for() -> None:
    assert Case().decide({C: judgement(X), S: judgement(), R: None}) is None


def test_a_client_that_is_never_named_is_named_by_its_services() -> None:
    case = Case(semantics="both", deployment_networks=("10.0.0.0/8",))
    case.rest(C)
    judged = {about(C): judgement(), about(S): judgement(X), about(R): judgement()}
    found = case.deciding.decide(judged, NOW)
    assert found is not None
    assert (found.state, set(found.owners), found.inferred, found.cause) == (State.ATTRIBUTED, {X}, True, INFERRED)
    case = Case(semantics="both")
    case.rest(C)
    found = case.deciding.decide(judged, NOW)
    assert found is not None and found.state is State.UNKNOWN, "only with deployment_networks"


def test_owners_of_flink_say_what_they_are() -> None:
    case = Case(flink=True)
    flink: dict[Question, Judgement | None] = {
        about(C, FLINK_PLACE): judgement(Role.JOB_MANAGER.of("prod")),
        about(S, FLINK_PLACE): judgement(Role.SERVICE.of("prod")),
    }
    found = case.deciding.decide(flink, NOW)
    assert found is not None and found.state is State.INTERNAL
    assert found.cause == "a connection of Flink itself, cluster prod"
    assert found.cause != SHARED_ADDRESS
