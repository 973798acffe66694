"""Flows copied for history keep the decisions and workloads that the engine later changes."""

from __future__ import annotations

import numpy as np

from flowmap.attribute.decisions import CODE, Decision
from flowmap.flows.table import FlowTable
from flowmap.history.closed_flows import convert, copy_flows
from flowmap.model.deployment import State
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.workload import Workload
from tests.support.closed_flows import X


def test_what_copied_flows_refer_to_stays() -> None:
    whole, rows = FlowTable(2), np.array([0, 1], np.int32)
    table, workloads = whole.columns, whole.workloads
    table.verdict[rows], table.state[rows] = (7, 8), (CODE[State.ATTRIBUTED], CODE[State.UNKNOWN])
    decisions = {
        7: Decision(State.ATTRIBUTED, frozenset({X}), {}, 1.0),
        8: Decision(State.UNKNOWN, frozenset(), {}, 1.0, "no deployment"),
    }
    workloads.learn([(2, Workload("/a")), (3, Workload("/b")), (9, Workload("/unused"))])
    whole.namespaces.learn([(5, NetworkNamespace(9, "blue")), (6, NetworkNamespace(8, "unused"))])
    table.namespace[rows] = 5, 0
    table.client_workload[rows], table.server_workload[rows] = (3, 0), (2, 3)
    handed = copy_flows(whole, rows, decisions, epoch=1000.0, source="scripted")
    decisions.clear()
    workloads.learn([(2, Workload("/later"))])
    whole.namespaces.learn([(5, NetworkNamespace(9, "later"))])
    kept = convert(handed)
    ends = zip(kept.columns["client_workload"].tolist(), kept.columns["server_workload"].tolist(), strict=True)
    held = (None, *kept.workloads)
    assert [(held[client], held[server]) for client, server in ends] == [
        (Workload("/b"), Workload("/a")),
        (None, Workload("/b")),
    ]
    assert (kept.columns["namespace"].tolist(), kept.namespaces) == ([1, 0], (NetworkNamespace(9, "blue"),))
    stored = [kept.decisions[number] for number in kept.columns["decision"].tolist()]
    assert [(one.state, one.owners, one.cause) for one in stored] == [
        (State.ATTRIBUTED, (X,), ""),
        (State.UNKNOWN, (), "no deployment"),
    ]
