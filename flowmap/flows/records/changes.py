"""When a batch of records was read, and its changes to the flow table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import U64
from flowmap.flows.index.hash_index import Rows


class Moment(NamedTuple):
    """The instants of one batch; see :meth:`flowmap.flows.table.FlowTable.apply`."""

    now: float
    read_at: float
    born_after: float


_NO_ROWS = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of the flow table by a batch. A row can be in several fields, and more than once in ``rows``."""

    rows: Rows
    """Rows whose counters grew."""
    deltas: U64
    """Growth per row of ``rows``: transmit bytes, receive bytes, transmit packets, receive packets."""
    retransmits: npt.NDArray[np.uint32]
    """Growth of retransmitted segments per row of ``rows``."""
    opened: Rows = field(default_factory=lambda: _NO_ROWS)
    closed: Rows = field(default_factory=lambda: _NO_ROWS)
    """Rows of closed flows, reserved until :meth:`flowmap.flows.table.FlowTable.free`."""
    shed: int = 0
    """Records of flows refused by a full table."""
    shed_totals: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Sum of the final counters of refused flows, in the order of ``deltas``."""
    shed_ignored: int = 0
    """Bytes, both directions, of final records of refused flows that the filters ignore."""

    @classmethod
    def of_closed(cls, rows: Rows) -> Changes:
        """Flows that closed without a record."""
        return cls(_NO_ROWS, np.zeros((0, 4), np.uint64), np.zeros(0, np.uint32), closed=rows)


class Shed(NamedTuple):
    """The last fields of :class:`Changes`."""

    records: int = 0
    totals: tuple[int, int, int, int] = (0, 0, 0, 0)
    ignored: int = 0


def joined(results: list[Changes]) -> Changes:
    """The changes of several batches, in order."""
    return Changes(
        np.concatenate([result.rows for result in results]),
        np.concatenate([result.deltas for result in results]),
        np.concatenate([result.retransmits for result in results]),
        np.concatenate([result.opened for result in results]),
        np.concatenate([result.closed for result in results]),
        sum(result.shed for result in results),
        tuple(map(sum, zip(*(result.shed_totals for result in results), strict=True))),  # type: ignore[arg-type]
        sum(result.shed_ignored for result in results),
    )
