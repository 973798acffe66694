"""The owner state of a flow: each combination of its three columns is one state."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.attribute.decisions import CODE
from flowmap.attribute.owner_state import is_connected, is_credited_to_several, is_tied, is_undecided
from flowmap.flows.columns import IGNORED, PENDING, FlowColumns, Row
from flowmap.model.deployment import State

ROWS = np.zeros(1, np.int32)


@pytest.mark.parametrize(
    ("series", "verdict", "state", "expected"),
    [
        (IGNORED, -1, State.PENDING, None),
        (PENDING, -1, State.PENDING, is_undecided),
        (PENDING, 7, State.PENDING, is_tied),
        (PENDING, 7, State.SHARED, None),  # decided, and credited before the turn ends
        (PENDING, 7, State.ATTRIBUTED, None),
        (3, 7, State.SHARED, is_credited_to_several),
        (3, 7, State.AMBIGUOUS, is_credited_to_several),
        (3, 7, State.ATTRIBUTED, None),
        (3, 7, State.UNKNOWN, None),
    ],
)
def test_owner_states(series: int, verdict: int, state: State, expected: object) -> None:
    columns = FlowColumns(1)
    columns.series[0], columns.verdict[0], columns.state[0] = series, verdict, CODE[state]
    holding = [one for one in (is_undecided, is_tied, is_credited_to_several) if one(columns, ROWS)[0]]
    assert holding == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("flags", "connected"), [(Row.OPEN, True), (Row.OPEN | Row.ENDED, False), (Row.ENDED, False), (Row.USED, False)]
)
def test_connected(flags: Row, connected: bool) -> None:
    columns = FlowColumns(1)
    columns.flags[0] = flags
    assert is_connected(columns, ROWS).tolist() == [connected]
