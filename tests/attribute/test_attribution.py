"""Questions, when they are asked, and what decisions come of them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.calls.budget import CallBudget
from flowmap.attribute.calls.schedule import MAX_BACKOFF
from flowmap.attribute.questions import Owners, Place, Question, Semantics, Shape, candidates, question_for, state_of
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import GiveUp, TakeStep
from flowmap.flows.batch import Flag, RecordKind
from flowmap.flows.endpoints import EndpointKey
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner, State
from flowmap.sources.base import ReadFinished, ReadStarted
from tests.support.accounting import accounting_for, sweep
from tests.support.attribution import AttributionRun
from tests.support.records import Record, batch_of, replace

X, Y, Z = (Owner("w", "ns", name, name) for name in "xyz")
NONE: Owners = frozenset()
FLOW = Record(RecordKind.OPENED)
C, S, R = Shape.CLIENT, Shape.SINK, Shape.SOURCE


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
        ("both", {C: some(X, Y), S: some(X), R: some(Y)}, some(X, Y)),
        ("both", {C: some(X), S: NONE, R: NONE}, NONE),
        ("both", {C: NONE, S: None, R: None}, NONE),
        ("both", {}, None),
    ],
)
def test_how_answers_combine(
    semantics: Semantics, answers: dict[Shape, Owners | None], expected: Owners | None
) -> None:
    assert candidates(semantics, answers) == expected


@pytest.mark.parametrize(("number", "state"), [(0, "unknown"), (1, "attributed"), (2, "shared"), (3, "ambiguous")])
def test_states(number: int, state: str) -> None:
    assert state_of(frozenset([X, Y, Z][:number]), 2) == State(state)


@pytest.mark.parametrize("shape", [C, S, R])
def test_questions_are_about_one_end(shape: Shape) -> None:
    address = Address.parse("2001:db8::1")
    end = EndpointKey(address, 0, 0, False) if shape is C else EndpointKey(address, 9092, 6, True)
    asked = question_for("ns", shape, end)
    place = Endpoint(address, end.port)
    assert (asked.source, asked.destination) == ((None, place) if shape is S else (place, None))


def test_one_question_in_flight_a_key() -> None:
    run = AttributionRun()
    run.observe(FLOW)
    first = run.ask()
    assert [one.shape for one in first] == [C, S, R]
    assert run.ask() == []
    for one in first[:2]:
        run.answer(one, X)
    assert run.ask() == [], "an end is asked about as a whole"
    run.answer(first[2], X)
    run.now += 59
    assert run.ask() == []
    run.now += 2
    assert run.ask() == first


def test_every_namespace_is_asked_and_their_answers_join() -> None:
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


def test_who_waits_longest_is_asked_about_first_and_nobody_for_ever() -> None:
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


def test_service_ends_of_strangers_are_not_asked_about() -> None:
    run = AttributionRun()
    run.observe(FLOW)
    (client,) = run.ask(limit=1)
    run.answer(client)
    assert run.ask() == []
    run.now += 31
    assert run.ask() == [client], "strangers are asked about again, after the shorter time"
    run.answer(client, X)
    assert {one.shape for one in run.ask()} == {S, R}


def test_data_flow_needs_no_clients() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="dataflow"))
    run.observe(FLOW)
    asked = run.ask()
    assert {one.shape for one in asked} == {S, R}
    for one in asked:
        run.answer(one, X)
    run.decide()
    assert run.accounting.pending_flows == 0


def test_failures_back_off_and_success_ends_that() -> None:
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


def test_ends_that_share_a_question_both_hear_the_answer() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="dataflow"))
    run.observe(replace(FLOW, server_port=53), replace(FLOW, server_port=53, protocol=17))
    asked = run.ask()
    assert len(asked) == len(set(asked)) == 2
    for one in asked:
        run.answer(one, X)
    run.now += 61
    assert sorted(run.attribution.schedule.choose(run.accounting.table, now=run.now, limit=9)) != []
    assert len(run.attribution.schedule.choose(run.accounting.table, now=run.now, limit=9)) == 2


def test_the_numbers_of_ends_are_forgotten_with_them() -> None:
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


def test_contradictions_count_once_an_answer() -> None:
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


def test_answers_are_kept_within_bounds() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), cache_size=5))
    for n in range(20):
        question = Question("ns", C, Endpoint(Address(0, n), 0), None)
        run.answer(question, X)
        run.attribution.fail(question._replace(namespace="other"), "timeout", now=run.now)
    assert len(run.attribution) == 5


def test_what_was_known_before_a_restart_names_nobody_until_it_is_confirmed() -> None:
    confirms: list[Literal["strict", "fast"]] = ["strict", "fast"]
    for confirm in confirms:
        first = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection"))
        first.observe(FLOW)
        for one in first.ask():
            first.answer(one, X)
        known = dict(first.attribution.intervals())
        assert [range_.owners for range_ in known.values()] == [{X}, {X}]
        run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection", confirm=confirm))
        run.now = first.now + 10
        run.decide()
        for question, range_ in known.items():
            run.attribution.restore(question, range_, now=run.now)
        run.observe(FLOW)
        assert run.ask() == [], "asked a while ago: not due yet"
        run.decide()
        assert run.accounting.pending_flows == 1
        run.now += 60
        for one in run.ask():
            run.answer(one, X)
        run.decide()
        assert run.accounting.pending_flows == 0
        (decision,) = run.attribution.decisions.values()
        assert decision.owners == {X}
        ranges = dict(run.attribution.intervals())
        assert {(one.first_asked, one.answers) for one in ranges.values()} == {(known[q].first_asked, 2) for q in known}


def test_a_range_of_the_future_or_older_than_an_answer_is_not_restored() -> None:
    run = AttributionRun()
    question = Question("ns", C, Endpoint(Address(0, 1), 0), None)
    run.answer(question, Y)
    (known,) = [known for _, known in run.attribution.intervals()]
    run.attribution.restore(question, known._replace(owners=some(X)), now=run.now + 1)
    assert dict(run.attribution.intervals()) == {question: known}
    other = question._replace(namespace="other")
    run.attribution.restore(other, known, now=run.now)
    assert len(run.attribution) == 1


def test_many_flows_whose_ends_were_never_heard_of_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_budget_refills_and_limits_what_is_in_flight() -> None:
    budget = CallBudget(rate=2.0, burst=5, max_in_flight=3)
    assert budget.available(0.0) == 3
    for _ in range(3):
        budget.start(0.0)
    assert budget.available(0.0) == 0
    for _ in range(3):
        budget.finish()
    assert budget.available(0.0) == 2
    budget.start(0.0)
    budget.start(0.0)
    budget.finish()
    assert (budget.available(0.0), budget.next_at(0.0)) == (0, 0.5)
    assert (budget.available(0.5), budget.next_at(0.5)) == (1, 0.5)
    budget.finish()
    assert budget.available(1000.0) == 3
    assert budget.available(900.0) == 3, "a clock that went back gives nothing and takes nothing"


def test_answers_that_no_flow_can_need_are_dropped() -> None:
    run = AttributionRun()
    run.observe(FLOW)
    (client, *_) = run.ask()
    for _ in range(5):
        run.answer(client, X)
        run.now += 1
    timeline = run.attribution.timeline(client)
    assert timeline is not None
    run.attribution.forget_answers(run.now)
    assert len(timeline.answers) == 5, "the flow that waits began before all of them"
    run.attribution.forget_answers(float("-inf"))
    assert len(timeline.answers) == 5
    run.observe(replace(FLOW, kind=RecordKind.CLOSED))
    run.accounting.apply(GiveUp(run.now + 1, run.now))
    run.attribution.forget_answers(run.now - 2)
    assert [answer.arrived for answer in timeline.answers][0] <= run.now - 2 < timeline.answers[1].arrived


def test_looking_at_an_answer_does_not_keep_it() -> None:
    attribution = accounting_for(AttributionSettings(namespaces=("ns",), cache_size=2)).attribution
    first, second, third = (Question("ns", C, Endpoint(Address(0, n), 0), None) for n in range(3))
    for question in (first, second):
        attribution.receive(question, Answer(1.0, 2.0, some(X)))
    assert attribution.timeline(first) is not None
    attribution.receive(third, Answer(1.0, 2.0, some(X)))
    assert attribution.timeline(first) is None, "the oldest went, though a user looked at it"
    assert attribution.timeline(second) is not None


def test_every_workspace_is_asked_and_owners_carry_theirs() -> None:
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


def test_contradictions_are_listed_with_a_flow_and_what_was_said() -> None:
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
    assert listed.flow is not None and str(listed.flow[1]) == "10.1.0.1:9092"
    client = Question("ns", C, Endpoint(Address.parse("10.0.0.9"), 0), None)
    for asked, owner in ((100.0, X), (200.0, X), (150.0, Y)):
        run.attribution.receive(client, Answer(asked, asked + 1, some(owner)))
    newest = run.attribution.contradictions.latest()[0]
    assert (newest.question, newest.flows, newest.flow) == ("client 10.0.0.9", 0, None)
    assert run.attribution.contradictions.count == 3


@pytest.mark.parametrize(
    ("what", "cause"),
    [("nothing", "budget: "), ("failure", "errors: timeout"), ("failure elsewhere", "breaker: ")],
)
def test_failed_says_its_cause(what: str, cause: str) -> None:
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
