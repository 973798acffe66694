"""The answer cache: bounds, restored intervals, and what is dropped."""

from __future__ import annotations

from typing import Literal

from flowmap.attribute.answers.cache import AnswerCache
from flowmap.attribute.answers.lifetimes import lifetimes_of
from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import GiveUp
from flowmap.flows.records.batch import RecordKind
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner
from tests.support.accounting import accounting_for
from tests.support.attribution import AttributionRun
from tests.support.records import Record, replace

X, Y, Z = (Owner("w", "ns", name, name) for name in "xyz")
NONE: Owners = frozenset()
FLOW = Record(RecordKind.OPENED)
C, S, R = Shape.CLIENT, Shape.SINK, Shape.SOURCE


def some(*owners: Owner) -> Owners:
    return frozenset(owners)


def test_cache_is_bounded() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), cache_size=5))
    for n in range(20):
        question = Question("ns", C, Endpoint(Address(0, n), 0), None)
        run.answer(question, X)
        run.attribution.fail(question._replace(namespace="other"), "timeout", now=run.now)
    assert len(run.attribution) == 5


def test_restored_interval_needs_confirmation() -> None:
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
        run.decide()
        assert run.accounting.pending_flows == 1, "what was known before names no flow by itself"
        for one in run.ask():
            run.answer(one, X)
        run.decide()
        assert run.accounting.pending_flows == 0
        (decision,) = run.attribution.decisions.values()
        assert decision.owners == {X}
        ranges = dict(run.attribution.intervals())
        assert {(one.first_asked, one.answers) for one in ranges.values()} == {(known[q].first_asked, 2) for q in known}


def test_restore_ignores_future_and_older_intervals() -> None:
    run = AttributionRun()
    question = Question("ns", C, Endpoint(Address(0, 1), 0), None)
    run.answer(question, Y)
    (known,) = [known for _, known in run.attribution.intervals()]
    run.attribution.restore(question, known._replace(owners=some(X)), now=run.now + 1)
    assert dict(run.attribution.intervals()) == {question: known}
    other = question._replace(namespace="other")
    run.attribution.restore(other, known, now=run.now)
    assert len(run.attribution) == 1


def test_unneeded_answers_are_dropped() -> None:
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


def test_timeline_is_no_use() -> None:
    attribution = accounting_for(AttributionSettings(namespaces=("ns",), cache_size=2)).attribution
    first, second, third = (Question("ns", C, Endpoint(Address(0, n), 0), None) for n in range(3))
    for question in (first, second):
        attribution.receive(question, Answer(1.0, 2.0, some(X)))
    assert attribution.timeline(first) is not None
    attribution.receive(third, Answer(1.0, 2.0, some(X)))
    assert attribution.timeline(first) is None, "the oldest went, though a user looked at it"
    assert attribution.timeline(second) is not None


def test_a_question_about_both_endpoints_without_an_answer_is_one_miss() -> None:
    run = AttributionRun()
    run.observe(FLOW)
    table = run.accounting.table
    cache = AnswerCache(run.attribution.settings)
    question = Question("ns", Shape.LINK, Endpoint(Address(0, 1), 0), Endpoint(Address(0, 2), 9092))
    position, judged = cache.tell_apart(question, lifetimes_of(table, table.live()), some(X, Y))
    assert (position.tolist(), judged, cache.lookups) == ([0], [None], {(Shape.LINK, "miss"): 1})
    cache.add(question, Answer(0.0, 0.5, some(X)))
    cache.tell_apart(question, lifetimes_of(table, table.live()), some(X, Y))
    assert cache.lookups[Shape.LINK, "miss"] == 1


def test_answers_share_the_owners_that_they_name() -> None:
    cache = AnswerCache(AttributionSettings(namespaces=("ns",)))
    client = Question("ns", C, Endpoint(Address(0, 1), 0), None)
    sink = Question("ns", S, None, Endpoint(Address(0, 2), 9092))
    newest: list[Owners] = []
    for at, (question, names) in enumerate([(client, "x"), (sink, "xyz"), (sink, "xyz"), (sink, "xy")]):
        owners = frozenset(Owner("w", "ns", name, name) for name in names)  # objects of their own, as calls make them
        cache.add(question, Answer(at, at + 0.1, owners))
        newest.append(cache.latest(question))
    (first,), second, third, last = newest
    assert second is third
    assert {id(owner) for owner in last} < {id(owner) for owner in second}
    assert id(first) in {id(owner) for owner in last}
