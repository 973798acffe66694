"""Turns absolute counters of the kernel into deltas and keeps the counters of the flow table's rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.flows import bursts
from flowmap.flows.columns import U64, FlowColumns, Mask, Row
from flowmap.flows.early_counts import SHOWN, EarlyCounts
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import TCP
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.flows.records.column_batch import Column

# numpy looks up a dozen attributes on an enum member at every use; plain numbers keep small batches cheap.
CLOSED, OPENED, DUMPED = int(RecordKind.CLOSED), int(RecordKind.OPENED), int(RecordKind.DUMPED)
COUNTERS, HEALTH, ENDING = int(Flag.COUNTERS), int(Flag.HEALTH), int(Flag.ENDING)
PREEXISTING, READ, HEALTH_READ, UNANNOUNCED, DOUBTED, SET_BACK = (
    np.uint32(flag) for flag in (Row.PREEXISTING, Row.READ, Row.HEALTH_READ, Row.UNANNOUNCED, Row.DOUBTED, Row.SET_BACK)
)


def count(columns: FlowColumns, batch: FlowBatch, rows: Rows, read_at: float, now: float, early: EarlyCounts) -> U64:
    """Deltas of every record, zero for records without counters. Updates the rows and ``early``.

    The counters were read between ``read_at`` and ``now``.
    """
    deltas = np.zeros((len(rows), 4), np.uint64)
    with_counters = np.flatnonzero(batch.flags & COUNTERS)
    if not len(with_counters):
        return deltas
    row = rows[with_counters]
    counters = (batch.transmit_bytes, batch.receive_bytes, batch.transmit_packets, batch.receive_packets)
    current = np.stack([column[with_counters] for column in counters], axis=1)
    last = columns.last[row]
    delta = current - last
    flags = columns.flags[row]
    columns.flags[row] = flags | READ
    went_back = np.flatnonzero((current < last).any(axis=1) | ((flags & SET_BACK) != 0))
    if len(went_back):
        _set_back(columns, row, went_back, batch.kind[with_counters], current, delta, early)
    shown = (batch.kind[with_counters] == DUMPED) & has_grown(delta)
    columns.flags[row[shown]] |= SHOWN
    first = (flags & READ) == 0
    older = first & ((flags & PREEXISTING) != 0)
    if older.any():
        columns.base[row[older]] = current[older]
        delta[older] = 0
    changed = has_grown(delta)
    columns.changed_at[row[changed]] = now
    # A new holder of a vanished client's address answers the peer with a reset, so a reset is no sign of the client.
    closing = (batch.kind[with_counters] == CLOSED) | ((batch.flags[with_counters] & ENDING) != 0)
    sending = row[(delta[:, 0] != 0) & ~first & ~(closing & (batch.protocol[with_counters] == TCP))]
    columns.active[sending] = columns.read_at[sending]
    grown = np.flatnonzero((batch.protocol[with_counters] != TCP) & changed)
    if len(grown):
        timed = batch.moments is not None  # then it is known when the packets were sent
        before = (columns.heard_by if timed else columns.read_at)[row[grown]]
        by = bursts.last_heard(batch.take(with_counters[grown])) if timed else now
        bursts.grow(columns, row[grown], np.where(first[grown], columns.born_after[row[grown]], before), by)
    columns.last[row] = current
    columns.read_at[row] = read_at
    if len(row) == len(rows):
        return delta
    deltas[with_counters] = delta
    return deltas


def has_grown(deltas: U64) -> Mask:
    """Which rows of deltas are not all zero. Four times as fast as ``any`` along so short an axis."""
    grown: Mask = (deltas[:, 0] | deltas[:, 1] | deltas[:, 2] | deltas[:, 3]) != 0
    return grown


def _set_back(
    columns: FlowColumns,
    row: Rows,
    where: npt.NDArray[np.intp],
    kind: Column,
    current: U64,
    delta: U64,
    early: EarlyCounts,
) -> None:
    """Handle smaller counters: they were zeroed, so their present values are new traffic.

    In a full read there is another cause: a new flow with the same tuple and id, while the end of the old flow waits in
    the event queue. Then nothing is counted until the read has ended, which includes these events. A final record that
    is smaller than what this read showed has the same cause, see ``flowmap.flows.early_counts``.
    """
    replaced = (kind[where] == CLOSED) & ((columns.flags[row[where]] & SHOWN) != 0)
    if replaced.any():
        at = where[replaced]
        current[at] = early.correct(columns, row[at], current[at])
        delta[at] = current[at] - columns.last[row[at]]
        where = where[~replaced]
    back = row[where]
    doubtful = (kind[where] == DUMPED) & ((columns.flags[back] & SET_BACK) == 0)
    columns.flags[back[doubtful]] |= DOUBTED
    current[where[doubtful]] = columns.last[back[doubtful]]
    delta[where[doubtful]] = 0
    sure, at = back[~doubtful], where[~doubtful]
    columns.flags[sure] &= ~(DOUBTED | SET_BACK)
    columns.base[sure] -= columns.last[sure]
    delta[at] = current[at]


def confirm_zeroed(columns: FlowColumns, top: int, early: EarlyCounts) -> None:
    """Mark rows still in doubt as zeroed, after a full read and the events from before it."""
    early.clear()
    flags = columns.flags[:top]
    flags &= ~SHOWN
    doubted = (flags & DOUBTED) != 0
    flags[doubted] ^= DOUBTED | SET_BACK


def apply_late_openings(columns: FlowColumns, batch: FlowBatch, rows: Rows, deltas: U64, born_after: float) -> None:
    """Count the base of flows that the first full read showed before the event of their opening: they are new."""
    announced = rows[batch.kind == OPENED]
    columns.flags[announced] &= ~UNANNOUNCED
    late = np.flatnonzero((batch.kind == OPENED) & ((columns.flags[rows] & PREEXISTING) != 0))
    if len(late):
        row = rows[late]
        base = columns.base[row]
        older = np.where(base <= columns.last[row], base, np.uint64(0))  # else the counters were zeroed since
        deltas[late] += older
        columns.base[row] -= older
        columns.flags[row] &= ~PREEXISTING
        columns.born_after[row] = born_after


def count_retransmits(columns: FlowColumns, batch: FlowBatch, rows: Rows) -> npt.NDArray[np.uint32]:
    """Growth of retransmitted segments, zero for records without health. Updates the rows."""
    resent = np.zeros(len(rows), np.uint32)
    reported = np.flatnonzero(batch.flags & HEALTH)
    if len(reported):
        row, current = rows[reported], batch.retransmits[reported]
        last, flags = columns.retransmits[row], columns.flags[row]
        older = ((flags & PREEXISTING) != 0) & ((flags & HEALTH_READ) == 0)
        resent[reported] = np.where(older, 0, np.where(current < last, current, current - last))
        columns.retransmits[row] = current
        columns.resent[row] += resent[reported]
        columns.flags[row] = flags | HEALTH_READ
        columns.round_trip[row] = batch.round_trip[reported]
    return resent


def sums(batch: FlowBatch, chosen: Mask) -> tuple[int, int, int, int]:
    """Exact sums of the four counters of the chosen records."""
    counters = (batch.transmit_bytes, batch.receive_bytes, batch.transmit_packets, batch.receive_packets)
    one, two, three, four = (sum(column[chosen].tolist()) for column in counters)
    return one, two, three, four
