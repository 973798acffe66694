"""The hash index and the endpoints it interns, against dictionaries."""

from __future__ import annotations

import random

import numpy as np
import pytest

from flowmap.flows.columns import occurrence_rounds
from flowmap.flows.endpoints import EndpointKey, EndpointTable
from flowmap.flows.hash_index import Hasher, KeyIndex
from flowmap.model.address import Address

SEED = bytes(range(1, 49))


def numbers(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


@pytest.mark.parametrize("spread", [1 << 64, 7, 1], ids=["few collisions", "many", "nothing else"])
@pytest.mark.parametrize("seed", range(3))
def test_the_index_is_a_dictionary(seed: int, spread: int) -> None:
    chance, room = random.Random(seed), 200
    index, keys = KeyIndex(room), np.zeros(room, np.uint64)
    model: dict[int, int] = {}
    hash_of = {key: chance.randrange(spread) for key in range(600)}

    def find(wanted: list[int]) -> list[int]:
        asked = numbers(wanted)
        found = index.find(numbers([hash_of[key] for key in wanted]), lambda at, rows: keys[rows] == asked[at])
        return list(map(int, found))

    for _ in range(150):
        free = sorted(set(range(room)) - set(model.values()))
        fresh = chance.sample([key for key in hash_of if key not in model], min(len(free), chance.randrange(20)))
        rows = np.array(chance.sample(free, len(fresh)), np.int32)
        keys[rows] = fresh
        index.insert(rows, numbers([hash_of[key] for key in fresh]))
        model.update(zip(fresh, rows.tolist(), strict=True))
        gone = chance.sample(sorted(model), min(len(model), chance.randrange(22)))
        index.remove(np.array([model.pop(key) for key in gone], np.int32))
        wanted = chance.choices(sorted(hash_of), k=30)
        assert find(wanted) == [model.get(key, -1) for key in wanted]


def test_tombstones_do_not_pile_up() -> None:
    index, keys = KeyIndex(1000), np.zeros(1000, np.uint64)
    rows = np.arange(1000, dtype=np.int32)
    hasher = Hasher(SEED)
    for n in range(20):
        keys[:] = np.arange(n * 1000, (n + 1) * 1000)
        hashes = hasher([keys])
        index.insert(rows, hashes)
        assert (index.find(hashes, lambda at, found: keys[found] == keys[at]) == rows).all()
        index.remove(rows)
        assert index._removed <= len(index._slots) // 4
    assert (index.find(hashes, lambda at, found: keys[found] == keys[at]) == -1).all()


def test_hashes_differ_in_every_column_and_by_seed() -> None:
    columns = [numbers([0] * 65) for _ in range(5)]
    for n, column in enumerate(columns):
        for bit in range(13):
            column[n * 13 + bit] = 1 << (5 * bit % 64)
    hashes = Hasher(SEED)(columns)
    assert len(set(hashes.tolist())) == 65
    assert len(set((hashes & np.uint64(0xFFFF)).tolist())) >= 60, "the low bits, which choose the slot, differ too"
    assert (Hasher(SEED[::-1])(columns) != hashes).any()


def test_ends_keep_their_numbers_until_swept() -> None:
    endpoints = EndpointTable(6, Hasher(SEED))
    a, b = Address.parse("10.0.0.1"), Address.parse("2001:db8::1")
    high, low = numbers([a.high, b.high, a.high]), numbers([a.low, b.low, a.low])
    clients = endpoints.intern_clients(high, low)
    services = endpoints.intern_services(high, low, np.array([53, 53, 53], np.uint16), np.array([6, 6, 17], np.uint8))
    assert clients.tolist()[0] == clients.tolist()[2]
    assert len({*clients.tolist(), *services.tolist()}) == len(endpoints) == 5
    assert endpoints.key(int(services[2])) == EndpointKey(a, 53, 17, True)
    assert endpoints.find(EndpointKey(a, 53, 17, True)) == services[2]
    assert endpoints.find(EndpointKey(a, 54, 17, True)) == -1
    in_use = np.zeros(6, np.bool_)
    in_use[services] = True
    assert sorted(endpoints.sweep(in_use).tolist()) == sorted(set(clients.tolist()))
    assert (len(endpoints), endpoints.room, endpoints.find(EndpointKey(a, 0, 0, False))) == (3, 3, -1)
    again = endpoints.intern_clients(high[:1], low[:1])
    assert endpoints.key(int(again[0])) == EndpointKey(a, 0, 0, False)
    with pytest.raises(OverflowError, match="sweep"):
        endpoints.intern_clients(numbers([7, 8, 9]), numbers([7, 8, 9]))


class Colliding(Hasher):
    """Everything has one hash."""

    def __call__(self, columns: object) -> np.ndarray:
        return np.zeros(len(columns[0]), np.uint64)  # type: ignore[index]


def test_ends_whose_hashes_collide_stay_apart() -> None:
    endpoints = EndpointTable(10, Colliding(SEED))
    low = numbers([1, 2, 3, 1, 2])
    found = endpoints.intern_clients(numbers([0] * 5), low)
    assert [endpoints.key(number).address.low for number in found.tolist()] == [1, 2, 3, 1, 2]
    assert len(endpoints) == 3


@pytest.mark.parametrize(
    ("hashes", "rounds"),
    [
        ([], None),
        ([1, 2, 3], None),
        ([1, 1], [[0], [1]]),
        ([5, 1, 5, 1, 5], [[0, 1], [2, 3], [4]]),
    ],
)
def test_rounds_keep_the_order_of_every_key(hashes: list[int], rounds: list[list[int]] | None) -> None:
    found = occurrence_rounds(numbers(hashes))
    assert (found and [part.tolist() for part in found]) == rounds


def test_rounds_of_one_flow_that_never_stops() -> None:
    found = occurrence_rounds(numbers([9] * 50_000 + [1]))
    assert found is not None
    assert (len(found), found[0].tolist(), sum(map(len, found))) == (50_000, [0, 50_000], 50_001)
