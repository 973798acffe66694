"""The two ways to distinct rows give the same, and decisions are joined without a change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flowmap.attribute.answers.timeline import NO_OWNERS
from flowmap.attribute.decisions import Decision, joined
from flowmap.attribute.distinct import FEW, distinct_rows
from flowmap.model.deployment import Owner, State

X, Y = (frozenset({Owner("w", "ns", f"id-{name}", name)}) for name in "xy")


NUMBERS = st.integers(-2, 2) | st.sampled_from([-(2**30), 2**31 - 1])


@given(st.integers(0, 2 * FEW).flatmap(lambda n: arrays.arrays(np.int64, (3, n), elements=NUMBERS)))
def test_rows_are_what_numpy_says(columns: np.ndarray) -> None:
    found, position = distinct_rows([*columns, columns[0] > 0])
    table = np.stack([*columns, columns[0] > 0], axis=1)
    assert [tuple(row) for row in np.unique(table, axis=0).tolist()] == found
    assert [found[place] for place in position.tolist()] == [tuple(row) for row in table.tolist()]


def decided(state: State, owners: frozenset[Owner], *rows: int) -> tuple[Decision, np.ndarray]:
    return Decision(state, owners, {}, 1.0), np.array(rows, np.int32)


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ([], []),
        ([(State.ATTRIBUTED, X, 1), (State.ATTRIBUTED, Y, 2), (State.ATTRIBUTED, X, 3, 0)], [(X, [1, 3, 0]), (Y, [2])]),
        ([(State.UNKNOWN, NO_OWNERS, 1), (State.FAILED, NO_OWNERS, 2)], [(NO_OWNERS, [1]), (NO_OWNERS, [2])]),
        # A row that is decided twice goes through both, in their order.
        (
            [(State.ATTRIBUTED, X, 1), (State.SHARED, X | Y, 2), (State.ATTRIBUTED, X, 2)],
            [(X, [1]), (X | Y, [2]), (X, [2])],
        ),
    ],
)
def test_what_is_joined(
    given_: list[tuple[State, frozenset[Owner], int]], wanted: list[tuple[object, list[int]]]
) -> None:
    result = joined([decided(state, owners, *rows) for state, owners, *rows in given_])
    assert [(owners, rows.tolist()) for _, owners, _, rows in result] == wanted
