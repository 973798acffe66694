"""The table of endpoints: numbers, sweeping, colliding hashes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from flowmap.flows.index.endpoints import EndpointKey, EndpointTable
from flowmap.flows.index.hash_index import Hasher
from flowmap.model.address import Address

SEED = bytes(range(1, 49))


def numbers(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_follow_arrival(seed: int) -> None:
    table = EndpointTable(200, Hasher(np.random.default_rng(seed).bytes(48)))
    low = np.array([7, 3, 7, 9, 3, 1], np.uint64)
    assert table.intern_clients(np.zeros(6, np.uint64), low).tolist() == [0, 1, 0, 2, 1, 3]
    many = np.arange(1, 101, dtype=np.uint64)[::-1].copy()
    numbers = table.intern_clients(np.zeros(100, np.uint64), many).tolist()
    assert sorted(numbers) == list(range(100))
    assert [number for number in numbers if number > 3] == list(range(4, 100))


def test_numbers_stay_until_swept() -> None:
    endpoints = EndpointTable(6, Hasher(SEED))
    a, b = Address.parse("10.0.0.1"), Address.parse("2001:db8::1")
    high, low = numbers([a.high, b.high, a.high]), numbers([a.low, b.low, a.low])
    clients = endpoints.intern_clients(high, low)
    services = endpoints.intern_services(high, low, np.array([53, 53, 53], np.uint16), np.array([6, 6, 17], np.uint8))
    assert clients.tolist()[0] == clients.tolist()[2]
    assert len({*clients.tolist(), *services.tolist()}) == len(endpoints) == 5
    assert endpoints.key(int(services[2])) == EndpointKey(a, 53, 17, True)
    in_use = np.zeros(6, np.bool_)
    in_use[services] = True
    assert sorted(endpoints.sweep(in_use).tolist()) == sorted(set(clients.tolist()))
    assert (len(endpoints), endpoints.room) == (3, 3)
    again = endpoints.intern_clients(high[:1], low[:1])
    assert endpoints.key(int(again[0])) == EndpointKey(a, 0, 0, False)
    with pytest.raises(OverflowError, match="sweep"):
        endpoints.intern_clients(numbers([7, 8, 9]), numbers([7, 8, 9]))


class Colliding(Hasher):
    """Gives every key the same hash."""

    def __call__(self, columns: Sequence[np.ndarray], apart: np.ndarray | None = None) -> np.ndarray:
        return np.zeros(len(columns[0]), np.uint64)


def test_colliding_hashes() -> None:
    endpoints = EndpointTable(10, Colliding(SEED))
    low = numbers([1, 2, 3, 1, 2])
    found = endpoints.intern_clients(numbers([0] * 5), low)
    assert [endpoints.key(number).address.low for number in found.tolist()] == [1, 2, 3, 1, 2]
    assert len(endpoints) == 3


def interned(table: EndpointTable, *low: int) -> list[int]:
    found = table.intern_clients(np.zeros(len(low), np.uint64), np.array(low, np.uint64))
    return [int(number) for number in found]


def test_a_number_is_freed_once() -> None:
    table = EndpointTable(50, Hasher(bytes(48)))
    first = interned(table, 1, 2, 3)
    in_use = np.zeros(table.capacity, np.bool_)
    in_use[first[0]] = True
    assert sorted(table.sweep(in_use).tolist()) == first[1:]
    assert table.sweep(in_use).tolist() == []
    later = interned(table, 4, 5, 6, 7)
    assert len({first[0], *later}) == 5, "two endpoints never share a number"
