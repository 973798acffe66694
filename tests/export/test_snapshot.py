"""Snapshots: exact sums and conservation."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.export.snapshot import SeriesSnapshot, Snapshot, exact_bytes, exact_sum
from flowmap.model.views import ByteCount

U64 = np.uint64


def test_sums_go_beyond_64_bits() -> None:
    assert exact_sum(np.array([2**64 - 1] * 5, U64)) == 5 * (2**64 - 1)


def test_exact_bytes() -> None:
    assert exact_bytes(np.array([[1, 2, 9, 9], [2**64 - 1, 3, 9, 9]], U64)) == (2**64, 5)


@pytest.mark.parametrize(("observed", "conserved"), [((15, 9), True), ((16, 9), False), ((15, 8), False)])
def test_conserved(observed: tuple[int, int], conserved: bool) -> None:
    series_table = SeriesSnapshot(expired=ByteCount(10, 5))
    snapshot = Snapshot(
        observed_transmit_bytes=observed[0],
        observed_receive_bytes=observed[1],
        pending_transmit_bytes=5,
        pending_receive_bytes=4,
        series_table=series_table,
    )
    assert snapshot.conserved() is conserved
