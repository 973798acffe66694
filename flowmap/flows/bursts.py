"""Connectionless flows (every protocol but TCP): their traffic is confirmed burst by burst.

The kernel does not report the end of such a flow: another host can take the address and send from the same ports, and
the kernel sees one flow. So an answer about the owner counts for the packets that were seen before it. Traffic that
follows waits for the next confirmation, and may be another owner's. A *burst* is the traffic between two confirmations:

    heard_by                when the last packet of the flow had been seen
    Row.UNCONFIRMED         the flow is credited to a series, and more traffic followed
    burst_after, burst_by   an unconfirmed burst began between these instants
    unsettled               its bytes and packets, which are pending
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import FlowColumns, Mask, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import TCP
from flowmap.flows.records.batch import FlowBatch, RecordKind

_UNCONFIRMED = np.uint32(Row.UNCONFIRMED)

Times = npt.NDArray[np.float64]


def is_connectionless(columns: FlowColumns, rows: Rows) -> Mask:
    """Whether the end of each flow is not reported."""
    connectionless: Mask = columns.protocol(rows) != TCP
    return connectionless


def is_unconfirmed(columns: FlowColumns, rows: Rows) -> Mask:
    """Whether each flow has a burst that waits for a confirmation of its owner."""
    unconfirmed: Mask = (columns.flags[rows] & _UNCONFIRMED) != 0
    return unconfirmed


def begin(columns: FlowColumns, rows: Rows) -> None:
    """Note the first packets of new flows."""
    some = rows[is_connectionless(columns, rows)]
    columns.heard_by[some] = columns.born_by[some]
    columns.counted[some] = 0


def last_heard(batch: FlowBatch) -> Times:
    """When the last packet of each record was sent, for records with moments."""
    assert batch.moments is not None
    return np.where(batch.kind == RecordKind.OPENED, batch.moments.by, batch.moments.before)


def grow(columns: FlowColumns, rows: Rows, after: Times, by: Times | float) -> None:
    """Note that the counters of connectionless flows grew, by packets between two instants."""
    fresh = (columns.series[rows] >= 0) & ~is_unconfirmed(columns, rows)
    some = rows[fresh]
    if len(some):
        columns.flags[some] |= _UNCONFIRMED
        columns.burst_after[some], columns.burst_by[some] = after[fresh], np.broadcast_to(by, len(rows))[fresh]
    hear(columns, rows, by)


def hear(columns: FlowColumns, rows: Rows, by: Times | float) -> None:
    """Note by when packets of connectionless flows had been seen."""
    columns.heard_by[rows] = np.maximum(columns.heard_by[rows], by)


def add_unsettled(columns: FlowColumns, rows: Rows, deltas: npt.NDArray[np.uint64]) -> int:
    """Add growth of unconfirmed flows; a row can come more than once. Returns how many of them had none before."""
    new = int(np.count_nonzero(~columns.unsettled[np.unique(rows)].any(axis=1)))
    np.add.at(columns.unsettled, rows, deltas)
    return new


def keep_decision(columns: FlowColumns, rows: Rows) -> None:
    """Keep the decision about the traffic before the burst, before the one about the burst replaces it."""
    resumed = rows[is_unconfirmed(columns, rows)]
    if len(resumed):
        columns.earlier[resumed], columns.earlier_state[resumed] = columns.verdict[resumed], columns.state[resumed]


def leave_earlier(columns: FlowColumns, rows: Rows, leave: Callable[[Rows], None]) -> None:
    """The bursts of the rows have another owner: pass the flows before them to ``leave``, and start new flows.

    While ``leave`` runs, the rows have the counters, the decision and the end of the earlier flows.
    """
    kept = {name: getattr(columns, name)[rows] for name in ("last", "verdict", "state", "ended_after", "ended_by")}
    columns.last[rows] -= columns.unsettled[rows]
    columns.verdict[rows], columns.state[rows] = columns.earlier[rows], columns.earlier_state[rows]
    columns.ended_after[rows], columns.ended_by[rows] = columns.born_by[rows], columns.burst_after[rows]
    leave(rows)
    columns.base[rows] = columns.last[rows]
    for name, values in kept.items():
        getattr(columns, name)[rows] = values
    columns.born_after[rows], columns.born_by[rows] = columns.burst_after[rows], columns.burst_by[rows]


def note_counted(columns: FlowColumns, rows: Rows, series: Rows, *, owned: bool) -> Mask:
    """Whether each flow begins a connection of its series; ``owned``: the series have one owner.

    A connectionless flow that returns to its owner, after a burst with no owner or several, is the same
    connection as before.
    """
    new: Mask = np.ones(len(rows), np.bool_)
    some = np.flatnonzero(is_connectionless(columns, rows)) if owned else np.zeros(0, np.intp)
    if len(some):
        new[some] = columns.counted[rows[some]] != series[some] + 1
        columns.counted[rows[some]] = series[some] + 1
    return new


def settle(columns: FlowColumns, rows: Rows) -> None:
    """The bursts of the rows are credited."""
    columns.flags[rows] &= ~_UNCONFIRMED
    columns.unsettled[rows] = 0


def life_end(columns: FlowColumns, rows: Rows) -> Times:
    """The instant by which each flow had ended; of connectionless flows, by which its last packet had been seen."""
    ended: Times = columns.ended_by[rows]
    connectionless = is_connectionless(columns, rows)
    if connectionless.any():
        ended[connectionless] = np.minimum(ended[connectionless], columns.heard_by[rows[connectionless]])
    return ended
