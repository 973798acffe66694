"""Processes of this host at an address."""

from __future__ import annotations

import math

import pytest

from flowmap.model.tenure import LocalProcess


@pytest.mark.parametrize(
    ("mixed", "born", "alone"),
    [
        ((math.inf, -math.inf), (5.0, 6.0), True),
        ((10.0, 20.0), (5.0, 10.0), True),
        ((10.0, 20.0), (5.0, 11.0), False),
        ((10.0, 20.0), (12.0, 13.0), False),
        ((10.0, 20.0), (20.0, 21.0), False),
        ((10.0, 20.0), (21.0, 22.0), True),
        ((10.0, math.inf), (1e9, 1e9), False),
    ],
    ids=["never mixed", "before", "perhaps mixed", "mixed", "at the end", "after", "still mixed"],
)
def test_is_alone(mixed: tuple[float, float], born: tuple[float, float], alone: bool) -> None:
    assert LocalProcess("process", 7, *mixed).is_alone(*born) is alone
