"""Records in columns: taken, joined, and read row by row."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.records.batch import Datagrams, FlowBatch
from flowmap.flows.records.column_batch import ColumnBatch


class Pairs(ColumnBatch):
    __slots__ = ("left", "right")

    COLUMNS = {"left": np.dtype(np.uint8), "right": np.dtype(np.uint64)}


def pairs(*rows: tuple[int, int]) -> Pairs:
    made = Pairs(len(rows))
    for n, (left, right) in enumerate(rows):
        made.columns()["left"][n], made.columns()["right"][n] = left, right
    return made


TAKEN = [
    (np.array([2, 0]), [(5, 6), (1, 2)]),
    (np.array([True, False, True]), [(1, 2), (5, 6)]),
    (slice(1, None), [(3, 4), (5, 6)]),
    (slice(0, 0), []),
]


@pytest.mark.parametrize(("index", "expected"), TAKEN)
def test_take(index: np.ndarray | slice, expected: list[tuple[int, int]]) -> None:
    taken = pairs((1, 2), (3, 4), (5, 6)).take(index)
    assert (taken.rows(), len(taken)) == (expected, len(expected))


@pytest.mark.parametrize("sizes", [[], [0], [2], [1, 0, 3]])
def test_concatenate(sizes: list[int]) -> None:
    parts = [pairs(*((n, size) for n in range(size))) for size in sizes]
    joined = Pairs.concatenate(parts)
    assert joined.rows() == [row for part in parts for row in part.rows()]
    assert len(joined) == sum(sizes)
    assert {name: column.dtype for name, column in joined.columns().items()} == Pairs.COLUMNS


def test_derived_batches_have_no_datagrams() -> None:
    batch = FlowBatch(2)
    batch.datagrams = Datagrams(b"", [0])
    assert batch.take(slice(None)).datagrams is None
    assert FlowBatch.concatenate([batch, batch]).datagrams is None
