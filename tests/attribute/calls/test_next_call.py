"""When the budget has room for the next call."""

from __future__ import annotations

import pytest

from flowmap.attribute.calls.budget import CallBudget


@pytest.mark.parametrize(("asked_at", "spare", "wanted"), [(0.0, False, 0.5), (0.2, False, 0.5), (9.0, False, 9.0)])
def test_time_without_calls_counts(asked_at: float, spare: bool, wanted: float) -> None:
    budget = CallBudget(rate=2.0, burst=4, max_in_flight=100)
    for _ in range(4):
        budget.start(0.0)
    assert budget.next_at(asked_at, spare=spare) == pytest.approx(wanted)
