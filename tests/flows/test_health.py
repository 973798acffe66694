"""Facts measured by another source: added to existing flows only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.flows.columns import Row
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.flows.table import FlowTable
from tests.support.flow_table import Feed, bytes_of, started
from tests.support.records import Record, replace

OPENED, UPDATED, DUMPED, CLOSED, MEASURED = (
    RecordKind.OPENED,
    RecordKind.UPDATED,
    RecordKind.DUMPED,
    RecordKind.CLOSED,
    RecordKind.MEASURED,
)
OPEN = Record(OPENED, id=7, counters=bytes_of(100))
SOCKET = Record(MEASURED, id=0, retransmits=3, round_trip=250)


def test_health_is_added_to_its_flow() -> None:
    feed = started()
    (row,) = feed(OPEN).opened.tolist()
    applied = feed(SOCKET)
    assert applied.rows.tolist() == [row]
    assert applied.retransmits.tolist() == [3]
    assert not applied.deltas.any()
    assert feed.table.columns.round_trip[row] == 250
    assert feed(replace(SOCKET, retransmits=5)).retransmits.tolist() == [2]
    assert not len(feed(replace(SOCKET, retransmits=5)).rows)


@pytest.mark.parametrize("record", [SOCKET, replace(SOCKET, client_port=1), replace(SOCKET, flags=Flag.ENDING)])
def test_health_never_opens_a_flow(record: Record) -> None:
    feed = started()
    applied = feed(record)
    assert (len(feed.table), feed.table.open_flows, len(applied.opened), applied.shed) == (0, 0, 0, 0)


def test_a_present_socket_proves_its_client() -> None:
    feed = started()
    (row,) = feed(OPEN).opened.tolist()
    columns = feed.table.columns
    feed(SOCKET)
    assert columns.active[row] == -np.inf
    feed(replace(SOCKET, flags=Flag.PRESENT))
    assert columns.active[row] == feed.now - 0.5  # when it was read, not when it was taken
    feed(replace(SOCKET, flags=Flag.PRESENT | Flag.ENDING))
    assert columns.active[row] == feed.now - 1.5


@pytest.mark.parametrize(("ending", "measured"), [(False, [3]), (True, [])])
def test_final_health_is_not_for_the_next_connection(ending: bool, measured: list[int]) -> None:
    feed = started()
    feed(OPEN)
    assert feed(replace(SOCKET, flags=Flag.ENDING if ending else 0)).retransmits.tolist() == measured


def test_final_health_of_a_closed_connection() -> None:
    feed = started()
    feed(OPEN)
    feed(Record(UPDATED, id=7, counters=bytes_of(100), flags=Flag.ENDING))
    assert feed(SOCKET).retransmits.tolist() == []
    assert feed(replace(SOCKET, flags=Flag.ENDING)).retransmits.tolist() == [3]


def test_retransmits_before_startup_do_not_count() -> None:
    feed = Feed(FlowTable(50))  # its first full read has not ended
    feed(Record(DUMPED, id=7, counters=bytes_of(100)))
    assert feed(SOCKET).retransmits.tolist() == []
    assert feed(replace(SOCKET, retransmits=4)).retransmits.tolist() == [1]


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 9), st.sampled_from([0, Flag.PRESENT, Flag.ENDING])), max_size=20
    )
)
def test_bytes_and_flows_are_independent_of_health(measured: list[tuple[int, int, int]]) -> None:
    with_it, without = started(), started()
    for feed in (with_it, without):
        feed(OPEN, replace(OPEN, client_port=2, id=8))
    if measured:
        with_it(*(replace(SOCKET, client_port=40000 if n == 1 else n, retransmits=r, flags=f) for n, r, f in measured))
    for feed in (with_it, without):
        feed(Record(CLOSED, id=7, counters=bytes_of(900)))
    assert with_it.total.tolist() == without.total.tolist()
    assert with_it.table.live().tolist() == without.table.live().tolist()
    for row in without.table.live().tolist():
        known = with_it.table.columns.flags[row] & ~np.uint32(Row.HEALTH_READ)
        assert known == without.table.columns.flags[row]
