"""Views: sums of peers, and filters that reach into the past."""

from __future__ import annotations

import math

import pytest

from flowmap.model.deployment import Owner
from flowmap.model.views import FlowFilter, PeerSeen, Traffic

X = Owner("w", "ns", "x", "x")


def test_peers_join() -> None:
    first = PeerSeen("kafka", "tcp", Traffic(1, 2, 3, 4, 5, 6), (X,), 10.0, 20.0)
    second = PeerSeen("kafka", "tcp", Traffic(10, 20, 30, 40, 50, 60), (X,), 5.0, 15.0)
    assert first.joined(second) == PeerSeen("kafka", "tcp", Traffic(11, 22, 33, 44, 55, 66), (X,), 5.0, 20.0)


@pytest.mark.parametrize(
    ("wanted", "of_past"), [(FlowFilter(), False), (FlowFilter(since=1.0), True), (FlowFilter(until=1.0), True)]
)
def test_of_past(wanted: FlowFilter, of_past: bool) -> None:
    assert wanted.of_past is of_past


@pytest.mark.parametrize(
    ("wanted", "window"),
    [
        (FlowFilter(), (-math.inf, math.inf)),
        (FlowFilter(since=1.0), (1.0, math.inf)),
        (FlowFilter(until=2.0), (-math.inf, 2.0)),
        (FlowFilter(since=0.0, until=0.0), (0.0, 0.0)),
    ],
)
def test_window(wanted: FlowFilter, window: tuple[float, float]) -> None:
    assert wanted.window == window
