"""Open flows that were ``unknown`` when an answer named their client, and whose client sends after it."""

from __future__ import annotations

import pytest

from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.attribute.unproven import AT_ONCE
from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import RecordKind
from flowmap.model.deployment import Owner, State
from flowmap.sources.base import ReadFinished, ReadStarted
from tests.support.attribution import AttributionRun
from tests.support.records import Record, batch_of

X = Owner("w", "ns", "x", "x")
MANY = AT_ONCE + 50


def record(kind: RecordKind, number: int, sent: int = 0) -> Record:
    counters = (sent, 0, sent // 100, 0) if kind is RecordKind.DUMPED else None
    return Record(kind, client_port=40000 + number, id=1 + number, counters=counters)


def read(run: AttributionRun, flows: int, sent: int) -> None:
    """A full read, in which every flow has sent so much."""
    run.now += 1
    records = [record(RecordKind.DUMPED, number, sent) for number in range(flows)]
    for step in (ReadStarted("timer"), batch_of(*records), ReadFinished(True)):
        run.accounting.apply(TakeStep(step, run.now, run.now))


def answered(run: AttributionRun, *owners: Owner) -> list[Question]:
    """The questions that are asked now, all answered so; clients with the owners, services always with X."""
    asked = run.ask()
    for one in asked:
        run.answer(one, *(owners if one.shape is Shape.CLIENT else [X]))
    return asked


def states(run: AttributionRun) -> dict[State, int]:
    decisions, table = run.attribution.decisions, run.accounting.table
    found: dict[State, int] = {}
    for row in table.live().tolist():
        state = decisions[int(table.columns.verdict[row])].state
        found[state] = found.get(state, 0) + 1
    return found


@pytest.mark.parametrize(("flows", "looks"), [(1, 1), (MANY, 2)])
def test_an_owner_who_was_learned_of_late_has_its_flow_with_the_next_read(flows: int, looks: int) -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection"), max_flows=2 * MANY)
    run.observe(*(record(RecordKind.OPENED, number) for number in range(flows)))
    assert answered(run)
    run.decide()
    assert states(run) == {State.UNKNOWN: flows}
    run.now += 3
    assert answered(run, X), "asked about again while its owner may be learned of"
    read(run, flows, 1000)
    run.decide()
    assert states(run) == {State.UNKNOWN: flows}, "it may have sent before the answer only"
    read(run, flows, 1000)
    run.decide()
    assert states(run) == {State.UNKNOWN: flows}, "its client sent nothing since"
    read(run, flows, 2000)
    for left in range(looks, 0, -1):
        run.attribution.judge_again()
        run.decide()
        assert states(run).get(State.UNKNOWN, 0) == max(0, flows - AT_ONCE * (looks - left + 1))
    assert states(run) == {State.ATTRIBUTED: flows}
