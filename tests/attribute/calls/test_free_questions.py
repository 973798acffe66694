"""Questions that cost no call: asked at once, one at a time, while a flow is undecided."""

from __future__ import annotations

import math

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.records.batch import RecordKind
from flowmap.model.deployment import FLINK, Owner, Role, State
from flowmap.model.tenure import Holders, Tenure
from flowmap.model.views import FlowFilter
from flowmap.query.live import LiveQueries
from tests.support.attribution import AttributionRun
from tests.support.records import Record

JOB = Owner(FLINK, "prod", "orders", "orders")
TTL = 60.0
CLIENT, SERVICE = "10.0.0.5", "10.1.0.1"


def run(*, namespaces: tuple[str, ...] = ()) -> AttributionRun:
    made = AttributionRun(AttributionSettings(namespaces=namespaces, flink=True, positive_ttl=TTL))
    made.observe(Record(RecordKind.OPENED, CLIENT, server=SERVICE, counters=(70, 30, 1, 1)))
    return made


def answer(made: AttributionRun, question: Question, *tenures: Tenure, until: float | None = None) -> None:
    holders = Holders(tenures, 0.0, made.now if until is None else until)
    owners = frozenset(tenure.owner for tenure in tenures)
    made.attribution.receive(question, Answer(made.now, made.now + 0.25, owners), holders)


def tenure(owner: Owner, made: AttributionRun) -> Tenure:
    return Tenure(owner, -math.inf, 0.0, made.now)


def states(made: AttributionRun) -> list[State]:
    page = LiveQueries(made.accounting, source="test", epoch=0.0).flows(FlowFilter(), 10, None)
    return [flow.state for flow in page.flows]


def test_both_endpoints_are_asked_about_without_a_budget() -> None:
    made = run()
    assert [(one.shape, one.workspace) for one in made.ask(limit=0)] == [(Shape.CLIENT, FLINK), (Shape.SINK, FLINK)]
    assert made.ask(limit=0) == []  # under way


def test_answers_name_the_flow_and_end_the_questions() -> None:
    made = run()
    client, service = made.ask(limit=0)
    made.now += 2
    answer(made, client, tenure(JOB, made), tenure(Role.TASK_MANAGER.of("prod"), made))
    answer(made, service)
    made.decide()
    assert states(made) == [State.ATTRIBUTED]
    assert made.ask(limit=0) == []
    made.now += TTL + 1
    assert len(made.ask(limit=0)) == 2  # for the intervals of history


def test_own_connections_of_a_cluster_are_internal_and_conserved() -> None:
    made = run()
    client, service = made.ask(limit=0)
    made.now += 2
    answer(made, client, tenure(Role.TASK_MANAGER.of("prod"), made))
    answer(made, service, tenure(Role.SERVICE.of("prod"), made))
    made.decide()
    assert states(made) == [State.INTERNAL]
    totals = made.accounting.series_table.totals()
    assert sum(totals.internal) == sum(made.accounting.observed) > 0
    (key,) = (key for key in made.accounting.series_table.freeze().keys if key is not None)
    assert (key.kind, key.owners[0].namespace) == ("internal", "prod")


def test_an_answer_from_before_the_flow_leaves_it_open_and_it_is_asked_again() -> None:
    made = run()
    for question in made.ask(limit=0):
        answer(made, question, until=1.0)
    made.decide()
    assert states(made) == [State.PENDING]
    assert len(made.ask(limit=0)) == 2


def test_a_failure_is_repeated_after_its_pause_and_delays_no_other_question() -> None:
    made = run(namespaces=("ns",))
    asked = made.ask()
    assert {one.workspace for one in asked} == {"", FLINK}
    for question in asked:
        if question.place.is_flink:
            made.attribution.fail(question, "transient: down", now=made.now, retry_after=5.0)
    assert made.ask(limit=0) == []
    made.now += 5
    assert {one.workspace for one in made.ask(limit=0)} == {FLINK}


def test_with_both_control_planes_a_flow_waits_for_both() -> None:
    made = run(namespaces=("ns",))
    asked = made.ask()
    made.now += 2
    for question in asked:
        if question.place.is_flink:
            answer(made, question, *([tenure(JOB, made)] if question.shape is Shape.CLIENT else []))
    made.decide()
    assert states(made) == [State.PENDING]
    for question in asked:
        if not question.place.is_flink:
            made.answer(question)
    made.decide()
    assert states(made) == [State.ATTRIBUTED]
