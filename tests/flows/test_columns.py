"""Columns of the flow table: endpoints of a row, cleared rows, batches split by key."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowmap.flows.columns import FlowColumns, key_columns, occurrence_rounds
from flowmap.flows.records.batch import RecordKind
from tests.support.records import Record, batch_of


def numbers(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


def test_endpoints_of_a_row() -> None:
    columns = FlowColumns(2)
    record = Record(RecordKind.OPENED, client="10.0.0.1", client_port=40000, server="2001:db8::1", server_port=443)
    key_columns(batch_of(record)).write(columns, np.array([1], np.int32))
    assert [str(endpoint) for endpoint in columns.endpoints_of(1)] == ["10.0.0.1:40000", "[2001:db8::1]:443"]
    rows = np.array([1], np.int32)
    fields = (columns.client_port(rows), columns.server_port(rows), columns.protocol(rows))
    assert [int(field[0]) for field in fields] == [40000, 443, 6]


def test_translated_endpoints_of_a_row() -> None:
    columns = FlowColumns(1)
    columns.translated[0], columns.translated_ports[0] = (0, 0xFFFF_0A00_0001, 0, 0xFFFF_0A00_0002), 7 << 16 | 80
    assert [str(endpoint) for endpoint in columns.translated_endpoints_of(0)] == ["10.0.0.1:7", "10.0.0.2:80"]


def test_reset_clears_what_a_flow_left() -> None:
    columns, rows = FlowColumns(2), np.array([0], np.int32)
    for name in ("last", "base", "retransmits", "resent", "round_trip", "read_at", "state", "ended_by", "verdict"):
        getattr(columns, name)[:] = 5
    columns.reset(rows)
    assert (columns.total(rows).tolist(), int(columns.state[0]), int(columns.verdict[0])) == ([[0, 0, 0, 0]], 0, -1)
    assert (columns.ended_after[0], columns.active[0], columns.ended_by[0]) == (-math.inf, -math.inf, math.inf)
    assert (int(columns.state[1]), int(columns.resent[1])) == (5, 5)


@pytest.mark.parametrize(
    ("hashes", "rounds"),
    [
        ([], None),
        ([1, 2, 3], None),
        ([1, 1], [[0], [1]]),
        ([5, 1, 5, 1, 5], [[0, 1], [2, 3], [4]]),
    ],
)
def test_rounds_keep_the_order_of_a_key(hashes: list[int], rounds: list[list[int]] | None) -> None:
    found = occurrence_rounds(numbers(hashes))
    assert (found and [part.tolist() for part in found]) == rounds


def test_rounds_of_one_busy_flow() -> None:
    found = occurrence_rounds(numbers([9] * 50_000 + [1]))
    assert found is not None
    assert (len(found), found[0].tolist(), sum(map(len, found))) == (50_000, [0, 50_000], 50_001)
