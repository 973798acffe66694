"""When connections of a client overlap: instants of births and of the last proof of life."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.attribute.answers.lifetimes import lifetimes_of
from flowmap.attribute.narrowing.overlaps import Connections, Unproven
from flowmap.flows.columns import Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.records.batch import RecordKind
from flowmap.flows.table import NEVER, FlowTable
from tests.support.records import Record, batch_of


def table_of(*flows: tuple[float, float]) -> tuple[FlowTable, Rows]:
    """Open flows of one client: when each began, and the last instant after which its client sent."""
    table = FlowTable(64)
    for number, (born, proven) in enumerate(flows):
        record = Record(RecordKind.OPENED, client_port=1000 + number, server_port=number + 1, id=number + 1)
        table.apply(batch_of(record), now=born, read_at=born)
        table.columns.active[number] = proven
    return table, np.arange(len(flows), dtype=np.int32)


CASES = [
    pytest.param([(1, 9)], (5, 8), True, id="both sent while both existed"),
    pytest.param([(1, 4)], (5, 8), False, id="the older one did not send since"),
    pytest.param([(1, 9)], (5, NEVER), False, id="the newer one has not sent yet"),
    pytest.param([(5, 8)], (1, 9), True, id="the other way round"),
    pytest.param([(1, 5)], (5, 8), True, id="at the same instant"),
    pytest.param([(1, 2), (9, 12)], (5, 8), False, id="one before, one after"),
    pytest.param([(9, 12), (2, 6)], (5, 8), True, id="one of several"),
    pytest.param([(1, 20), (3, 4)], (5, 8), True, id="the oldest of several"),
    pytest.param([], (5, 8), False, id="none"),
]


@pytest.mark.parametrize("others, flow, expected", CASES)
def test_overlap(others: list[tuple[float, float]], flow: tuple[float, float], expected: bool) -> None:
    table, rows = table_of(*others, flow)
    life = lifetimes_of(table, rows[:-1])
    connections = Connections.of(1, frozenset(), life.born_by, life.proven_until, rows[:-1])
    assert connections.overlap(lifetimes_of(table, rows[-1:])).tolist() == [expected]


@pytest.mark.parametrize(
    "row, proven, found",
    [(0, 4.0, False), (0, 5.0, True), (1, 0.5, False), (1, 1.0, True)],
    ids=["too early", "the older one sent", "before the other began", "the newer one sent"],
)
def test_a_client_is_looked_at_when_its_connections_sent_late_enough(row: int, proven: float, found: bool) -> None:
    table, rows = table_of((1, NEVER), (5, NEVER))
    unproven = Unproven(table)
    unproven.add(rows[:1], rows[1:])
    assert not len(unproven.take_clients())
    table.columns.active[row] = proven
    assert unproven.take_clients().tolist() == ([int(table.columns.client[0])] if found else [])
    assert not len(unproven.take_clients()), "once"


def test_connections_that_have_ended_are_forgotten() -> None:
    table, rows = table_of((1, NEVER), (5, NEVER))
    unproven = Unproven(table)
    for _ in range(3):
        unproven.add(rows[:1], rows[1:])
    table.columns.flags[rows] &= ~np.uint32(Row.OPEN)
    assert not len(unproven.take_clients())
    table.columns.flags[rows] |= np.uint32(Row.OPEN)
    table.columns.active[rows] = 9
    assert not len(unproven.take_clients())
