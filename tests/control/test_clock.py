"""The instant of an epoch time within a call."""

from __future__ import annotations

import pytest

from flowmap.control.clock import asked_instant


@pytest.mark.parametrize(
    ("asked_at", "now", "wall", "instant"),
    [
        (1000.5, 12.0, 1002.0, 10.5),
        (999.0, 12.0, 1002.0, 10.0),
        (1009.0, 12.0, 1002.0, 12.0),
        (1000.5, 12.0, 1062.0, 10.0),
        (1000.5, 12.0, 1002.005, 10.5),
    ],
    ids=["within", "before the call", "after it", "the clock was set", "the clock drifted"],
)
def test_asked_instant(asked_at: float, now: float, wall: float, instant: float) -> None:
    assert asked_instant(10.0, 1000.0, asked_at, now, wall) == pytest.approx(instant)
