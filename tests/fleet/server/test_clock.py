"""The server's clock: the truth lies in the bounds, as long as no clock is set; a set clock is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.fleet.server.clock import DRIFT, Bounds, ServerClock

STEPS = st.lists(
    st.tuples(st.floats(0, 30), st.floats(0, 2), st.floats(0, 2)),  # pause, way there, way back
    min_size=1,
    max_size=20,
)


@given(STEPS, st.floats(-1e6, 1e9), st.floats(-DRIFT / 2, DRIFT / 2))
def test_the_truth_lies_in_the_bounds(steps: list[tuple[float, float, float]], ahead: float, drift: float) -> None:
    clock, now = ServerClock(), 1000.0
    for pause, there, back in steps:
        sent = now + pause
        read = sent + there
        now = read + back
        assert clock.observe(sent=sent, received=now, server=read + ahead + drift * (read - 1000))
        bounds = clock.ahead(now)
        assert bounds is not None
        assert bounds.earliest - 1e-6 <= ahead + drift * (now - 1000) <= bounds.latest + 1e-6


@pytest.mark.parametrize(("step", "fits"), [(0.0, True), (0.05, True), (0.2, False), (-0.2, False), (3600.0, False)])
def test_a_set_clock_is_noticed_beyond_the_round_trip(step: float, fits: bool) -> None:
    clock = ServerClock()
    assert clock.observe(sent=10.0, received=10.1, server=1000.05)
    assert clock.observe(sent=11.0, received=11.1, server=1001.05 + step) is fits
    bounds = clock.ahead(11.1)
    assert bounds is not None and bounds.earliest <= 990 + step <= bounds.latest


def test_nothing_is_known_before_the_first_exchange() -> None:
    assert ServerClock().ahead(5.0) is None


def test_bounds_widen_with_time_and_narrow_with_quick_exchanges() -> None:
    clock = ServerClock()
    clock.observe(sent=0.0, received=1.0, server=100.5)
    slow = clock.ahead(1.0)
    later = clock.ahead(101.0)
    clock.observe(sent=101.0, received=101.01, server=200.505 + 1)
    quick = clock.ahead(101.01)
    assert slow and later and quick
    assert later.width == pytest.approx(slow.width + 200 * DRIFT)
    assert quick.width < 0.011


def test_uncertain_values_add_up() -> None:
    one, other = Bounds(1, 2), Bounds(10, 13)
    assert one.plus(other) == (11, 15)
    assert one.minus(other) == (-12, -8)
    assert one.width == 1
