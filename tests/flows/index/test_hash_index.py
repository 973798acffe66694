"""The hash index and the endpoints it interns, against dictionaries."""

from __future__ import annotations

import random

import numpy as np
import pytest

from flowmap.flows.index.hash_index import Hasher, KeyIndex

SEED = bytes(range(1, 49))


def numbers(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


@pytest.mark.parametrize("spread", [1 << 64, 7, 1], ids=["few collisions", "many", "nothing else"])
@pytest.mark.parametrize("seed", range(3))
def test_index_against_a_dictionary(seed: int, spread: int) -> None:
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


def test_removed_slots_are_reclaimed() -> None:
    index, keys = KeyIndex(1000), np.zeros(1000, np.uint64)
    rows = np.arange(1000, dtype=np.int32)
    hasher = Hasher(SEED)
    for n in range(20):
        keys[:] = np.arange(n * 1000, (n + 1) * 1000)
        hashes = hasher([keys])
        index.insert(rows, hashes)
        assert (index.find(hashes, lambda at, found: keys[found] == keys[at]) == rows).all()
        index.remove(rows)
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


def test_hashes_differ_in_what_is_apart() -> None:
    columns = [numbers([7] * 40) for _ in range(5)]
    plain = Hasher(SEED)(columns)
    apart = Hasher(SEED)(columns, np.arange(40, dtype=np.uint32))
    assert apart[0] == plain[0], "0 is not apart, whatever the others are"
    assert len(set(apart.tolist())) == 40
    assert (Hasher(SEED)(columns, np.zeros(40, np.uint32)) == plain).all()
    assert (Hasher(SEED[::-1])(columns, np.arange(40, dtype=np.uint32)) != apart).all()
