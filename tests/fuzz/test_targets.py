"""Every fuzz target takes its seeds, and some that were changed."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import frames, http, netlink
from tests.fuzz.__main__ import mutated
from tests.fuzz.target import Target

TARGETS = frames.TARGETS | http.TARGETS | netlink.TARGETS


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_target(target: Target) -> None:
    chance = random.Random(1)
    seeds = list(target.seeds())
    for seed in [*seeds, b"", b"\0" * 64]:
        target.run(seed)
    for _ in range(100):
        target.run(mutated(chance, seeds))
