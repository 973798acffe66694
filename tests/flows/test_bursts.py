"""Traffic of connectionless flows, burst by burst."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowmap.flows import bursts
from flowmap.flows.columns import PENDING, FlowColumns, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.records.batch import RecordKind
from tests.support.flow_table import bytes_of, started
from tests.support.records import Record, replace

UDP = Record(RecordKind.OPENED, protocol=17, server_port=53, counters=bytes_of(100))
GROWN = replace(UDP, kind=RecordKind.UPDATED, counters=bytes_of(300))


def columns_of(*records: Record) -> tuple[FlowColumns, Rows]:
    """The columns of a table with these flows, each credited to series 5 after its first record."""
    feed = started()
    columns = feed.table.columns
    for record in records:
        feed(record)
        columns.series[feed.table.live()] = 5
    return columns, feed.table.live()


@pytest.mark.parametrize(("protocol", "connectionless"), [(6, False), (17, True), (1, True), (132, True)])
def test_only_tcp_announces_its_end(protocol: int, connectionless: bool) -> None:
    columns, rows = columns_of(replace(UDP, protocol=protocol))
    assert bursts.is_connectionless(columns, rows).tolist() == [connectionless]


@pytest.mark.parametrize(("protocol", "series", "unconfirmed"), [(17, 5, True), (17, PENDING, False), (6, 5, False)])
def test_traffic_after_the_credit_waits(protocol: int, series: int, unconfirmed: bool) -> None:
    feed = started()
    feed(replace(UDP, protocol=protocol))
    columns, rows = feed.table.columns, feed.table.live()
    columns.series[rows] = series
    feed(replace(GROWN, protocol=protocol))
    assert bursts.is_unconfirmed(columns, rows).tolist() == [unconfirmed]
    if unconfirmed:
        assert columns.burst_after[rows] < columns.burst_by[rows] <= feed.now
        assert columns.heard_by[rows].tolist() == [feed.now]


def test_a_burst_keeps_its_first_instants() -> None:
    columns, rows = columns_of(UDP, GROWN)
    first = columns.burst_by[rows].copy()
    bursts.grow(columns, rows, np.array([900.0]), 901.0)
    assert columns.burst_by[rows].tolist() == first.tolist()
    assert columns.heard_by[rows].tolist() == [901.0]
    bursts.hear(columns, rows, 800.0)
    assert columns.heard_by[rows].tolist() == [901.0], "never back in time"


def test_unsettled_bytes_add_up_and_are_settled() -> None:
    columns, rows = columns_of(UDP, GROWN)
    twice = np.repeat(rows, 2)
    deltas = np.array([[1, 2, 3, 4], [10, 20, 30, 40]], np.uint64)
    assert bursts.add_unsettled(columns, twice, deltas) == 1, "one flow that had none before"
    assert columns.unsettled[rows].tolist() == [[11, 22, 33, 44]]
    assert bursts.add_unsettled(columns, twice, deltas) == 0
    bursts.settle(columns, rows)
    assert not columns.unsettled[rows].any() and not bursts.is_unconfirmed(columns, rows).any()


def test_the_flow_before_another_owner_s_burst_leaves_with_its_own_counters() -> None:
    columns, rows = columns_of(UDP, GROWN)
    columns.unsettled[rows] = [bytes_of(200)]
    columns.verdict[rows], columns.state[rows] = 3, 1
    bursts.keep_decision(columns, rows)
    columns.verdict[rows], columns.state[rows] = 4, 2
    left: list[tuple[list[int], int, int, float]] = []

    def leave(gone: Rows) -> None:
        (row,) = gone.tolist()
        left.append((columns.last[row].tolist(), columns.verdict[row], columns.state[row], columns.ended_by[row]))

    began = float(columns.burst_after[rows][0])
    bursts.leave_earlier(columns, rows, leave)
    assert left == [(list(bytes_of(100)), 3, 1, began)]
    (row,) = rows.tolist()
    assert (columns.last[row].tolist(), columns.base[row].tolist()) == (list(bytes_of(300)), list(bytes_of(100)))
    assert (columns.verdict[row], columns.state[row], columns.ended_by[row]) == (4, 2, math.inf)
    assert columns.born_after[row] == began


@pytest.mark.parametrize(
    ("protocol", "credits", "new"),
    [
        (17, [(5, True), (5, True)], [True, False]),
        (17, [(5, True), (6, True), (5, True)], [True, True, True]),
        (17, [(5, True), (9, False), (5, True)], [True, True, False]),
        (6, [(5, True), (5, True)], [True, True]),
    ],
    ids=["same owner", "another between", "several between", "tcp"],
)
def test_connections_of_a_series(protocol: int, credits: list[tuple[int, bool]], new: list[bool]) -> None:
    columns, rows = columns_of(replace(UDP, protocol=protocol))
    found = [
        bool(bursts.note_counted(columns, rows, np.array([to], np.int32), owned=owned)[0]) for to, owned in credits
    ]
    assert found == new


@pytest.mark.parametrize(
    ("protocol", "ended_by", "end"), [(17, math.inf, 300.0), (17, 200.0, 200.0), (6, 400.0, 400.0)]
)
def test_a_connectionless_flow_lasts_to_its_last_packet(protocol: int, ended_by: float, end: float) -> None:
    columns, rows = columns_of(replace(UDP, protocol=protocol))
    columns.ended_by[rows], columns.heard_by[rows] = ended_by, 300.0
    assert bursts.life_end(columns, rows).tolist() == [end]
    assert columns.ended_by[rows].tolist() == [ended_by], "the column stays"


def test_flags_of_others_stay() -> None:
    columns, rows = columns_of(UDP, replace(UDP, client_port=2, id=2))
    columns.flags[rows] |= np.uint32(Row.UNCONFIRMED)
    bursts.settle(columns, rows[:1])
    assert bursts.is_unconfirmed(columns, rows).tolist() == [False, True]
