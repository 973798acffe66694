"""Attribution: what is asked, and which decisions the answers allow."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.attribute.questions import Owners, Place, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import GiveUp, TakeStep
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner, State
from tests.support.accounting import sweep
from tests.support.attribution import AttributionRun
from tests.support.records import Record, batch_of, replace

X, Y, Z = (Owner("w", "ns", name, name) for name in "xyz")
NONE: Owners = frozenset()
FLOW = Record(RecordKind.OPENED)
C, S, R, H = Shape.CLIENT, Shape.SINK, Shape.SOURCE, Shape.HOST


def some(*owners: Owner) -> Owners:
    return frozenset(owners)


def test_endpoint_is_asked_about_as_a_whole() -> None:
    run = AttributionRun()
    run.observe(FLOW)
    first = run.ask()
    assert [one.shape for one in first] == [C, S, R]
    assert run.ask() == []
    for one in first[:2]:
        run.answer(one, X)
    assert run.ask() == [], "an end is asked about as a whole"
    run.answer(first[2], X)
    (host,) = run.ask()
    assert host.shape is H
    run.answer(host)
    run.decide()
    run.now += 58
    assert run.ask() == []
    run.now += 2
    assert run.ask() == [*first, host]


@pytest.mark.parametrize("first", [0.0, 0.5, 2.0, 5.0])
def test_a_flow_without_an_owner_is_asked_about_until_it_is_too_old_for_one(first: float) -> None:
    lag = 10.0
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection", registration_lag=lag))
    run.observe(FLOW)
    began, ages = run.now, list[float]()
    run.now += first
    while run.now < began + 3 * lag:
        asked = run.ask()
        for one in asked:
            run.answer(one)
        ages += [run.now - began] * any(one.shape is C for one in asked)
        run.decide()
        run.now -= 0.75  # a step of a quarter of a second
    young = [age for age in ages if age <= lag]
    assert ages[0] == first and lag - 1 <= young[-1] <= lag and len(young) <= 6
    assert len(ages) == len(young), "the next one is due after negative_ttl"


def test_answers_of_all_namespaces_add_up() -> None:
    run = AttributionRun(AttributionSettings(namespaces=tuple(f"ns{n}" for n in range(300)), semantics="connection"))
    run.observe(FLOW)
    asked = run.ask()
    assert len(asked) == 600
    for one in asked[:-1]:
        run.answer(one, *([X] if one.namespace == "ns7" else []))
    run.decide()
    assert run.accounting.pending_flows == 1
    run.answer(asked[-1])
    run.decide()
    (decision,) = run.attribution.decisions.values()
    assert decision.owners == {X}


def test_dataflow_asks_about_services_only() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="dataflow"))
    run.observe(FLOW)
    asked = run.ask()
    assert {one.shape for one in asked} == {S, R}
    for one in asked:
        run.answer(one, X)
    run.decide()
    assert run.accounting.pending_flows == 0


def test_freed_numbers_start_anew() -> None:
    run = AttributionRun()
    run.observe(FLOW)
    asked = run.ask()
    run.observe(replace(FLOW, kind=RecordKind.CLOSED))
    run.accounting.apply(GiveUp(run.now + 1, run.now))
    sweep(run.accounting)
    run.observe(replace(FLOW, client="10.0.0.7", server="10.1.0.7"))
    for one in asked:
        run.answer(one)
    again = run.ask()
    assert len(again) == 3, "neither asked already nor a stranger's"
    assert not set(again) & set(asked)


def test_flows_without_answers_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    # A host that strangers talk to has more clients than can ever be asked about.
    run = AttributionRun(max_flows=60_000)
    addresses = np.arange(50_000)
    batch = batch_of(FLOW).take(np.zeros(len(addresses), np.intp))
    for name in ("client_low", "translated_client_low"):
        setattr(batch, name, (0xFFFF_0B00_0000 + addresses).astype(np.uint64))
    run.accounting.apply(TakeStep(batch, run.now, run.now))
    for one in run.ask(limit=3):
        run.answer(one)
    looked_at: list[int] = []
    questions_about = run.attribution.questions_about

    def counted(number: int) -> list[Question]:
        looked_at.append(number)
        return questions_about(number)

    monkeypatch.setattr(run.attribution, "questions_about", counted)
    run.attribution.judge_again()
    run.decide()
    assert run.accounting.pending_flows > 49_000
    assert len(looked_at) < 20


def test_every_workspace_is_asked() -> None:
    elsewhere = Place("v", "ns")
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection", elsewhere=(elsewhere,)))
    run.observe(replace(FLOW, flags=int(Flag.PRESENT)))
    asked = run.ask()
    assert [(one.shape, one.place) for one in asked] == [
        (shape, place) for shape in (C, S) for place in (Place("", "ns"), elsewhere)
    ]
    theirs = X._replace(workspace="v")
    for one in asked:
        run.answer(one, *([theirs] if one.workspace else []))
    run.decide()
    (decision,) = run.attribution.decisions.values()
    assert (decision.state, decision.owners) == (State.ATTRIBUTED, some(theirs))


@pytest.mark.parametrize(
    ("what", "cause"),
    [("nothing", "budget: "), ("failure", "errors: timeout"), ("failure elsewhere", "breaker: ")],
)
def test_failed_has_a_cause(what: str, cause: str) -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection"))
    run.observe(FLOW, replace(FLOW, client="10.0.0.2", id=2, server_port=80))
    run.observe(replace(FLOW, kind=RecordKind.CLOSED))
    if what != "nothing":
        about = "10.0.0.1" if what == "failure" else "10.0.0.2"
        (one,) = [one for one in run.ask() if one.source and str(one.source.address) == about]
        run.attribution.fail(one, "timeout: no answer", now=run.now)
    run.accounting.apply(GiveUp(run.now + 1, run.now))
    (decision,) = run.attribution.decisions.values()
    assert (decision.state, decision.cause.startswith(cause)) == (State.FAILED, True)
