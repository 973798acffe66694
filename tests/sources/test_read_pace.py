"""The pause between full reads."""

from __future__ import annotations

import pytest

from flowmap.sources.read_pace import LEAST, SHARE, pause_after


@pytest.mark.parametrize(
    ("seconds", "at_most", "pause"),
    [
        (0.0, 30.0, LEAST),
        (LEAST * SHARE, 30.0, LEAST),
        (0.2, 30.0, 0.2 / SHARE),
        (5.0, 30.0, 30.0),
        (0.0, 0.5, 0.5),
    ],
)
def test_pause(seconds: float, at_most: float, pause: float) -> None:
    assert pause_after(seconds, at_most) == pause
