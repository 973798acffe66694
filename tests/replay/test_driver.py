"""Books driven over steps without a daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowmap.attribute.calls.budget import CallBudget
from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.replay.driver import ReplayDriver, Reply, TimedStep, answer, failure
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import Auditor, accounting_for
from tests.support.records import Record, batch_of, replace

X = DeploymentInfo(Owner("w", "ns", "x", "x"))
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT), counters=(0, 0, 0, 0))


def at(now: float, step: object) -> TimedStep:
    return TimedStep(step, now, now)  # type: ignore[arg-type]


def capture(*batches: tuple[float, object], end: float) -> Iterator[TimedStep]:
    """A full read, then ``batches`` at their times, with word that nothing is missing every half second."""
    yield at(0.0, ReadStarted("start"))
    yield at(0.0, ReadFinished(True))
    waiting = list(batches)
    for tick in range(1, int(end * 2) + 1):
        while waiting and waiting[0][0] <= tick / 2:
            yield at(*waiting.pop(0))
        yield at(tick / 2, CaughtUp(tick / 2))


def says_x(question: Question, now: float) -> Reply:
    return answer(question, now, [X], latency=0.05)


def run(offline: ReplayDriver, steps: Iterator[TimedStep]) -> ReplayDriver:
    for _ in offline.run(steps):
        pass
    Auditor(offline.accounting).check()
    return offline


def test_flows_of_a_capture_get_their_owners() -> None:
    grown = replace(FLOW, kind=RecordKind.CLOSED, counters=(100, 50, 2, 1))
    offline = run(ReplayDriver(accounting_for(), says_x), capture((1.0, batch_of(FLOW)), (3.0, batch_of(grown)), end=4))
    assert offline.accounting.series_table.totals().deployment == (100, 50)
    assert offline.calls == 4, "client, sink and source, and host since source names a deployment"


def test_answers_are_asked_again_when_they_grow_old() -> None:
    offline = run(ReplayDriver(accounting_for(), says_x), capture((1.0, batch_of(FLOW)), end=130))
    assert offline.calls == 12, "at once, after one minute and after two"


def test_a_control_plane_that_fails_leaves_flows_pending_and_then_failed() -> None:
    def fails(question: Question, now: float) -> Reply:
        return failure(question, now, "timeout: late", latency=1.0)

    closed = replace(FLOW, kind=RecordKind.CLOSED, counters=(100, 50, 2, 1))
    offline = run(
        ReplayDriver(accounting_for(), fails, give_up_after=20),
        capture((1.0, batch_of(FLOW)), (2.0, batch_of(closed)), end=70),
    )
    assert offline.accounting.pending == [0, 0]
    assert offline.accounting.series_table.totals().unattributed == (100, 50)


@pytest.mark.parametrize(("rate", "within"), [(1.0, 10), (5.0, 50)])
def test_a_budget_holds(rate: float, within: int) -> None:
    asked: list[float] = []

    def notes(question: Question, now: float) -> Reply:
        asked.append(now)
        return answer(question, now, [X], latency=0.05)

    clients = [replace(FLOW, client=f"10.0.0.{n}", id=n) for n in range(1, 201)]
    budget = CallBudget(rate=rate, burst=2, max_in_flight=2)
    run(
        ReplayDriver(accounting_for(AttributionSettings(namespaces=("ns",)), max_flows=300), notes, budget=budget),
        capture((0.5, batch_of(*clients)), end=10.5),
    )
    assert within * 0.8 <= len(asked) <= within + 2


def test_a_reply_that_never_comes_in_time_decides_nothing() -> None:
    def late(question: Question, now: float) -> Reply:
        return answer(question, now, [X], latency=100)

    offline = run(ReplayDriver(accounting_for(), late), capture((1.0, batch_of(FLOW)), end=5))
    assert offline.calls == 3
    assert offline.accounting.pending_flows == 1


def test_the_shapes_asked_follow_the_settings() -> None:
    shapes: set[Shape] = set()

    def notes(question: Question, now: float) -> Reply:
        shapes.add(question.shape)
        return says_x(question, now)

    run(
        ReplayDriver(accounting_for(AttributionSettings(namespaces=("ns",), semantics="dataflow")), notes),
        capture((1.0, batch_of(FLOW)), end=3),
    )
    assert shapes == {Shape.SINK, Shape.SOURCE}


def test_a_gap_of_years_is_passed_over() -> None:
    """A capture's clock may jump, or be made up: the questions of ten minutes are asked, then time goes on."""
    steps = [*capture((1.0, batch_of(FLOW)), end=2), at(3e8, CaughtUp(3e8)), at(3e8 + 1, CaughtUp(3e8 + 1))]
    offline = run(ReplayDriver(accounting_for(), says_x), iter(steps))
    assert 10 * 4 <= offline.calls <= 12 * 4
