"""Contradictions: counted once, listed, without effect on the attribution."""

from __future__ import annotations

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import RecordKind
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner
from flowmap.sources.base import ReadFinished, ReadStarted
from tests.support.attribution import AttributionRun
from tests.support.records import Record, replace

X, Y, Z = (Owner("w", "ns", name, name) for name in "xyz")
NONE: Owners = frozenset()
FLOW = Record(RecordKind.OPENED)
C, S, R = Shape.CLIENT, Shape.SINK, Shape.SOURCE


def some(*owners: Owner) -> Owners:
    return frozenset(owners)


def test_contradiction_counts_once() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection", positive_ttl=10.0))
    run.observe(FLOW)
    for one in run.ask():
        run.answer(one, X)
    run.decide()
    assert run.attribution.contradictions.count == 0
    run.now += 11
    for one in run.ask():
        run.answer(one, Y)
    run.decide()
    assert run.attribution.contradictions.count == 1
    run.observe(replace(FLOW, client_port=2, id=2))
    for _ in range(3):  # looking again is no new answer
        run.accounting.apply(TakeStep(ReadStarted("timer"), run.now, run.now))
        run.observe(replace(FLOW, kind=RecordKind.DUMPED), replace(FLOW, kind=RecordKind.DUMPED, client_port=2, id=2))
        run.accounting.apply(TakeStep(ReadFinished(True), run.now, run.now))
        run.decide()
    assert run.attribution.contradictions.count == 1
    (decision, *_) = run.attribution.decisions.values()
    assert decision.owners == {X}, "and what was attributed stays"


def test_contradictions_are_listed() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection", positive_ttl=10.0))
    run.observe(FLOW, replace(FLOW, client_port=2, id=2))
    for one in run.ask():
        run.answer(one, X)
    run.decide()
    run.now += 11
    for one in run.ask():
        run.answer(one, X._replace(name="renamed"))
    run.decide()
    assert run.attribution.contradictions.latest() == (), "another name is no other owner"
    run.now += 11
    asked_at = run.now
    for one in run.ask():
        run.answer(one, Y)
    run.decide()
    (listed,) = run.attribution.contradictions.latest()
    assert (listed.question, listed.flows, listed.attributed, listed.answered) == ("client 10.0.0.1", 2, (X,), (Y,))
    assert (listed.asked_at, listed.answered_at) == (asked_at, asked_at + 0.25)
    assert listed.client is not None and str(listed.server) == "10.1.0.1:9092"
    client = Question("ns", C, Endpoint(Address.parse("10.0.0.9"), 0), None)
    for asked, owner in ((100.0, X), (200.0, X), (150.0, Y)):
        run.attribution.receive(client, Answer(asked, asked + 1, some(owner)))
    newest = run.attribution.contradictions.latest()[0]
    assert (newest.question, newest.flows, newest.client, newest.server) == ("client 10.0.0.9", 0, None, None)
    assert run.attribution.contradictions.count == 3
