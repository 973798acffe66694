"""What the books can tell of a window of time: of the flows that are tracked now. Runs on the writer's thread."""

from __future__ import annotations

import numpy as np

from flowmap.engine.accounting import FlowAccounting
from flowmap.flows.columns import Mask, Row
from flowmap.flows.hash_index import Rows
from flowmap.model.address import protocol_name
from flowmap.model.views import PeerSeen, Traffic


def within(accounting: FlowAccounting, rows: Rows, since: float | None, until: float | None, epoch: float) -> Mask:
    """Which rows were, or may have been, open at some moment between the two (seconds since the epoch).

    Of flows that were found, not seen to begin, only what comes after the first look is known.
    """
    columns = accounting.table.columns
    begun = np.where(np.isfinite(columns.born_after[rows]), columns.born_after[rows], columns.born_by[rows])
    inside = np.ones(len(rows), np.bool_)
    if since is not None:
        inside &= columns.ended_by[rows] >= since - epoch
    if until is not None:
        inside &= begun <= until - epoch
    return inside


def peers_of(
    accounting: FlowAccounting, deployment: str, since: float, until: float, *, epoch: float, now: float
) -> list[PeerSeen]:
    """Peers of a deployment (id or name) in flows that are tracked and were open in the window, each with its bytes."""
    decisions = accounting.attribution.decisions
    numbers = [
        number
        for number, decision in decisions.items()
        if any(deployment in (owner.deployment_id, owner.name) for owner in decision.owners)
    ]
    columns, rows = accounting.table.columns, accounting.table.live()
    rows = rows[(columns.series[rows] >= 0) & np.isin(columns.verdict[rows], numbers)]
    rows = rows[within(accounting, rows, since, until, epoch)]
    seen: dict[tuple[object, ...], PeerSeen] = {}
    totals = columns.total(rows).tolist()
    for row, (sent, received, packets_sent, packets_received) in zip(rows.tolist(), totals, strict=True):
        service, flags = int(columns.service[row]), int(columns.flags[row])
        is_open = flags & (Row.OPEN | Row.ENDED) == Row.OPEN
        traffic = Traffic(sent, received, packets_sent, packets_received, 1, int(is_open))
        last = now if is_open else float(columns.ended_by[row])
        times = float(columns.born_by[row]) + epoch, last + epoch
        owners = tuple(sorted(decisions[int(columns.verdict[row])].owners))
        protocol = protocol_name(accounting.table.endpoints.key(service).protocol)
        one = PeerSeen(accounting.peer(service), protocol, traffic, owners, *times)
        key = (one.peer, one.protocol, owners)
        seen[key] = seen[key].joined(one) if key in seen else one
    return list(seen.values())


def rows_at(accounting: FlowAccounting, rows: Rows, at: float) -> list[int]:
    """Of these rows, those that were, or may have been, open at the monotonic instant: one for each decision."""
    columns = accounting.table.columns
    rows = rows[within(accounting, rows, at, at, 0.0)]
    pairs = np.stack((columns.state[rows].astype(np.int64), columns.verdict[rows].astype(np.int64)), axis=1)
    _, first = np.unique(pairs[::-1], axis=0, return_index=True)
    chosen: list[int] = rows[::-1][first].tolist()
    return chosen
