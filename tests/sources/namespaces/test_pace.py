"""Full reads of many namespaces share one pace."""

from __future__ import annotations

import pytest

from flowmap.sources.namespaces.pace import FIRST, SHARE, SharedPace


def test_few_namespaces_are_read_at_the_interval() -> None:
    pace = SharedPace(5.0)
    assert pace.note(1, 0.001) == 5.0


def test_many_namespaces_take_their_share_together() -> None:
    pace = SharedPace(5.0)
    for number in range(100):
        pace.note(number, 0.01)
        pause = pace.note(number, 0.01)
    assert pause == pytest.approx(1.0 / SHARE)
    for number in range(99):
        pace.forget(number)
    assert pace.pause == 5.0


def test_a_first_read_says_little_about_later_ones() -> None:
    pace = SharedPace(0.1)
    assert pace.note(1, 10.0) == pytest.approx(FIRST / SHARE)


def test_the_last_cost_of_a_namespace_counts() -> None:
    pace = SharedPace(1.0)
    pace.note(1, 0.002)
    pace.note(1, 10.0)
    assert pace.note(1, 0.3) == pytest.approx(0.3 / SHARE)
    pace.forget(1)
    pace.forget(1)
    assert pace.pause == 1.0
