"""The traffic that waits for each question: the order of a fleet is that of one host's schedule."""

from __future__ import annotations

from flowmap.attribute.questions import Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.records.batch import RecordKind
from flowmap.model.deployment import Owner
from tests.support.attribution import AttributionRun
from tests.support.records import Record, replace

X = Owner("w", "ns", "x", "x")
FLOW = Record(RecordKind.OPENED, counters=(100, 20, 1, 1))


def test_flows_that_only_their_clients_can_decide_do_not_count_for_the_service() -> None:
    """Else the one service of many clients would get the calls that these wait for."""
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection", positive_ttl=5.0))
    run.observe(FLOW)
    first = run.ask()
    assert run.attribution.pending_traffic(first) == dict.fromkeys(first, 121.0), "nothing is known yet"
    for question in first:
        run.answer(question, X)
    run.decide()
    run.now += 10  # both are due again
    run.observe(*(replace(FLOW, client=f"10.0.0.{n}", id=n) for n in (7, 8, 9)))
    asked = run.ask()
    pending = run.attribution.pending_traffic(asked)
    assert [pending[one] for one in asked if one.shape is Shape.SINK] == [1.0]
    clients = {str(one.source.address): pending[one] for one in asked if one.source is not None}
    assert {clients[f"10.0.0.{n}"] for n in (7, 8, 9)} == {121.0}
