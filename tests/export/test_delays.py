"""Delays of attribution, as histograms."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.export.delays import BOUNDS, Delays


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.5, 0), (0.51, 1), (1.0, 1), (600.0, len(BOUNDS) - 1), (601.0, len(BOUNDS))]
)
def test_the_bucket_of_a_delay(seconds: float, bucket: int) -> None:
    delays = Delays()
    delays.add("unknown", np.array([seconds]))
    counts = delays.freeze()["unknown"].counts
    assert counts == (0,) * bucket + (1,) * (len(BOUNDS) + 1 - bucket), "buckets are cumulative"


def test_delays_add_up_by_state_and_frozen_ones_stay() -> None:
    delays = Delays()
    delays.add("attributed", np.array([0.1, 3.0]))
    before = delays.freeze()
    delays.add("attributed", np.array([1000.0]))
    delays.add("shared", np.array([2.0]))
    delays.add("failed", np.zeros(0))
    after = delays.freeze()
    assert set(after) == {"attributed", "shared"}, "a state without flows has no histogram"
    assert (before["attributed"].counts[-1], after["attributed"].counts[-1]) == (2, 3)
    assert after["attributed"].seconds == pytest.approx(1003.1)
