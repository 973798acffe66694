"""Flows that change between two looks at the table."""

from __future__ import annotations

from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.records.batch import RecordKind
from flowmap.model.deployment import State
from flowmap.model.views import FlowChanges, FlowFilter
from tests.support.accounting import accounting_for
from tests.support.live_traffic import FLOW, LiveTraffic
from tests.support.records import replace

SECOND = replace(FLOW, client="10.0.0.2", id=2)
THIRD = replace(FLOW, client="10.0.0.3", id=3)


def ports(found: FlowChanges) -> list[str]:
    return [str(flow.client.address) for flow in found.flows]


def test_new_changed_and_gone_flows() -> None:
    traffic = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",))))
    traffic.see(FLOW, SECOND)
    first = traffic.queries.changes(FlowFilter(), 10, None)
    assert (ports(first), first.left_out, first.gone) == (["10.0.0.1", "10.0.0.2"], 0, ())
    same = traffic.queries.changes(FlowFilter(), 10, first.marks)
    assert (same.flows, same.left_out, same.gone) == ((), 0, ())
    traffic.see(THIRD)
    assert ports(traffic.queries.changes(FlowFilter(), 10, same.marks)) == ["10.0.0.3"]
    traffic.answer()
    named = traffic.queries.changes(FlowFilter(), 10, same.marks)
    assert {flow.state for flow in named.flows} > {State.ATTRIBUTED, State.UNKNOWN}
    traffic.see(replace(FLOW, kind=RecordKind.CLOSED, counters=(600, 70, 6, 1)))
    over = traffic.queries.changes(FlowFilter(), 10, named.marks)
    assert [str(flow.client.address) for flow in over.gone] == ["10.0.0.1"]
    assert traffic.queries.changes(FlowFilter(), 10, over.marks).gone == ()


def test_more_changes_than_one_answer_holds() -> None:
    traffic = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",))))
    for flow in (FLOW, SECOND, THIRD):
        traffic.see(flow)
    found = traffic.queries.changes(FlowFilter(), 2, None)
    assert (ports(found), found.left_out) == (["10.0.0.2", "10.0.0.3"], 1)
    assert traffic.queries.changes(FlowFilter(), 2, found.marks).flows == ()


def test_only_flows_that_pass() -> None:
    traffic = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",))))
    traffic.see(FLOW, SECOND)
    found = traffic.queries.changes(FlowFilter(state=State.PENDING), 10, None)
    assert len(found.flows) == 2
    traffic.answer()
    assert ports(traffic.queries.changes(FlowFilter(deployment="x"), 10, None)) == ["10.0.0.1"]
    gone = traffic.queries.changes(FlowFilter(state=State.PENDING), 10, found.marks).gone
    assert [str(flow.client.address) for flow in gone] == ["10.0.0.1"]
