"""Measurements of sockets in step with the flows that they measure.

A measurement finds its flow by the tuple. A tuple is used again, also by another container, and events tell the flow
table of it. So the events are read first, up to the time in which the sockets were read: otherwise a new socket would
measure the flow that ended before. A flow that was opened meanwhile is not measured yet, since the socket may be that
of an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from flowmap.flows.records.batch import FlowBatch, RecordKind
from flowmap.sources.base import Source, Step

_TUPLE = ("client_high", "client_low", "client_port", "server_high", "server_low", "server_port")
_BEGIN = (RecordKind.OPENED, RecordKind.DUMPED)
"""Records that may begin a flow."""


def after_traffic(measurements: Iterator[Step], traffic: Source) -> Iterator[Step]:
    """The steps of ``measurements``; before each batch those of ``traffic`` that are due or waiting."""
    for step in measurements:
        if not isinstance(step, FlowBatch) or not len(step):
            yield step
            continue
        begun: list[npt.NDArray[np.void]] = []
        for event in traffic.poll():
            if isinstance(event, FlowBatch) and len(event):
                begun.append(_tuples(event)[np.isin(event.kind, _BEGIN)])
            yield event
        kept = ~np.isin(_tuples(step), np.concatenate(begun)) if begun else np.ones(len(step), np.bool_)
        yield step if kept.all() else step.take(kept)


def _tuples(batch: FlowBatch) -> npt.NDArray[np.void]:
    columns = [np.asarray(getattr(batch, name), np.uint64) for name in _TUPLE]
    return np.ascontiguousarray(np.stack(columns, axis=1)).view([(name, np.uint64) for name in _TUPLE]).reshape(-1)
