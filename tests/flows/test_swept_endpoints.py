"""Numbers of endpoints that were freed."""

from __future__ import annotations

import numpy as np

from flowmap.flows.index.endpoints import EndpointTable
from flowmap.flows.index.hash_index import Hasher


def numbers(table: EndpointTable, *low: int) -> list[int]:
    found = table.intern_clients(np.zeros(len(low), np.uint64), np.array(low, np.uint64))
    return [int(number) for number in found]


def test_a_number_is_freed_once() -> None:
    table = EndpointTable(50, Hasher(bytes(48)))
    first = numbers(table, 1, 2, 3)
    in_use = np.zeros(table.capacity, np.bool_)
    in_use[first[0]] = True
    assert sorted(table.sweep(in_use).tolist()) == first[1:]
    assert table.sweep(in_use).tolist() == []
    later = numbers(table, 4, 5, 6, 7)
    assert len({first[0], *later}) == 5, "two endpoints never share a number"
