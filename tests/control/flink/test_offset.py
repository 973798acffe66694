"""The JobManager's clock from the times in its answers."""

from __future__ import annotations

import pytest

from flowmap.control.clock import Clock
from flowmap.control.flink.offset import UNKNOWN, ClockOffset

CLOCK = Clock(wall=lambda: 1000.0, monotonic=lambda: 100.0)


def test_before_a_job_tells() -> None:
    offset = ClockOffset(CLOCK)
    offset.note([], 99, 100)
    assert (offset.low, offset.high, offset.skew) == (-900 - UNKNOWN, -900 + UNKNOWN, None)


@pytest.mark.parametrize(
    ("notes", "low", "high"),
    [
        pytest.param([([1005.0], 99.0, 100.0)], 99 - 1005, 100 - 1005, id="one answer"),
        pytest.param([([1005.0, 1005.5], 99.0, 100.0)], 99 - 1005, 100 - 1005.5, id="two jobs in it"),
        pytest.param([([1005.0], 99.0, 100.0), ([1006.0], 100.5, 103.0)], 100.5 - 1006, 100 - 1005, id="narrowed"),
        pytest.param([([1005.0], 99.0, 100.0), ([2000.0], 101.0, 102.0)], 101 - 2000, 102 - 2000, id="set anew"),
    ],
)
def test_bounds(notes: list[tuple[list[float], float, float]], low: float, high: float) -> None:
    offset = ClockOffset(CLOCK)
    for made, asked, arrived in notes:
        offset.note(made, asked, arrived)
    assert offset.low == pytest.approx(low, abs=0.01)
    assert offset.high == pytest.approx(high, abs=0.01)
    assert offset.skew == pytest.approx(-900 - (low + high) / 2, abs=0.01)
