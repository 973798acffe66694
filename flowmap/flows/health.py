"""Applies facts that another source measured of existing flows: health, workloads, and the presence of a client."""

from __future__ import annotations

import numpy as np

from flowmap.flows.columns import FlowColumns, Row
from flowmap.flows.counters import count_retransmits
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.records.batch import Flag, FlowBatch
from flowmap.flows.records.changes import Changes
from flowmap.flows.workloads import Workloads

_ENDED = np.uint32(Row.ENDED)


def apply_measured(columns: FlowColumns, batch: FlowBatch, rows: Rows, read_at: float, workloads: Workloads) -> Changes:
    """Apply records of ``RecordKind.MEASURED``; ``rows`` are the rows of their flows, -1 without a flow.

    A closed and an open connection with the same tuple are different connections, so such records are skipped.
    """
    closing = (batch.flags & np.uint16(Flag.ENDING)) != 0
    fitting = np.flatnonzero((rows >= 0) & (closing == ((columns.flags[rows] & _ENDED) != 0)))
    batch, rows = batch.take(fitting), rows[fitting]
    workloads.note(columns, batch, rows)
    resent = count_retransmits(columns, batch, rows)
    here = rows[(batch.flags & np.uint16(Flag.PRESENT | Flag.ENDING)) == np.uint16(Flag.PRESENT)]
    columns.active[here] = np.maximum(columns.active[here], read_at)
    grew = np.flatnonzero(resent)
    return Changes(rows[grew], np.zeros((len(grew), 4), np.uint64), resent[grew])
