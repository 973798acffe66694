"""Turns absolute counters of the kernel into deltas and keeps the counters of the flow table's rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.flows import bursts
from flowmap.flows.columns import U64, FlowColumns, Mask, Row
from flowmap.flows.held_counters import HeldCounters, Reading
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import TCP
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.flows.records.changes import Changes

# numpy looks up a dozen attributes on an enum member at every use; plain numbers keep small batches cheap.
CLOSED, OPENED, DUMPED = int(RecordKind.CLOSED), int(RecordKind.OPENED), int(RecordKind.DUMPED)
COUNTERS, HEALTH, ENDING = int(Flag.COUNTERS), int(Flag.HEALTH), int(Flag.ENDING)
PREEXISTING, READ, HEALTH_READ, UNANNOUNCED = (
    np.uint32(flag) for flag in (Row.PREEXISTING, Row.READ, Row.HEALTH_READ, Row.UNANNOUNCED)
)


def count(
    columns: FlowColumns, batch: FlowBatch, rows: Rows, read_at: float, now: float, held: HeldCounters | None
) -> U64:
    """Deltas of every record, zero for records without counters. Updates the rows.

    The counters were read between ``read_at`` and ``now``. Counters of ``RecordKind.DUMPED`` that changed are not
    counted yet but passed to ``held``; None: no full read is under way, and they count.
    """
    deltas = np.zeros((len(rows), 4), np.uint64)
    with_counters = np.flatnonzero(batch.flags & COUNTERS)
    if not len(with_counters):
        return deltas
    row, kind = rows[with_counters], batch.kind[with_counters]
    counters = (batch.transmit_bytes, batch.receive_bytes, batch.transmit_packets, batch.receive_packets)
    current = np.stack([column[with_counters] for column in counters], axis=1)
    closing = (kind == CLOSED) | ((batch.flags[with_counters] & ENDING) != 0)
    closing &= batch.protocol[with_counters] == TCP
    heard_by = None if batch.moments is None else bursts.last_heard(batch)[with_counters]
    reading = Reading(row, current, closing, read_at, now, heard_by)
    columns.held[row] = 0  # newer counters are known
    waits = (kind == DUMPED) & has_grown(current ^ columns.last[row])
    if held is None or not waits.any():
        deltas[with_counters] = _grow(columns, reading)
        return deltas
    held.hold(reading.take(waits))
    rest = ~waits
    deltas[with_counters[rest]] = _grow(columns, reading.take(rest))
    return deltas


def count_held(columns: FlowColumns, reading: Reading) -> Changes:
    """Count a reading that was held. Updates the rows."""
    deltas = _grow(columns, reading)
    grew = np.flatnonzero(has_grown(deltas))
    return Changes(reading.rows[grew], deltas[grew], np.zeros(len(grew), np.uint32))


def _grow(columns: FlowColumns, reading: Reading) -> U64:
    """Deltas of the rows of a reading. Updates the rows.

    Smaller counters were zeroed, so their present values are new traffic.
    """
    row, current = reading.rows, reading.counters
    last, flags = columns.last[row], columns.flags[row]
    delta = current - last
    columns.flags[row] = flags | READ
    zeroed = np.flatnonzero((current < last).any(axis=1))
    if len(zeroed):
        columns.base[row[zeroed]] -= last[zeroed]
        delta[zeroed] = current[zeroed]
    first = (flags & READ) == 0
    older = first & ((flags & PREEXISTING) != 0)
    if older.any():
        columns.base[row[older]] = current[older]
        delta[older] = 0
    changed = has_grown(delta)
    columns.changed_at[row[changed]] = reading.now
    # A new holder of a vanished client's address answers the peer with a reset, so a reset is no sign of the client.
    sending = row[(delta[:, 0] != 0) & ~first & ~reading.closing]
    columns.active[sending] = columns.read_at[sending]
    grown = np.flatnonzero(changed & bursts.is_connectionless(columns, row))
    if len(grown):
        timed = reading.heard_by is not None  # then it is known when the packets were sent
        before = (columns.heard_by if timed else columns.read_at)[row[grown]]
        by = reading.now if reading.heard_by is None else reading.heard_by[grown]
        bursts.grow(columns, row[grown], np.where(first[grown], columns.born_after[row[grown]], before), by)
    columns.last[row] = current
    columns.read_at[row] = reading.read_at
    return delta


def has_grown(deltas: U64) -> Mask:
    """Which rows of deltas are not all zero. Four times as fast as ``any`` along so short an axis."""
    grown: Mask = (deltas[:, 0] | deltas[:, 1] | deltas[:, 2] | deltas[:, 3]) != 0
    return grown


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
