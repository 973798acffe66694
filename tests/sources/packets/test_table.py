"""Timeouts of packet flows by protocol and state, the order of eviction, and rows that are used again."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.index.hash_index import Hasher
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.sources.packets.keys import Keys, keys_of
from flowmap.sources.packets.table import LEAST_SILENCE, LONGEST_SILENCE, PacketFlowState, PacketTable
from tests.support.packets import Packet, packets_of

HASHER = Hasher(bytes(range(1, 49)))
S = PacketFlowState
BOTH = S.SENT_LOWER | S.SENT_HIGHER


def keys(*ports: int, protocol: int = 6, source: str = "10.0.0.1") -> Keys:
    return keys_of(packets_of(*(Packet(source, port, protocol=protocol) for port in ports)), HASHER)


def opened(table: PacketTable, *states: S, protocol: int = 6) -> np.ndarray:
    known = keys(*range(1, len(states) + 1), protocol=protocol)
    return table.open(known, np.array(states, np.uint16), np.arange(len(states), dtype=np.float64))


@pytest.mark.parametrize(
    ("protocol", "state", "seconds"),
    [
        (6, S(0), 120),
        (6, S.SENT_LOWER, 120),
        (6, BOTH, 432_000),
        (6, S.GUESSED, 432_000),
        (6, BOTH | S.FIN_LOWER, 120),
        (6, BOTH | S.FIN_LOWER | S.FIN_HIGHER, 30),
        (6, BOTH | S.FIN_LOWER | S.RESET, 10),
        (17, S.SENT_LOWER, 30),
        (17, BOTH, 120),
        (1, BOTH, 30),
        (58, BOTH, 30),
        (132, BOTH, 600),
    ],
)
def test_timeouts(protocol: int, state: S, seconds: float) -> None:
    table = PacketTable(2)
    assert table.timeouts(opened(table, state, protocol=protocol)).tolist() == [seconds]
    closing = bool(state & (S.FIN_LOWER | S.RESET))
    assert closing or LEAST_SILENCE[protocol] <= seconds <= LONGEST_SILENCE[protocol]


def test_eviction_takes_ending_flows_first_then_unanswered_then_the_most_silent() -> None:
    table = PacketTable(8)
    rows = opened(table, BOTH, S.SENT_LOWER, BOTH | S.RESET, BOTH, S.SENT_LOWER, BOTH | S.FIN_LOWER)
    order = [2, 5, 1, 4, 0, 3]
    for count in range(len(order) + 1):
        assert table.surplus(count).tolist() == rows[order[:count]].tolist()


def test_a_freed_row_has_nothing_of_the_flow_before() -> None:
    table = PacketTable(1, timed=True)
    (row,) = opened(table, BOTH | S.RESET)
    table.bytes[row], table.sequence[row], table.alive[row] = 7, 9, 5.0
    table.close(np.array([row]))
    assert (len(table), table.find(keys(1)).tolist()) == (0, [-1])
    again = table.open(keys(2), np.array([0], np.uint16), np.array([3.0]))
    assert (again.tolist(), table.find(keys(2)).tolist(), table.find(keys(1)).tolist()) == ([row], [row], [-1])
    assert (table.bytes[row].tolist(), table.sequence[row].tolist(), table.last(again).tolist()) == (
        [0, 0],
        [0, 0],
        [3.0],
    )
    assert table.sent(again).tolist() == [-np.inf]
    assert table.next_id == 3


def test_ipv6_flows_that_share_the_lower_bits_are_different_rows() -> None:
    table = PacketTable(4)
    one, other = keys(1, source="2001:db8::1"), keys(1, source="2001:db8:1::1")
    rows = [table.open(some, np.zeros(1, np.uint16), np.zeros(1))[0] for some in (one, other)]
    assert rows[0] != rows[1]
    assert [table.find(some).tolist() for some in (one, other, keys(1))] == [[rows[0]], [rows[1]], [-1]]
    batch = table.records(np.array(rows), RecordKind.OPENED)
    assert {*batch.client_high.tolist(), *batch.server_high.tolist()} >= {0x20010DB8_00000000, 0x20010DB8_00010000}


def test_records_are_reported_once_and_doubtful_ones_have_no_counters() -> None:
    table = PacketTable(2)
    rows = opened(table, BOTH | S.CHANGED)
    assert len(table.those(S.CHANGED)) == 1
    batch = table.records(rows, RecordKind.UPDATED)
    assert Flag(int(batch.flags[0])) == Flag.COUNTERS | Flag.REPLIED | Flag.ASSURED
    assert len(table.those(S.CHANGED)) == 0
    doubtful = table.doubtful(rows)
    assert Flag(int(doubtful.flags[0])) == Flag.REPLIED | Flag.ASSURED | Flag.DOUBTFUL | Flag.PICKED_UP
    assert doubtful.kind.tolist() == [RecordKind.DUMPED]
