"""Numbers of ends."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.endpoints import EndpointTable
from flowmap.flows.hash_index import Hasher


@pytest.mark.parametrize("seed", range(5))
def test_ends_are_numbered_as_they_come_whatever_the_seed(seed: int) -> None:
    table = EndpointTable(200, Hasher(np.random.default_rng(seed).bytes(48)))
    low = np.array([7, 3, 7, 9, 3, 1], np.uint64)
    assert table.intern_clients(np.zeros(6, np.uint64), low).tolist() == [0, 1, 0, 2, 1, 3]
    many = np.arange(1, 101, dtype=np.uint64)[::-1].copy()
    numbers = table.intern_clients(np.zeros(100, np.uint64), many).tolist()
    assert sorted(numbers) == list(range(100))
    assert [number for number in numbers if number > 3] == list(range(4, 100))
