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
from tests.support.accounting import books_for, sweep
from tests.support.attribution import Desk
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
    desk = Desk()
    desk.tell(FLOW)
    first = desk.ask()
    assert [one.shape for one in first] == [C, S, R]
    assert desk.ask() == []
    for one in first[:2]:
        desk.answer(one, X)
    assert desk.ask() == [], "an end is asked about as a whole"
    desk.answer(first[2], X)
    desk.now += 59
    assert desk.ask() == []
    desk.now += 2
    assert desk.ask() == first


def test_every_namespace_is_asked_and_their_answers_join() -> None:
    desk = Desk(AttributionSettings(namespaces=tuple(f"ns{n}" for n in range(300)), semantics="connection"))
    desk.tell(FLOW)
    asked = desk.ask()
    assert len(asked) == 600
    for one in asked[:-1]:
        desk.answer(one, *([X] if one.namespace == "ns7" else []))
    desk.settle()
    assert desk.accounting.pending_flows == 1
    desk.answer(asked[-1])
    desk.settle()
    (decision,) = desk.attribution.decisions.values()
    assert decision.owners == {X}


def test_who_waits_longest_is_asked_about_first_and_nobody_for_ever() -> None:
    desk = Desk(AttributionSettings(namespaces=("ns",), semantics="connection", negative_ttl=1.0, positive_ttl=1.0))
    for n in range(4):
        desk.tell(replace(FLOW, client=f"10.0.0.{n}", id=n + 1))
    turns = []
    for n in range(12):
        for one in [question for question in desk.ask(limit=1) if question.shape is C]:
            assert one.source is not None
            turns.append(str(one.source.address)[-1])
            desk.answer(one, X) if n % 2 else desk.answer(one)
        desk.now += 0.75
        if n == 3:
            desk.tell(replace(FLOW, client="10.0.0.9", id=9))
    assert turns[0] == "0"
    assert set(turns) >= {"0", "1", "2", "3", "9"}


def test_service_ends_of_strangers_are_not_asked_about() -> None:
    desk = Desk()
    desk.tell(FLOW)
    (client,) = desk.ask(limit=1)
    desk.answer(client)
    assert desk.ask() == []
    desk.now += 31
    assert desk.ask() == [client], "strangers are asked about again, after the shorter time"
    desk.answer(client, X)
    assert {one.shape for one in desk.ask()} == {S, R}


def test_data_flow_needs_no_clients() -> None:
    desk = Desk(AttributionSettings(namespaces=("ns",), semantics="dataflow"))
    desk.tell(FLOW)
    asked = desk.ask()
    assert {one.shape for one in asked} == {S, R}
    for one in asked:
        desk.answer(one, X)
    desk.settle()
    assert desk.accounting.pending_flows == 0


def test_failures_back_off_and_success_ends_that() -> None:
    desk = Desk(AttributionSettings(namespaces=("ns",), semantics="dataflow"))
    desk.tell(FLOW)
    pauses = []
    for n in range(9):
        sink, source = desk.ask()
        if n % 2:  # whichever of the two fails
            sink, source = source, sink
        desk.attribution.failed(sink, "timeout", now=desk.now)
        desk.answer(source, X)
        began = desk.now
        while not desk.attribution.schedule.choose(desk.accounting.table, now=desk.now, limit=1):
            desk.now += 0.25
        pauses.append(desk.now - began)
    assert pauses[:6] == pytest.approx([1, 2, 4, 8, 16, 32], abs=0.6)
    assert max(pauses) <= MAX_BACKOFF + 0.6
    for one in desk.ask():
        desk.answer(one, X)
    for one in desk.ask():
        raise AssertionError(one)
    desk.now += 61
    one, _ = desk.ask()
    desk.attribution.failed(one, "busy", now=desk.now, retry_after=5.0)


def test_ends_that_share_a_question_both_hear_the_answer() -> None:
    desk = Desk(AttributionSettings(namespaces=("ns",), semantics="dataflow"))
    desk.tell(replace(FLOW, server_port=53), replace(FLOW, server_port=53, protocol=17))
    asked = desk.ask()
    assert len(asked) == len(set(asked)) == 2
    for one in asked:
        desk.answer(one, X)
    desk.now += 61
    assert sorted(desk.attribution.schedule.choose(desk.accounting.table, now=desk.now, limit=9)) != []
    assert len(desk.attribution.schedule.choose(desk.accounting.table, now=desk.now, limit=9)) == 2


def test_the_numbers_of_ends_are_forgotten_with_them() -> None:
    desk = Desk()
    desk.tell(FLOW)
    asked = desk.ask()
    desk.tell(replace(FLOW, kind=RecordKind.CLOSED))
    desk.accounting.apply(GiveUp(desk.now + 1, desk.now))
    sweep(desk.accounting)
    desk.tell(replace(FLOW, client="10.0.0.7", server="10.1.0.7"))
    for one in asked:
        desk.answer(one)
    again = desk.ask()
    assert len(again) == 3, "neither asked already nor a stranger's"
    assert not set(again) & set(asked)


def test_contradictions_count_once_an_answer() -> None:
    desk = Desk(AttributionSettings(namespaces=("ns",), semantics="connection", positive_ttl=10.0))
    desk.tell(FLOW)
    for one in desk.ask():
        desk.answer(one, X)
    desk.settle()
    assert desk.attribution.contradictions.count == 0
    desk.now += 11
    for one in desk.ask():
        desk.answer(one, Y)
    desk.settle()
    assert desk.attribution.contradictions.count == 1
    desk.tell(replace(FLOW, client_port=2, id=2))
    for _ in range(3):  # looking again is no new answer
        desk.accounting.apply(TakeStep(ReadStarted("timer"), desk.now, desk.now))
        desk.tell(replace(FLOW, kind=RecordKind.DUMPED), replace(FLOW, kind=RecordKind.DUMPED, client_port=2, id=2))
        desk.accounting.apply(TakeStep(ReadFinished(True), desk.now, desk.now))
        desk.settle()
    assert desk.attribution.contradictions.count == 1
    (decision, *_) = desk.attribution.decisions.values()
    assert decision.owners == {X}, "and what was attributed stays"


def test_answers_are_kept_within_bounds() -> None:
    desk = Desk(AttributionSettings(namespaces=("ns",), cache_size=5))
    for n in range(20):
        question = Question("ns", C, Endpoint(Address(0, n), 0), None)
        desk.answer(question, X)
        desk.attribution.failed(question._replace(namespace="other"), "timeout", now=desk.now)
    assert len(desk.attribution) == 5


def test_what_was_known_before_a_restart_names_nobody_until_it_is_confirmed() -> None:
    confirms: list[Literal["strict", "fast"]] = ["strict", "fast"]
    for confirm in confirms:
        first = Desk(AttributionSettings(namespaces=("ns",), semantics="connection"))
        first.tell(FLOW)
        for one in first.ask():
            first.answer(one, X)
        known = dict(first.attribution.ranges())
        assert [range_.owners for range_ in known.values()] == [{X}, {X}]
        desk = Desk(AttributionSettings(namespaces=("ns",), semantics="connection", confirm=confirm))
        desk.now = first.now + 10
        desk.settle()
        for question, range_ in known.items():
            desk.attribution.restore(question, range_, now=desk.now)
        desk.tell(FLOW)
        assert desk.ask() == [], "asked a while ago: not due yet"
        desk.settle()
        assert desk.accounting.pending_flows == 1
        desk.now += 60
        for one in desk.ask():
            desk.answer(one, X)
        desk.settle()
        assert desk.accounting.pending_flows == 0
        (decision,) = desk.attribution.decisions.values()
        assert decision.owners == {X}
        ranges = dict(desk.attribution.ranges())
        assert {(one.first_asked, one.answers) for one in ranges.values()} == {(known[q].first_asked, 2) for q in known}


def test_a_range_of_the_future_or_older_than_an_answer_is_not_restored() -> None:
    desk = Desk()
    question = Question("ns", C, Endpoint(Address(0, 1), 0), None)
    desk.answer(question, Y)
    (known,) = [known for _, known in desk.attribution.ranges()]
    desk.attribution.restore(question, known._replace(owners=some(X)), now=desk.now + 1)
    assert dict(desk.attribution.ranges()) == {question: known}
    other = question._replace(namespace="other")
    desk.attribution.restore(other, known, now=desk.now)
    assert len(desk.attribution) == 1


def test_many_flows_whose_ends_were_never_heard_of_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    # A host that strangers talk to has more clients than can ever be asked about.
    desk = Desk(max_flows=60_000)
    addresses = np.arange(50_000)
    batch = batch_of(FLOW).take(np.zeros(len(addresses), np.intp))
    for name in ("client_low", "translated_client_low"):
        setattr(batch, name, (0xFFFF_0B00_0000 + addresses).astype(np.uint64))
    desk.accounting.apply(TakeStep(batch, desk.now, desk.now))
    for one in desk.ask(limit=3):
        desk.answer(one)
    looked_at: list[int] = []
    questions_about = desk.attribution.questions_about

    def counted(number: int) -> list[Question]:
        looked_at.append(number)
        return questions_about(number)

    monkeypatch.setattr(desk.attribution, "questions_about", counted)
    desk.attribution.look_again()
    desk.settle()
    assert desk.accounting.pending_flows > 49_000
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
    desk = Desk()
    desk.tell(FLOW)
    (client, *_) = desk.ask()
    for _ in range(5):
        desk.answer(client, X)
        desk.now += 1
    timeline = desk.attribution.timeline(client)
    assert timeline is not None
    desk.attribution.forget_answers(desk.now)
    assert len(timeline.answers) == 5, "the flow that waits began before all of them"
    desk.attribution.forget_answers(float("-inf"))
    assert len(timeline.answers) == 5
    desk.tell(replace(FLOW, kind=RecordKind.CLOSED))
    desk.accounting.apply(GiveUp(desk.now + 1, desk.now))
    desk.attribution.forget_answers(desk.now - 2)
    assert [answer.arrived for answer in timeline.answers][0] <= desk.now - 2 < timeline.answers[1].arrived


def test_looking_at_an_answer_does_not_keep_it() -> None:
    attribution = books_for(AttributionSettings(namespaces=("ns",), cache_size=2)).attribution
    first, second, third = (Question("ns", C, Endpoint(Address(0, n), 0), None) for n in range(3))
    for question in (first, second):
        attribution.answered(question, Answer(1.0, 2.0, some(X)))
    assert attribution.timeline(first) is not None
    attribution.answered(third, Answer(1.0, 2.0, some(X)))
    assert attribution.timeline(first) is None, "the oldest went, though a user looked at it"
    assert attribution.timeline(second) is not None


def test_every_workspace_is_asked_and_owners_carry_theirs() -> None:
    elsewhere = Place("v", "ns")
    desk = Desk(AttributionSettings(namespaces=("ns",), semantics="connection", elsewhere=(elsewhere,)))
    desk.tell(replace(FLOW, flags=int(Flag.PRESENT)))
    asked = desk.ask()
    assert [(one.shape, one.place) for one in asked] == [
        (shape, place) for shape in (C, S) for place in (Place("", "ns"), elsewhere)
    ]
    theirs = X._replace(workspace="v")
    for one in asked:
        desk.answer(one, *([theirs] if one.workspace else []))
    desk.settle()
    (decision,) = desk.attribution.decisions.values()
    assert (decision.state, decision.owners) == (State.ATTRIBUTED, some(theirs))


def test_contradictions_are_listed_with_a_flow_and_what_was_said() -> None:
    desk = Desk(AttributionSettings(namespaces=("ns",), semantics="connection", positive_ttl=10.0))
    desk.tell(FLOW, replace(FLOW, client_port=2, id=2))
    for one in desk.ask():
        desk.answer(one, X)
    desk.settle()
    desk.now += 11
    for one in desk.ask():
        desk.answer(one, X._replace(name="renamed"))
    desk.settle()
    assert desk.attribution.contradictions.latest() == (), "another name is no other owner"
    desk.now += 11
    asked_at = desk.now
    for one in desk.ask():
        desk.answer(one, Y)
    desk.settle()
    (listed,) = desk.attribution.contradictions.latest()
    assert (listed.question, listed.flows, listed.attributed, listed.answered) == ("client 10.0.0.1", 2, (X,), (Y,))
    assert (listed.asked_at, listed.answered_at) == (asked_at, asked_at + 0.25)
    assert listed.flow is not None and str(listed.flow[1]) == "10.1.0.1:9092"
    client = Question("ns", C, Endpoint(Address.parse("10.0.0.9"), 0), None)
    for asked, owner in ((100.0, X), (200.0, X), (150.0, Y)):
        desk.attribution.answered(client, Answer(asked, asked + 1, some(owner)))
    newest = desk.attribution.contradictions.latest()[0]
    assert (newest.question, newest.flows, newest.flow) == ("client 10.0.0.9", 0, None)
    assert desk.attribution.contradictions.count == 3


@pytest.mark.parametrize(
    ("what", "cause"),
    [("nothing", "budget: "), ("failure", "errors: timeout"), ("failure elsewhere", "breaker: ")],
)
def test_failed_says_its_cause(what: str, cause: str) -> None:
    desk = Desk(AttributionSettings(namespaces=("ns",), semantics="connection"))
    desk.tell(FLOW, replace(FLOW, client="10.0.0.2", id=2, server_port=80))
    desk.tell(replace(FLOW, kind=RecordKind.CLOSED))
    if what != "nothing":
        about = "10.0.0.1" if what == "failure" else "10.0.0.2"
        (one,) = [one for one in desk.ask() if one.source and str(one.source.address) == about]
        desk.attribution.failed(one, "timeout: no answer", now=desk.now)
    desk.accounting.apply(GiveUp(desk.now + 1, desk.now))
    (decision,) = desk.attribution.decisions.values()
    assert (decision.state, decision.cause.startswith(cause)) == (State.FAILED, True)
