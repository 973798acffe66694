"""Rates between two reads of the counters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.export.series import SeriesKey
from flowmap.export.snapshot import SeriesSnapshot, Snapshot
from flowmap.query.map.rates import SHORTEST, Sample, Samples, between

A, B, C = (SeriesKey("unattributed", (), "unknown", name, "tcp") for name in "abc")


def snapshot(at: float, *rows: tuple[SeriesKey | None, int], age: float | None = None) -> Snapshot:
    sent = np.array([count for _, count in rows], np.uint64)
    table = SeriesSnapshot(keys=tuple(key for key, _ in rows), transmit_bytes=sent, receive_bytes=sent * np.uint64(2))
    return Snapshot(taken_at=at, counter_age=age, series_table=table)


def test_a_rate_covers_at_least_ten_seconds() -> None:
    samples = Samples()
    for second in range(30):
        samples.add(snapshot(1000.0 + second, (A, 100 * second)))
    rates = samples.rates()
    assert rates is not None
    assert SHORTEST <= rates.until - rates.since < SHORTEST + 5
    assert (rates.until, rates.transmit.tolist(), rates.receive.tolist()) == (1029.0, [100.0], [200.0])


def test_no_rate_without_two_samples() -> None:
    samples = Samples()
    assert samples.rates() is None
    samples.add(Snapshot())
    samples.add(snapshot(1000.0, (A, 0)))
    assert samples.rates() is None
    samples.add(snapshot(1002.0, (A, 10)))
    rates = samples.rates()
    assert rates is not None and rates.transmit.tolist() == [5.0]


@given(st.integers(1, 60), st.integers(1, 6))
def test_a_steady_flow_has_a_steady_rate_however_seldom_it_is_read(every: int, phase: int) -> None:
    """Counters that are read every ``every`` seconds arrive at once; between reads nothing changes."""
    samples, seen = Samples(), set()
    for second in range(phase, 4 * every + 40):
        read = second - second % every
        samples.add(snapshot(1000.0 + second, (A, 1000 * read), age=float(second - read)))
        rates = samples.rates()
        if rates is not None:
            seen.update(rates.transmit.tolist())
    assert seen == {1000.0}


def test_a_clock_that_is_set_back_begins_again() -> None:
    samples = Samples()
    samples.add(snapshot(1000.0, (A, 0)))
    samples.add(snapshot(1010.0, (A, 100)))
    samples.add(snapshot(500.0, (A, 200)))
    assert samples.rates() is None
    samples.add(snapshot(510.0, (A, 300)))
    rates = samples.rates()
    assert rates is not None and rates.transmit.tolist() == [10.0]


ROWS: list[tuple[list[tuple[SeriesKey | None, int]], list[tuple[SeriesKey | None, int]], list[float]]] = [
    ([(A, 10)], [(A, 30)], [2.0]),
    ([(A, 10)], [(A, 30), (B, 50)], [2.0, 5.0]),
    ([(A, 10), (B, 1)], [(A, 30)], [2.0]),
    ([(A, 10)], [(C, 40)], [4.0]),
    ([(A, 100)], [(A, 40)], [0.0]),
    ([(None, 0)], [(B, 20)], [2.0]),
    ([], [], []),
]


@pytest.mark.parametrize(("before", "after", "expected"), ROWS)
def test_series_that_begin_and_expire(
    before: list[tuple[SeriesKey | None, int]], after: list[tuple[SeriesKey | None, int]], expected: list[float]
) -> None:
    def sample(at: float, rows: list[tuple[SeriesKey | None, int]]) -> Sample:
        table = snapshot(at, *rows).series_table
        return Sample(at, table.keys, table.transmit_bytes, table.receive_bytes)

    assert between(sample(0.0, before), sample(10.0, after)).transmit.tolist() == expected


def test_rates_of_a_later_snapshot() -> None:
    earlier, later = (Sample(at, (A, B), np.array([at * 10] * 2, np.uint64), np.zeros(2, np.uint64)) for at in (0, 10))
    transmit, _ = between(earlier, later).of((C, B, A))
    assert transmit.tolist() == [0.0, 10.0, 0.0]
