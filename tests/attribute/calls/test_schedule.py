"""Which endpoint is asked about next, and when again."""

from __future__ import annotations

import pytest

from flowmap.attribute.calls.schedule import MAX_BACKOFF, AnswerChanges
from flowmap.attribute.questions import Owners, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.config import Config
from flowmap.engine.commands import Configure
from flowmap.flows.records.batch import RecordKind
from flowmap.model.deployment import Owner
from tests.support.attribution import AttributionRun
from tests.support.records import Record, replace

X, Y, Z = (Owner("w", "ns", name, name) for name in "xyz")
NONE: Owners = frozenset()
FLOW = Record(RecordKind.OPENED)
C, S, R = Shape.CLIENT, Shape.SINK, Shape.SOURCE


def some(*owners: Owner) -> Owners:
    return frozenset(owners)


def test_every_endpoint_gets_its_turn() -> None:
    run = AttributionRun(
        AttributionSettings(namespaces=("ns",), semantics="connection", negative_ttl=1.0, positive_ttl=1.0)
    )
    for n in range(4):
        run.observe(replace(FLOW, client=f"10.0.0.{n}", id=n + 1))
    turns = []
    for n in range(12):
        for one in [question for question in run.ask(limit=1) if question.shape is C]:
            assert one.source is not None
            turns.append(str(one.source.address)[-1])
            run.answer(one, X) if n % 2 else run.answer(one)
        run.now += 0.75
        if n == 3:
            run.observe(replace(FLOW, client="10.0.0.9", id=9))
    assert turns[0] == "0"
    assert set(turns) >= {"0", "1", "2", "3", "9"}


def test_services_of_unowned_clients_wait() -> None:
    run = AttributionRun()
    run.observe(FLOW)
    (client,) = run.ask(limit=1)
    run.answer(client)
    assert run.ask() == []
    run.now += 31
    assert run.ask() == [client], "strangers are asked about again, after the shorter time"
    run.answer(client, X)
    assert {one.shape for one in run.ask()} == {S, R}


def test_backoff() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="dataflow"))
    run.observe(FLOW)
    pauses = []
    for n in range(9):
        sink, source = run.ask()
        if n % 2:  # whichever of the two fails
            sink, source = source, sink
        run.attribution.fail(sink, "timeout", now=run.now)
        run.answer(source, X)
        began = run.now
        while not run.attribution.schedule.choose(run.accounting.table, now=run.now, limit=1):
            run.now += 0.25
        pauses.append(run.now - began)
    assert pauses[:6] == pytest.approx([1, 2, 4, 8, 16, 32], abs=0.6)
    assert max(pauses) <= MAX_BACKOFF + 0.6
    for one in run.ask():
        run.answer(one, X)
    for one in run.ask():
        raise AssertionError(one)
    run.now += 61
    one, _ = run.ask()
    run.attribution.fail(one, "busy", now=run.now, retry_after=5.0)


def test_shared_question_answers_both_endpoints() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="dataflow"))
    run.observe(replace(FLOW, server_port=53), replace(FLOW, server_port=53, protocol=17))
    asked = run.ask()
    assert len(asked) == len(set(asked)) == 2
    for one in asked:
        run.answer(one, X)
    run.now += 61
    assert sorted(run.attribution.schedule.choose(run.accounting.table, now=run.now, limit=9)) != []
    assert len(run.attribution.schedule.choose(run.accounting.table, now=run.now, limit=9)) == 2


@pytest.mark.parametrize(("next_change", "asked_again"), [(1500.0, False), (1060.0, True)])
def test_answers_are_asked_for_again_when_they_may_have_changed(next_change: float, asked_again: bool) -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection", positive_ttl=30.0))
    changes = AnswerChanges(900.0, next_change)

    def ask() -> list[Shape]:
        questions = run.attribution.ask(now=run.now, limit=100, changes=changes)
        for question in questions:
            run.answer(question, X)
        return [question.shape for question in questions]

    run.observe(FLOW)
    while ask():
        pass
    run.decide()
    run.now += 100
    assert bool(ask()) == asked_again
    run.observe(replace(FLOW, client_port=2, id=2))
    assert asked_again or C in ask(), "a flow has begun since the last answer"


def test_ignored_and_decided_closed_flows_need_no_answer() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection", positive_ttl=5.0))
    config = {"collect": {"exclude": ["tcp/22"]}, "attribute": {"grace": "5s"}}
    run.accounting.apply(Configure(Config.model_validate(config)))
    run.observe(replace(FLOW, client="10.0.0.9", server_port=22, id=9))
    assert run.ask() == [], "the filter leaves it out"
    run.observe(FLOW)
    while asked := run.ask():
        for question in asked:
            run.answer(question, X)
    run.decide()
    run.observe(replace(FLOW, kind=RecordKind.CLOSED))
    run.decide()
    run.now += 1000
    assert run.ask() == [], "it is over and has its owner"
