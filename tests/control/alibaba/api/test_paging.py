"""Listings that change while they are read."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.control.alibaba.api.envelope import Elements
from flowmap.control.alibaba.api.models import Deployment
from flowmap.control.alibaba.api.paging import PASSES, Pager


def pager(size: int = 3, **options: int) -> Pager[Deployment]:
    return Pager(lambda item: item.deployment_id, page_size=size, **options)


def page(listing: list[str], index: int, size: int, *, total: bool = True) -> Elements[Deployment]:
    items = tuple(Deployment(deployment_id=name) for name in listing[(index - 1) * size : index * size])
    return Elements(items, page_index=index, page_size=size, total_size=len(listing) if total else None)


def read(reader: Pager[Deployment], states: list[list[str]], size: int = 3, *, total: bool = True) -> list[str]:
    """Read a listing that is in the next of ``states`` at each page, and stays in the last."""
    told: list[str] = []
    step = 0
    while reader.next_page is not None:
        listing = states[min(step, len(states) - 1)]
        told += [item.deployment_id for item in reader.apply(page(listing, reader.next_page, size, total=total))]
        step += 1
        assert step < 10_000
    return told


@given(st.integers(0, 40), st.integers(1, 10), st.booleans())
def test_a_listing_at_rest_is_read_once_and_in_order(count: int, size: int, total: bool) -> None:
    listing = [str(number) for number in range(count)]
    reader = pager(size)
    assert read(reader, [listing], size, total=total) == listing
    assert reader.complete and reader.total == count


A = list("abcdefg")

ROWS: list[tuple[str, list[list[str]], str, bool]] = [
    ("created at the end", [A, [*A, "h"]], "abcdefgh", True),
    ("created at the front", [A, ["h", *A]], "abcdefgh", True),
    ("deleted behind us", [A, A[1:]], "abcefgd", True),
    ("deleted before us", [A, A[:-1]], "abcdef", True),
    ("emptied", [A, []], "abc", True),
    ("grows for ever", [list(map(str, range(n, 0, -1))) for n in range(7, 60)], "", False),
]


@pytest.mark.parametrize(("name", "states", "told", "complete"), ROWS, ids=[row[0] for row in ROWS])
def test_a_listing_that_changes(name: str, states: list[list[str]], told: str, complete: bool) -> None:
    reader = pager()
    result = read(reader, states)
    assert reader.complete == complete
    assert len(result) == len(set(result))
    if told:
        assert "".join(result) == told


@given(st.integers(0, 30), st.integers(1, 7), st.randoms(use_true_random=False))
def test_lasting_elements_are_always_returned(count: int, size: int, rng: random.Random) -> None:
    """Deletions at random while reading: if the pager says complete, what survived was told, and told once."""
    states = [[str(number) for number in range(count)]]
    for _ in range(rng.randrange(12)):
        survivors = list(states[-1])
        if survivors and rng.random() < 0.5:
            del survivors[rng.randrange(len(survivors))]
        states.append(survivors)
    reader = pager(size)
    told = read(reader, states, size)
    assert len(told) == len(set(told))
    if reader.complete:
        assert set(states[-1]) <= set(told)


def test_smaller_pages_than_requested() -> None:
    reader = pager(100)
    listing = [str(number) for number in range(25)]
    told: list[str] = []
    while reader.next_page is not None:
        told += [item.deployment_id for item in reader.apply(page(listing, reader.next_page, 10))]
    assert told == listing and reader.complete


def test_dropped_elements_count_as_seen() -> None:
    reader = pager(3)
    reader.apply(Elements((Deployment(deployment_id="a"),), dropped=2, page_size=3, total_size=4))
    reader.apply(Elements((Deployment(deployment_id="b"),), page_size=3, total_size=4))
    assert (reader.next_page, reader.complete, reader.dropped) == (None, True, 2)


def test_empty_page_ends_the_listing() -> None:
    reader = pager(3)
    asked = 0
    while reader.next_page is not None:
        asked += 1
        reader.apply(Elements((), page_size=3, total_size=100))
    assert (asked, reader.complete) == (PASSES, False)


def test_the_number_of_pages_is_capped() -> None:
    reader = pager(3, pages=4)
    asked = 0
    while reader.next_page is not None:
        index = reader.next_page
        asked += 1
        reader.apply(Elements((Deployment(deployment_id=str(index)),) * 3, page_size=3, total_size=10**9))
    assert (asked, reader.complete) == (4, False)
