"""Flow records in columns, with their moments and datagrams."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.records.batch import COLUMNS, Datagrams, FlowBatch, Moments


def moments(*instants: float) -> Moments:
    by = np.array(instants, np.float64)
    return Moments(by - 1, by, by - 0.5)


def test_a_new_batch_is_zero() -> None:
    batch = FlowBatch(3)
    assert batch.columns().keys() == COLUMNS.keys()
    assert {name: column.dtype for name, column in batch.columns().items()} == COLUMNS
    assert not any(column.any() for column in batch.columns().values())
    assert (len(batch), batch.datagrams, batch.moments) == (3, None, None)


@pytest.mark.parametrize(
    ("index", "ids"), [(np.array([2, 0]), [3, 1]), (np.array([False, True, True]), [2, 3]), (slice(0, 1), [1])]
)
def test_taken_records_keep_their_moments_and_lose_their_datagrams(index: np.ndarray | slice, ids: list[int]) -> None:
    batch = FlowBatch(3)
    batch.id[:] = [1, 2, 3]
    batch.moments, batch.datagrams = moments(1, 2, 3), Datagrams(b"", (0,))
    taken = batch.take(index)
    assert taken.id.tolist() == ids
    assert taken.moments is not None and taken.datagrams is None
    assert taken.moments.by.tolist() == ids
    assert taken.moments.before.tolist() == [one - 1 for one in ids]
    assert taken.moments.sent.tolist() == [one - 0.5 for one in ids]


def test_records_without_moments_have_none_when_taken() -> None:
    assert FlowBatch(2).take(slice(1)).moments is None


def test_a_single_batch_is_joined_as_it_is() -> None:
    batch = FlowBatch(2)
    batch.moments = moments(1, 2)
    assert FlowBatch.concatenate([batch]) is batch
    both = FlowBatch.concatenate([batch, FlowBatch(1)])
    assert (len(both), both.moments) == (3, None)
