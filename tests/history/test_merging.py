"""Merges of blocks: without gaps and within the limits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.history.merging import FACTOR, Extent, run_to_merge


def extents(*sizes: int) -> list[Extent]:
    starts = itertools.accumulate(sizes, initial=1)
    return [Extent(seq, size, n, n) for n, (seq, size) in enumerate(zip(starts, sizes, strict=False))]


MERGES = [
    ([], 0),
    ([10] * 7, 0),
    ([10] * 8, 8),
    ([1000] + [10] * 8, 8),
    ([10] * 8 + [1000], 9),
    ([10] * 8 + [2000], 0),
    ([1024] * 8, 8),
    ([1025] * 8, 0),
]


@pytest.mark.parametrize(("sizes", "merged"), MERGES)
def test_which_blocks_are_merged(sizes: list[int], merged: int) -> None:
    assert len(run_to_merge(extents(*sizes), most=8192, longest=1000)) == merged


@given(
    st.lists(st.integers(1, 3000), max_size=60),
    st.integers(64, 8192),
    st.integers(1, 1000),
)
def test_merges_have_no_gaps_and_fit(sizes: list[int], most: int, longest: int) -> None:
    blocks, seq = [], 1
    for n, size in enumerate(sizes):
        blocks.append(Extent(seq, size, n * 10, n * 10 + 5))
        seq += size + (n % 7 == 3)  # now and then a gap
    run = run_to_merge(blocks, most=most, longest=longest)
    if run:
        assert blocks[-len(run) :] == run and len(run) >= FACTOR
        assert sum(extent.flows for extent in run) <= most
        assert max(extent.last for extent in run) - min(extent.since for extent in run) <= longest
        assert all(one.seq + one.flows == other.seq for one, other in itertools.pairwise(run))
