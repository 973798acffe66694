"""What another source measures: added to flows that are there, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.flows.batch import Flag, RecordKind
from flowmap.flows.columns import Row
from tests.flows.test_table import bytes_of, started
from tests.support.records import Record, replace

OPENED, UPDATED, DUMPED, CLOSED, MEASURED = (
    RecordKind.OPENED,
    RecordKind.UPDATED,
    RecordKind.DUMPED,
    RecordKind.CLOSED,
    RecordKind.MEASURED,
)
OPEN = Record(OPENED, id=7, counters=bytes_of(100))
TOLD = Record(MEASURED, id=0, retransmits=3, round_trip=250)


def test_it_is_added_to_the_flow() -> None:
    feed = started()
    (row,) = feed(OPEN).opened.tolist()
    applied = feed(TOLD)
    assert applied.rows.tolist() == [row]
    assert applied.retransmits.tolist() == [3]
    assert not applied.deltas.any()
    assert feed.table.columns.round_trip[row] == 250
    assert feed(replace(TOLD, retransmits=5)).retransmits.tolist() == [2]
    assert not len(feed(replace(TOLD, retransmits=5)).rows)


@pytest.mark.parametrize("record", [TOLD, replace(TOLD, client_port=1), replace(TOLD, flags=Flag.ENDING)])
def test_it_never_opens_a_flow(record: Record) -> None:
    feed = started()
    applied = feed(record)
    assert (len(feed.table), feed.table.open_flows, len(applied.opened), applied.shed) == (0, 0, 0, 0)


def test_a_socket_that_is_there_proves_its_client() -> None:
    feed = started()
    (row,) = feed(OPEN).opened.tolist()
    columns = feed.table.columns
    feed(TOLD)
    assert columns.active[row] == -np.inf
    feed(replace(TOLD, flags=Flag.PRESENT))
    assert columns.active[row] == feed.now - 0.5  # when it was read, not when it was taken
    feed(replace(TOLD, flags=Flag.PRESENT | Flag.ENDING))
    assert columns.active[row] == feed.now - 1.5


@pytest.mark.parametrize(("ending", "told"), [(False, [3]), (True, [])])
def test_the_last_word_of_a_socket_is_not_for_the_next_connection(ending: bool, told: list[int]) -> None:
    feed = started()
    feed(OPEN)
    assert feed(replace(TOLD, flags=Flag.ENDING if ending else 0)).retransmits.tolist() == told


def test_the_last_word_is_for_a_connection_that_is_over() -> None:
    feed = started()
    feed(OPEN)
    feed(Record(UPDATED, id=7, counters=bytes_of(100), flags=Flag.ENDING))
    assert feed(TOLD).retransmits.tolist() == []
    assert feed(replace(TOLD, flags=Flag.ENDING)).retransmits.tolist() == [3]


def test_what_was_before_the_daemon_is_not_counted() -> None:
    feed = started()
    feed.table._starting = True
    feed(Record(DUMPED, id=7, counters=bytes_of(100)))
    assert feed(TOLD).retransmits.tolist() == []
    assert feed(replace(TOLD, retransmits=4)).retransmits.tolist() == [1]


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 9), st.sampled_from([0, Flag.PRESENT, Flag.ENDING])), max_size=20
    )
)
def test_no_byte_and_no_flow_depends_on_it(told: list[tuple[int, int, int]]) -> None:
    with_it, without = started(), started()
    for feed in (with_it, without):
        feed(OPEN, replace(OPEN, client_port=2, id=8))
    if told:
        with_it(*(replace(TOLD, client_port=40000 if n == 1 else n, retransmits=r, flags=f) for n, r, f in told))
    for feed in (with_it, without):
        feed(Record(CLOSED, id=7, counters=bytes_of(900)))
    assert with_it.total.tolist() == without.total.tolist()
    assert with_it.table.live().tolist() == without.table.live().tolist()
    for row in without.table.live().tolist():
        known = with_it.table.columns.flags[row] & ~np.uint16(Row.HEALTH_READ)
        assert known == without.table.columns.flags[row]
