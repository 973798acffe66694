"""Flows handed over to history: the writer forgets its decisions, and what was handed over keeps them."""

from __future__ import annotations

import numpy as np

from flowmap.attribute.decisions import CODE, Decision
from flowmap.flows.columns import FlowColumns
from flowmap.history.closed_flows import convert, copy_flows
from flowmap.model.deployment import State
from tests.support.closed_flows import X


def test_copied_decisions_stay() -> None:
    table, rows = FlowColumns(2), np.array([0, 1], np.int32)
    table.verdict[rows], table.state[rows] = (7, 8), (CODE[State.ATTRIBUTED], CODE[State.UNKNOWN])
    decisions = {
        7: Decision(State.ATTRIBUTED, frozenset({X}), {}, 1.0),
        8: Decision(State.UNKNOWN, frozenset(), {}, 1.0, "no deployment"),
    }
    handed = copy_flows(table, rows, decisions, epoch=1000.0, source="scripted")
    decisions.clear()
    kept = convert(handed)
    stored = [kept.decisions[number] for number in kept.columns["decision"].tolist()]
    assert [(one.state, one.owners, one.cause) for one in stored] == [
        (State.ATTRIBUTED, (X,), ""),
        (State.UNKNOWN, (), "no deployment"),
    ]
