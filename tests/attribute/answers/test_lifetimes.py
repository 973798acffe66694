"""When flows began and ended, as the rules of time read it from the table."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowmap.attribute.answers.lifetimes import lifetimes_of
from flowmap.flows.columns import Row
from flowmap.flows.records.batch import Flag, RecordKind
from tests.support.flow_table import bytes_of, started
from tests.support.records import Record, replace

FLOW = Record(RecordKind.OPENED, counters=bytes_of(100))


@pytest.mark.parametrize(("flags", "present"), [(0, False), (int(Flag.PRESENT), True)])
def test_an_open_flow(flags: int, present: bool) -> None:
    feed = started()
    feed.catch_up()
    feed(replace(FLOW, flags=flags))
    feed.catch_up()
    life = lifetimes_of(feed.table, feed.table.live())
    assert (life.born_after.tolist(), life.born_by.tolist()) == ([101.0], [102.0])
    assert life.alive_until.tolist() == [102.0] and life.ended_by.tolist() == [math.inf]
    assert (life.proven_until == life.alive_until).tolist() == [present], "without its socket a client must send"
    assert life.connectionless.tolist() == [False]


def test_a_closed_flow() -> None:
    feed = started()
    feed(FLOW)
    feed(replace(FLOW, kind=RecordKind.CLOSED), free=False)
    life = lifetimes_of(feed.table, feed.table.live())
    assert life.ended_by.tolist() == [feed.now]


def test_a_burst_has_its_own_beginning() -> None:
    feed = started()
    udp = replace(FLOW, protocol=17)
    feed(udp)
    rows = feed.table.live()
    feed.table.columns.series[rows] = 1
    feed(replace(udp, kind=RecordKind.UPDATED, counters=bytes_of(200)))
    columns, life = feed.table.columns, lifetimes_of(feed.table, rows)
    assert life.connectionless.tolist() == [True]
    assert life.born_by.tolist() == columns.burst_by[rows].tolist() == [feed.now]
    assert life.born_after.tolist() == columns.burst_after[rows].tolist()
    assert life.ended_by.tolist() == [feed.now], "it lasts to the last packet seen"
    columns.flags[rows] &= ~np.uint32(Row.UNCONFIRMED)
    assert lifetimes_of(feed.table, rows).born_by.tolist() == [feed.now - 1]
