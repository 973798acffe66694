"""The chain behind a flow's owners tells what was decided, and on what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import State
from flowmap.model.explanation import Explanation, Relation
from flowmap.model.views import AttributionView
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.live_traffic import EPOCH, FLOW, LiveTraffic, X, decided_traffic
from tests.support.records import replace


@pytest.fixture
def traffic() -> LiveTraffic:
    return decided_traffic()


def explained(
    traffic: LiveTraffic, source: str, destination: str, protocol: int = 6
) -> tuple[AttributionView, Explanation]:
    view = traffic.queries.answer(traffic.connection(source, destination, protocol=protocol), traffic.now, explain=True)
    assert view is not None and view.explanation is not None
    return view, view.explanation


def test_the_whole_chain(traffic: LiveTraffic) -> None:
    view, chain = explained(traffic, "10.0.0.1", "10.1.0.1")
    assert view.state is State.ATTRIBUTED
    assert chain.seen_by == ("test",)
    assert chain.orientation == "seen"
    assert (str(chain.client), str(chain.service)) == ("10.0.0.1:40000", "10.1.0.1:9092")
    assert chain.endpoint_reason == ""
    assert chain.combination == "client {x} ∩ (sink {x, y} ∪ source {x, y}) = {x}"
    (client,) = [question for question in chain.questions if question.shape == "client"]
    assert [answer.relation for answer in client.answers] == [Relation.INSIDE]
    assert (client.rule, client.owners) == ("inside", (X,))
    assert client.answers[0].owners == (X,)
    assert client.answers[0].asked_at - EPOCH == pytest.approx(client.answers[0].answered_at - EPOCH - 0.25)
    assert chain.decided_at is not None
    assert chain.jobs == "not listed yet"


@pytest.mark.parametrize(
    "ends", [("10.0.0.1", "10.1.0.1", 6), ("10.0.0.2", "10.1.0.1", 6), ("2001:db8::1", "2001:db8::2", 17)]
)
def test_only_what_the_decision_rests_on_is_combined(traffic: LiveTraffic, ends: tuple[str, str, int]) -> None:
    """A link that was answered, though not within a life that is proven, tells nothing apart and must not seem to."""
    view, chain = explained(traffic, *ends)
    decisive = {piece.shape for piece in view.evidence if piece.rule}
    assert {question.shape for question in chain.questions if question.rule} == decisive
    for tie in ("link", "exact"):
        assert (f"∩ {tie}" in chain.combination) == (tie in decisive)


def test_the_answer_that_decided_is_told_though_newer_ones_took_its_place(traffic: LiveTraffic) -> None:
    _, before = explained(traffic, "10.0.0.1", "10.1.0.1", 6)
    (decisive,) = (answer for answer in before.questions[0].answers if answer.decisive)
    for question in [question for question, _ in traffic.accounting.attribution.intervals()]:
        timeline = traffic.accounting.attribution.timeline(question)
        assert timeline is not None
        timeline.answers[:] = [Answer(traffic.now, traffic.now, frozenset())]
    _, after = explained(traffic, "10.0.0.1", "10.1.0.1", 6)
    assert [answer.decisive for answer in after.questions[0].answers] == [True, False]
    assert after.questions[0].answers[0].answered_at == decisive.answered_at
    assert after.questions[0].rule == before.questions[0].rule != ""


def test_it_is_there_only_where_it_is_asked_for(traffic: LiveTraffic) -> None:
    view = traffic.queries.answer(traffic.connection("10.0.0.1", "10.1.0.1"), traffic.now)
    assert view is not None and view.explanation is None


def test_nat_and_a_tie(traffic: LiveTraffic) -> None:
    view, chain = explained(traffic, "10.0.0.2", "10.1.0.1")
    assert view.state is State.SHARED
    assert (str(chain.client), str(chain.service)) == ("10.0.0.2:40000", "10.8.0.1:8080")
    assert "before source NAT" in chain.endpoint_reason and "after destination NAT" in chain.endpoint_reason
    assert chain.combination.startswith("client {x, y} ∩ (sink {x, y} ∪ source {x, y})")
    assert chain.combination.endswith(" = {x, y}")


def test_a_guess_and_nobody(traffic: LiveTraffic) -> None:
    view, chain = explained(traffic, "2001:db8::1", "2001:db8::2", protocol=17)
    assert view.state is State.UNKNOWN
    assert chain.orientation.startswith("guessed")
    assert chain.combination.startswith("client {} ∩")
    assert chain.combination.endswith("= {}")


def test_what_still_has_to_come_is_shown_as_such() -> None:
    traffic = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",))))
    for step in (ReadStarted("start"), ReadFinished(True)):
        traffic.accounting.apply(TakeStep(step, traffic.now, traffic.now))
    traffic.see(FLOW)
    view, chain = explained(traffic, "10.0.0.1", "10.1.0.1")
    assert view.state is State.PENDING
    assert chain.combination == "client {?} ∩ (sink {?} ∪ source {?})"
    assert chain.decided_at is None
    assert {question.answers for question in chain.questions} == {()}


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2)), min_size=1, max_size=6), st.booleans())
def test_an_answer_counts_as_inside_only_if_the_rules_would_say_so(gaps: list[tuple[float, float]], ends: bool) -> None:
    traffic = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",))))
    for step in (ReadStarted("start"), ReadFinished(True)):
        traffic.accounting.apply(TakeStep(step, traffic.now, traffic.now))
    traffic.see(replace(FLOW, flags=0))
    (question,) = [q for q in traffic.accounting.attribution.ask(now=traffic.now, limit=100) if q.shape is Shape.CLIENT]
    at = traffic.now - 2
    for pause, length in gaps:
        traffic.accounting.attribution.receive(question, Answer(at + pause, at + pause + length, frozenset({X})))
        at += pause + length
    traffic.now = at + 1
    if ends:
        traffic.see(replace(FLOW, kind=RecordKind.CLOSED, flags=0))
    else:
        traffic.accounting.apply(TakeStep(CaughtUp(traffic.now), traffic.now, traffic.now))
    (row,) = traffic.queries.find(traffic.connection("10.0.0.1", "10.1.0.1")).tolist()
    chain = traffic.queries.explain(row, traffic.now, chain=True).explanation
    assert chain is not None
    (asked,) = [one for one in chain.questions if one.shape == "client"]
    for answer in asked.answers:
        began, over = chain.life.started_by, chain.life.open_until
        assert began is not None
        inside = answer.asked_at >= began and over is not None and answer.answered_at <= over
        assert (answer.relation is Relation.INSIDE) == inside
    times = [answer.asked_at for answer in asked.answers]
    assert times == sorted(times)


def test_both_of_a_pair_are_named_as_sources() -> None:
    traffic = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",))))
    traffic.see(replace(FLOW, flags=0))
    traffic.see(replace(FLOW, kind=RecordKind.MEASURED, id=0, counters=None, retransmits=1, flags=Flag.PRESENT))
    _, chain = explained(traffic, "10.0.0.1", "10.1.0.1")
    assert chain.seen_by == ("test", "sockets")
    assert chain.life.client_seen_until is not None
