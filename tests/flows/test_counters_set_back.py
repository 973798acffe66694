"""Counters that a full read shows lower than before."""

from __future__ import annotations

import pytest

from flowmap.flows.records.batch import RecordKind
from tests.support.flow_table import bytes_of, started
from tests.support.records import Record, replace

FLOW = Record(RecordKind.OPENED, counters=bytes_of(1000))
READ = replace(FLOW, kind=RecordKind.DUMPED)


@pytest.mark.parametrize("reads_before", [0, 1, 3])
def test_nothing_is_counted_until_the_read_is_over(reads_before: int) -> None:
    feed = started()
    feed(FLOW)
    for _ in range(reads_before):
        feed.read(READ)
    feed.read(replace(READ, counters=bytes_of(900)))
    assert feed.total.tolist() == list(bytes_of(1000)), "the next flow of the tuple, or a table set to zero"
    feed(replace(READ, kind=RecordKind.UPDATED, counters=bytes_of(950)))
    assert feed.total.tolist() == [a + b for a, b in zip(bytes_of(1000), bytes_of(950), strict=True)]
