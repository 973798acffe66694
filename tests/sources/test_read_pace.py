"""The pause between full reads."""

from __future__ import annotations

import pytest

from flowmap.sources.read_pace import LEAST, SHARE, Stopwatch, pause_after


@pytest.mark.parametrize(
    ("seconds", "at_most", "pause"),
    [
        (0.0, 30.0, LEAST),
        (LEAST * SHARE, 30.0, LEAST),
        (0.2, 30.0, 0.2 / SHARE),
        (5.0, 30.0, 30.0),
        (0.0, 0.5, 0.5),
    ],
)
def test_pause(seconds: float, at_most: float, pause: float) -> None:
    assert pause_after(seconds, at_most) == pause


@pytest.mark.parametrize(("took", "used", "cost"), [(0.5, 0.1, 0.1), (0.5, 0.5, 0.5), (0.5, 0.9, 0.5)])
def test_waiting_costs_nothing(took: float, used: float, cost: float) -> None:
    clock, cpu = iter([100.0, 100.0 + took, 100.0 + took]), iter([7.0, 7.0 + used])
    watch = Stopwatch(lambda: next(clock), lambda: next(cpu))
    assert (watch.seconds(), watch.cost()) == pytest.approx((took, cost))
