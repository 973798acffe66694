"""Records whose source knows when each event happened, as of captures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowmap.flows.columns import FlowColumns, Row
from flowmap.flows.records.batch import Flag, Moments, RecordKind
from flowmap.flows.records.moments import note_moments
from flowmap.flows.table import FlowTable
from tests.support.records import Record, batch_of, replace

TCP = Record(RecordKind.OPENED)
UDP = replace(TCP, protocol=17)


def applied(opened: Record, *later: tuple[Record, float, float, float], flags: int = 0) -> tuple[FlowColumns, int]:
    """The row of a flow that was alive until 10.0, after records with (before, by, sent)."""
    table = FlowTable(10)
    table.apply(batch_of(opened), now=5.0, read_at=4.5, born_after=4.0)
    (row,) = table.live().tolist()
    table.columns.flags[row] |= np.uint32(flags)
    rows = np.array([row], np.int32)
    for record, *instants in later:
        batch = batch_of(record)
        batch.moments = Moments(*(np.array([instant]) for instant in instants))
        note_moments(table.columns, batch, rows, lambda some: np.full(len(some), 10.0))
    return table.columns, row


@pytest.mark.parametrize(
    ("opened", "flags", "ended_after"),
    [(TCP, 0, 20.0), (UDP, 0, 10.0), (TCP, Row.END_UNANNOUNCED, 10.0)],
    ids=["tcp", "no end is announced", "its end may have been missed"],
)
def test_the_end_of_a_flow(opened: Record, flags: int, ended_after: float) -> None:
    columns, row = applied(opened, (replace(opened, kind=RecordKind.CLOSED), 20.0, 21.0, 8.0), flags=flags)
    assert (columns.ended_after[row], columns.ended_by[row]) == (ended_after, 21.0)
    assert columns.flags[row] & np.uint32(Row.ENDED)


def test_the_first_end_counts() -> None:
    ending = replace(TCP, kind=RecordKind.UPDATED, flags=int(Flag.ENDING))
    columns, row = applied(TCP, (ending, 20.0, 21.0, 19.0), (replace(TCP, kind=RecordKind.CLOSED), 30.0, 31.0, 19.5))
    assert (columns.ended_by[row], columns.active[row]) == (21.0, 19.5)


def test_the_last_packet_of_the_client_never_moves_back() -> None:
    seen = replace(TCP, kind=RecordKind.UPDATED)
    columns, row = applied(TCP, (seen, 20.0, 21.0, 19.0), (seen, 22.0, 23.0, -math.inf))
    assert (columns.active[row], columns.ended_by[row]) == (19.0, math.inf)


def test_a_connectionless_flow_is_heard_of() -> None:
    columns, row = applied(UDP, (replace(UDP, kind=RecordKind.UPDATED), 20.0, 21.0, 19.0))
    assert columns.heard_by[row] == 20.0
    columns, row = applied(UDP, (UDP, 20.0, 21.0, 19.0))
    assert columns.heard_by[row] == 21.0, "an opening is its own first packet"


def test_batches_without_moments_change_nothing() -> None:
    table = FlowTable(10)
    table.apply(batch_of(TCP), now=5.0, read_at=4.5, born_after=4.0)
    arrays = {name: column for name, column in vars(table.columns).items() if isinstance(column, np.ndarray)}
    before = {name: column.copy() for name, column in arrays.items()}
    note_moments(
        table.columns, batch_of(replace(TCP, kind=RecordKind.CLOSED)), table.live(), lambda some: np.zeros(len(some))
    )
    assert all((before[name] == column).all() for name, column in arrays.items())
