"""Figures of open flows: closing connections and round-trip times by series."""

from __future__ import annotations

import math

from flowmap.export.open_flows import measure
from flowmap.flows.columns import IGNORED
from flowmap.flows.records.batch import Flag, RecordKind
from tests.support.flow_table import started
from tests.support.records import Record, replace

FLOW = Record(RecordKind.OPENED, id=1)


def test_closing_connections_and_round_trips() -> None:
    feed = started()
    records = [replace(FLOW, client_port=n, id=n, flags=int(Flag.HEALTH), round_trip=n * 1000) for n in (1, 2, 3, 4)]
    rows = feed(*records).opened
    columns = feed.table.columns
    columns.series[rows] = 0, 0, 1, IGNORED
    feed(*(replace(one, kind=RecordKind.UPDATED, flags=int(Flag.ENDING)) for one in (records[2], records[3])))
    flows = measure(feed.table, 3, health=True)
    assert (flows.closing, flows.closing_by_series.tolist()) == (1, [0, 1, 0])
    assert flows.round_trip[0] == 0.0015 and math.isnan(flows.round_trip[2])
    assert all(map(math.isnan, measure(feed.table, 3, health=False).round_trip))
