"""Answers about both endpoints of a connection that leave no candidate together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowmap.attribute.answers.timeline import Answer, Lifetimes, Timeline
from flowmap.model.deployment import Owner

X, Y, Z = (Owner("w", "ns", name, name) for name in "xyz")


@pytest.mark.parametrize(
    ("answers", "left"),
    [
        ([{X}], {X}),
        ([{X, Z}], {X}),
        ([{X, Y}, {X}], {X}),
        ([{Z}], None),
        ([set()], None),
        ([{X}, {Y}], None),
        ([{X}, {Z}], {X}),
    ],
)
def test_candidates_that_remain(answers: list[set[Owner]], left: set[Owner] | None) -> None:
    timeline = Timeline()
    for number, owners in enumerate(answers):
        timeline.add(Answer(10.0 + number, 10.5 + number, frozenset(owners)))
    after, by, alive, proven, ended = (np.array([at]) for at in (0.0, 0.0, 100.0, 100.0, math.inf))
    life = Lifetimes(after, by, alive, proven, ended, np.array([False]))
    position, judged = timeline.tell_apart(life, frozenset({X, Y}))
    found = judged[int(position[0])]
    assert (found and set(found.owners)) == left
