"""Decisions: rows are grouped by series, unless the order counts."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.attribute.decisions import CODE, STATES, Decision, joined
from flowmap.model.deployment import Owner, State

X = Owner("w", "ns", "x", "x")


def decision(state: State, *owners: Owner, special: str = "") -> Decision:
    return Decision(state, frozenset(owners), {}, 1.0, special=special)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1], [2]], [[1, 2]]),
        ([[1], [1]], [[1], [1]]),  # decided twice
        ([[1, 2]], [[1, 2]]),
    ],
)
def test_joined(rows: list[list[int]], expected: list[list[int]]) -> None:
    decided = [(decision(State.ATTRIBUTED, X), np.array(some, np.int32)) for some in rows]
    assert [some.tolist() for *_, some in joined(decided)] == expected


def test_reason_is_the_state_unless_the_address_is_special() -> None:
    assert decision(State.UNKNOWN).reason == "unknown"
    assert decision(State.UNKNOWN, special="special_address").reason == "special_address"


def test_a_new_flow_is_pending() -> None:
    assert CODE[State.PENDING] == 0 and set(STATES) == set(State)
