"""Times that are known for each record, not only for its batch, written to the rows of the flows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from flowmap.flows import bursts
from flowmap.flows.columns import FlowColumns, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import TCP
from flowmap.flows.records.batch import Flag, FlowBatch, Moments, RecordKind

_ENDED, _SILENT = np.uint32(Row.ENDED), np.uint32(Row.END_UNANNOUNCED)


def note_moments(
    columns: FlowColumns, batch: FlowBatch, rows: Rows, alive_until: Callable[[Rows], npt.NDArray[np.float64]]
) -> None:
    """Note when clients sent their last packets and when flows ended, if the records have times."""
    if batch.moments is not None:
        over = (batch.kind == RecordKind.CLOSED) | ((batch.flags & Flag.ENDING) != 0)
        connectionless = batch.protocol != TCP
        if connectionless.any():
            bursts.hear(columns, rows[connectionless], bursts.last_heard(batch.take(connectionless)))
        columns.active[rows] = np.maximum(columns.active[rows], batch.moments.sent)
        ended = over & ((columns.flags[rows] & _ENDED) == 0)
        if ended.any():
            _end(columns, batch.moments.take(ended), rows[ended], alive_until)


def _end(
    columns: FlowColumns, moments: Moments, rows: Rows, alive_until: Callable[[Rows], npt.NDArray[np.float64]]
) -> None:
    columns.ended_after[rows] = alive_until(rows)
    columns.ended_by[rows] = moments.by
    # An earlier end of TCP would have been seen, so the flow was alive up to this one.
    announced = (columns.protocol(rows) == TCP) & ((columns.flags[rows] & _SILENT) == 0)
    some = rows[announced]
    columns.ended_after[some] = np.maximum(columns.ended_after[some], moments.before[announced])
    columns.flags[rows] |= _ENDED
