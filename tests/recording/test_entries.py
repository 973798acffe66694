"""A checkpoint names the first figure that differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowmap.engine.factory import make_accounting
from flowmap.recording.entries import Checkpoint
from tests.support.commands import config

EMPTY = Checkpoint.of(make_accounting(config(), announces_births=True))


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (EMPTY, ""),
        (replace(EMPTY, flows=3), "flows 0, not 3"),
        (replace(EMPTY, observed=(1, 2), flows=3), "observed (0, 0), not (1, 2)"),
        (replace(EMPTY, series=EMPTY.series + 1), f"series {EMPTY.series}, not {EMPTY.series + 1}"),
    ],
)
def test_the_first_difference(other: Checkpoint, difference: str) -> None:
    assert EMPTY.difference(other) == difference
