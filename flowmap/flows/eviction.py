"""Which flows are evicted when the table is full: unanswered ones first.

A flood (SYNs with forged sources, a scan) is many flows with a few packets each. While the table is more than half
full, full reads do not count such a flow until it is assured, has sent more, or is closed. No byte is lost: its final
counters are still credited. So an evicted flow has no counted bytes, and its later records are neither lost nor counted
twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from flowmap.flows.bursts import is_unconfirmed
from flowmap.flows.columns import PENDING, FlowColumns, Mask, Row
from flowmap.flows.index.hash_index import Hashes, Rows
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind

FEW_PACKETS = 8
"""Packets per direction of an evictable flow. A SYN and its answer are sent seven times at most."""
SHARE = 64
"""At least this share of the rows (1/64) is evicted at a time, so that not every batch searches for rows."""

Evict = Callable[[Literal["unanswered", "pending"], Rows], None]
"""Receives rows of evicted flows and has to free them: open ones without counted bytes (``unanswered``), or closed ones
without a decision (``pending``)."""

COUNTERS, ASSURED = int(Flag.COUNTERS), int(Flag.ASSURED)
DUMPED, OPENED = int(RecordKind.DUMPED), int(RecordKind.OPENED)
_OPEN, _FACTS = np.uint32(Row.OPEN | Row.INDEXED), np.uint32(Row.OPEN | Row.INDEXED | Row.ASSURED)
_ROW_ASSURED = np.uint32(Row.ASSURED)


def assured(batch: FlowBatch) -> Mask:
    """Records of flows in which both hosts take part."""
    found: Mask = (batch.flags & ASSURED) != 0
    return found


def evicts_others(batch: FlowBatch) -> Mask:
    """Records of flows for which others are evicted: new ones and assured ones."""
    found: Mask = (batch.kind == OPENED) | assured(batch)
    return found


def missing_rows(new: Hashes, room: int) -> int:
    """Number of rows that new flows with these hashes need beyond ``room``."""
    return len(np.unique(new)) - room


def without_counts(columns: FlowColumns, rows: Rows) -> Mask:
    """Rows without any counted traffic."""
    nothing: Mask = np.logical_not(columns.last[rows].any(axis=1) | columns.base[rows].any(axis=1))
    return nothing


def without_evictable(columns: FlowColumns, batch: FlowBatch, rows: Rows) -> FlowBatch:
    """The batch without the counters of evictable flows."""
    evictable = (batch.kind == DUMPED) & ((columns.flags[rows] & _ROW_ASSURED) == 0)
    evictable &= (batch.transmit_packets <= FEW_PACKETS) & (batch.receive_packets <= FEW_PACKETS)
    evictable[evictable] = without_counts(columns, rows[evictable])
    if not evictable.any():
        return batch
    reduced = batch.take(slice(None))
    reduced.flags = np.where(evictable, batch.flags & np.uint16(~COUNTERS & 0xFFFF), batch.flags)
    return reduced


def unanswered(columns: FlowColumns, top: int, wanted: int) -> Rows:
    """At most ``wanted`` evictable rows below ``top``, the oldest first."""
    rows = np.flatnonzero((columns.flags[:top] & _FACTS) == _OPEN).astype(np.int32)
    rows = rows[without_counts(columns, rows)]
    if len(rows) > wanted:
        rows = rows[np.argpartition(columns.born_by[rows], wanted - 1)[:wanted]]
    return rows


def closed_pending(columns: FlowColumns, rows: Rows, wanted: int, answered: int) -> Rows:
    """Closed pending rows to evict for ``wanted`` new flows, of which ``answered`` are assured.

    Unanswered rows come first. Assured rows, the longest closed first, are evicted for assured new flows only.
    """
    flags = columns.flags[rows]
    closed = (columns.series[rows] == PENDING) | is_unconfirmed(columns, rows)
    closed &= flags & np.uint32(Row.OPEN) == 0
    rows, later = rows[closed], (flags[closed] & _ROW_ASSURED) != 0
    rows = rows[np.lexsort((columns.ended_by[rows], later))]
    return rows[: max(0, answered, min(wanted, int(np.count_nonzero(~later))))]
