"""Counters that a full read shows lower than before."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.counters import sums
from flowmap.flows.records.batch import RecordKind
from flowmap.flows.table import FlowTable
from tests.support.flow_table import Feed, bytes_of, started
from tests.support.records import Record, batch_of, replace

FLOW = Record(RecordKind.OPENED, counters=bytes_of(1000))
READ = replace(FLOW, kind=RecordKind.DUMPED)


@pytest.mark.parametrize("reads_before", [0, 1, 3])
def test_smaller_counters_in_a_read_were_zeroed_once_it_ends(reads_before: int) -> None:
    feed = started()
    feed(FLOW)
    for _ in range(reads_before):
        feed.read(READ)
    feed.table.begin_read()
    feed(replace(READ, counters=bytes_of(900)))
    assert feed.total.tolist() == list(bytes_of(1000)), "they may be of the next flow with its tuple"
    feed.end_read()
    assert feed.total.tolist() == list(bytes_of(1900))
    feed(replace(READ, kind=RecordKind.UPDATED, counters=bytes_of(950)))
    assert feed.total.tolist() == list(bytes_of(1950))


@pytest.mark.parametrize(
    ("counters", "grown"),
    [
        ([1000, 1500], 1500),
        ([1000, 1000], 1000),
        ([1000, 200], 1200),  # an event: the counters were zeroed, so all of it is new
        ([(1 << 64) - 5, (1 << 64) - 1], (1 << 64) - 1),
    ],
)
def test_absolute_counters_become_growth(counters: list[int], grown: int) -> None:
    feed = started()
    for number, count in enumerate(counters):
        feed(replace(FLOW, kind=RecordKind.UPDATED if number else RecordKind.OPENED, counters=(count, 0, 0, 0)))
    assert feed.total.tolist() == [grown, 0, 0, 0]


@pytest.mark.parametrize(("then", "total"), [(RecordKind.UPDATED, 500), (RecordKind.OPENED, 1500)])
def test_traffic_from_before_the_daemon_counts_only_for_flows_that_are_new(then: RecordKind, total: int) -> None:
    feed = Feed(FlowTable(10))
    feed.read(replace(FLOW, kind=RecordKind.DUMPED, counters=(1000, 0, 0, 0)))
    assert feed.total.tolist() == [0, 0, 0, 0]
    feed(replace(FLOW, kind=then, counters=(1500, 0, 0, 0)))
    assert feed.total.tolist() == [total, 0, 0, 0], "the event of an opening shows that the first read came after it"


@pytest.mark.parametrize(
    ("readings", "resent"), [([0, 3, 5], [0, 3, 2]), ([4, 1], [4, 1]), ([7, 7], [7, 0])], ids=["grows", "reset", "same"]
)
def test_retransmits(readings: list[int], resent: list[int]) -> None:
    feed = started()
    found = []
    for number, count in enumerate(readings):
        kind = RecordKind.UPDATED if number else RecordKind.OPENED
        found.append(int(feed(replace(FLOW, kind=kind, retransmits=count)).retransmits.sum()))
    assert found == resent


def test_sums_are_exact() -> None:
    batch = batch_of(*(replace(FLOW, id=n, counters=((1 << 64) - 1, 1, 2, 3)) for n in range(3)))
    assert sums(batch, np.array([True, False, True])) == ((1 << 65) - 2, 2, 4, 6)
