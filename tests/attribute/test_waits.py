"""What pending flows wait for."""

from __future__ import annotations

import pytest

from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner
from flowmap.model.status import PendingFor
from flowmap.sources.base import CaughtUp
from tests.support.attribution import AttributionRun
from tests.support.records import Record, replace

X, Y = (Owner("w", "ns", name, name) for name in "xy")
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT))
REMOTE = Record(RecordKind.OPENED)


@pytest.fixture
def run() -> AttributionRun:
    return AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection"))


def ask(run: AttributionRun, limit: int = 100) -> dict[Shape, Question]:
    return {question.shape: question for question in run.ask(limit)}


def waits(run: AttributionRun) -> PendingFor:
    found = run.attribution.pending_for()
    assert sum(found) == run.accounting.pending_flows
    return found


def test_nothing_is_pending(run: AttributionRun) -> None:
    assert waits(run) == PendingFor()


def test_for_answers_that_are_under_way_and_then_for_nothing(run: AttributionRun) -> None:
    run.observe(FLOW)
    asked = ask(run)
    assert waits(run) == PendingFor(answer=1)
    run.answer(asked[Shape.CLIENT], X)
    run.decide()
    assert waits(run) == PendingFor(answer=1), "the client is answered, its service endpoint is not"
    run.answer(asked[Shape.SINK], X)
    assert waits(run) == PendingFor(judging=1)
    run.decide()
    assert waits(run) == PendingFor(), "the same moment, not the one before the decision"


def test_for_a_call(run: AttributionRun) -> None:
    run.observe(FLOW, replace(FLOW, client="10.0.0.2", id=2), replace(FLOW, client="10.0.0.3", id=3))
    ask(run, limit=1)
    run.decide()
    found = waits(run)
    assert (found.budget, found.answer) in ((2, 1), (3, 0)), "of a client, or of the service endpoint"
    ask(run)
    assert waits(run) == PendingFor(answer=3)


def test_for_a_call_about_the_service_endpoint(run: AttributionRun) -> None:
    run.observe(FLOW)
    (question,) = run.ask(limit=1)
    assert question.shape is Shape.CLIENT
    run.answer(question, X)
    run.decide()
    run.ask(limit=0)
    assert waits(run) == PendingFor(budget=1)


def test_for_the_end_of_an_outage(run: AttributionRun) -> None:
    run.observe(FLOW)
    for question in ask(run).values():
        run.attribution.fail(question, "timeout", now=run.now)
    assert waits(run) == PendingFor(outage=1)


def test_for_traffic_of_the_client(run: AttributionRun) -> None:
    run.observe(REMOTE)
    for question in ask(run).values():
        run.now += 3  # later than attribute.grace
        run.answer(question, X)
    run.decide()
    assert waits(run) == PendingFor(proof=1)
    read = replace(REMOTE, kind=RecordKind.DUMPED, counters=(90, 9, 2, 1))
    run.observe(read)
    run.observe(replace(read, counters=(180, 18, 4, 2)))
    assert waits(run) == PendingFor(judging=1)


def test_for_answers_about_both_endpoints(run: AttributionRun) -> None:
    run.observe(FLOW)
    for question in ask(run).values():
        run.answer(question, X, Y)
    run.decide()
    assert waits(run) == PendingFor(narrowing=1)


def test_a_connectionless_flow_never_waits_for_its_client(run: AttributionRun) -> None:
    run.observe(replace(REMOTE, protocol=17))
    for question in ask(run).values():
        run.now += 3
        run.answer(question, X)
    assert waits(run) == PendingFor(judging=1)


def test_a_closed_flow_waits_for_an_answer_after_its_end(run: AttributionRun) -> None:
    run.observe(FLOW)
    ask(run)
    run.observe(replace(FLOW, kind=RecordKind.CLOSED, counters=(9, 9, 1, 1)))
    run.accounting.apply(TakeStep(CaughtUp(run.now), run.now, run.now))
    assert waits(run) == PendingFor(answer=1)
