"""Tracked flows in a window of time. Runs on the engine's thread."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from flowmap.engine.accounting import FlowAccounting
from flowmap.flows.columns import Row
from flowmap.flows.index.hash_index import Rows
from flowmap.model.address import protocol_name
from flowmap.model.deployment import Owner, State
from flowmap.model.views import PeerSeen, Traffic
from flowmap.query.matching import within


def peers_of(
    accounting: FlowAccounting, deployment: str | None, since: float, until: float, *, epoch: float, now: float
) -> list[PeerSeen]:
    """Peers in flows that are tracked and were open in the window, each with its bytes; of a deployment (id or name),
    or of all decided flows for None."""
    decisions = accounting.attribution.decisions
    numbers = [
        number
        for number, decision in decisions.items()
        if deployment is None or any(owner.is_called(deployment) for owner in decision.owners)
    ]
    columns, rows = accounting.table.columns, accounting.table.live()
    rows = rows[(columns.series[rows] >= 0) & np.isin(columns.verdict[rows], numbers)]
    rows = rows[within(columns, rows, since, until, epoch)]
    seen = []
    totals = columns.total(rows).tolist()
    for row, (sent, received, packets_sent, packets_received) in zip(rows.tolist(), totals, strict=True):
        service, flags = int(columns.service[row]), int(columns.flags[row])
        is_open = flags & (Row.OPEN | Row.ENDED) == Row.OPEN
        traffic = Traffic(sent, received, packets_sent, packets_received, 1, int(is_open))
        last = now if is_open else float(columns.ended_by[row])
        times = float(columns.born_by[row]) + epoch, last + epoch
        decision = decisions[int(columns.verdict[row])]
        owners = tuple(sorted(decision.owners))
        protocol = protocol_name(accounting.table.endpoints.key(service).protocol)
        seen.append(PeerSeen(accounting.peer(service), protocol, traffic, owners, *times, decision.state))
    return joined(seen)


def rows_at(accounting: FlowAccounting, rows: Rows, at: float) -> list[int]:
    """The rows that were, or may have been, open at a monotonic instant: the newest one for each decision."""
    columns = accounting.table.columns
    rows = rows[within(columns, rows, at, at, 0.0)]
    pairs = np.stack((columns.state[rows].astype(np.int64), columns.verdict[rows].astype(np.int64)), axis=1)
    _, first = np.unique(pairs[::-1], axis=0, return_index=True)
    chosen: list[int] = rows[::-1][first].tolist()
    return chosen


def joined(seen: Iterable[PeerSeen]) -> list[PeerSeen]:
    """Sums of the entries with the same peer and owners, in order."""
    sums: dict[tuple[str, str, State, tuple[Owner, ...], str], PeerSeen] = {}
    for one in seen:
        sums[one.place] = sums[one.place].joined(one) if one.place in sums else one
    return [sums[place] for place in sorted(sums)]
