"""When flows began and ended, as the rules of time need it."""

from __future__ import annotations

import numpy as np

from flowmap.attribute.answers.timeline import Lifetimes
from flowmap.flows.bursts import is_connectionless, is_unconfirmed, life_end
from flowmap.flows.columns import Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable


def lifetimes_of(table: FlowTable, rows: Rows, *, local: bool = False) -> Lifetimes:
    """When each flow began and ended, as far as it is known; of an unconfirmed burst, when the burst did.

    ``local``: with the cgroup and the process of the client's socket, which only open-source Flink needs.
    """
    columns, alive_until, unconfirmed = table.columns, table.alive_until(rows), is_unconfirmed(table.columns, rows)
    present = columns.flags[rows] & np.uint32(Row.PRESENT) != 0
    return Lifetimes(
        born_after=np.where(unconfirmed, columns.burst_after[rows], columns.born_after[rows]),
        born_by=np.where(unconfirmed, columns.burst_by[rows], columns.born_by[rows]),
        alive_until=alive_until,
        proven_until=np.where(present, alive_until, columns.active[rows]),
        ended_by=life_end(columns, rows),
        connectionless=is_connectionless(columns, rows),
        cgroup=table.workloads.client_cgroups(columns, rows) if local else None,
        pid=table.workloads.client_pids(columns, rows) if local else None,
    )
