"""Stale connections of a selection, as values for users. Runs on the engine's thread."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.stale import StaleRows, above_limit, find_stale, open_rows
from flowmap.flows.index.hash_index import Rows
from flowmap.model.address import Endpoint
from flowmap.model.findings import StaleConnection, StaleReason, StaleView
from flowmap.model.selection import Selection
from flowmap.query.live import LiveQueries


def stale_view(
    queries: LiveQueries,
    selection: Selection,
    *,
    idle: float | None,
    connections: int | None,
    limit: int,
) -> StaleView:
    """At most ``limit`` stale connections, the oldest first.

    ``idle``: seconds after which a connection is idle; ``connections``: how many one deployment may have to one peer;
    None: no such limit.
    """
    accounting = queries.accounting
    rows = selected(accounting, open_rows(accounting), selection)
    found = find_stale(accounting, rows, epoch=queries.epoch, idle=idle)
    chosen = np.flatnonzero(found.stale)
    oldest = chosen[np.argsort(accounting.table.columns.born_by[rows[chosen]], kind="stable")][:limit]
    return StaleView(
        connections=tuple(_connection(found, place, queries) for place in oldest.tolist()),
        total=len(chosen),
        above_limit=tuple(above_limit(accounting, rows, connections)) if connections is not None else (),
        checked=len(rows),
        unjudged=int(np.count_nonzero(~found.judged)),
        idle_known=bool(np.isfinite(accounting.counters_at) and np.isfinite(found.idle_for).all()),
    )


def selected(accounting: FlowAccounting, rows: Rows, selection: Selection) -> Rows:
    """The rows of the deployments and peers of a selection; its window does not count."""
    columns, decisions = accounting.table.columns, accounting.attribution.decisions
    if selection.deployment is not None or selection.label is not None:
        numbers = [
            number
            for number in np.unique(columns.verdict[rows]).tolist()
            if selection.has_any(accounting.describe(owner) for owner in decisions[number].owners)
        ]
        rows = rows[np.isin(columns.verdict[rows], numbers)]
    if selection.peer is not None:
        services = np.unique(columns.service[rows]).tolist()
        wanted = [number for number in services if selection.has_peer(*peer_names(accounting, number))]
        rows = rows[np.isin(columns.service[rows], wanted)]
    return rows


def peer_names(accounting: FlowAccounting, service: int) -> Iterator[str]:
    """What a service endpoint is called: its peer name, ``ip:port`` and its address."""
    end = accounting.table.endpoints.key(service)
    yield accounting.peer(service)
    yield str(Endpoint(end.address, end.port))
    yield str(end.address)


def _connection(found: StaleRows, place: int, queries: LiveQueries) -> StaleConnection:
    row = int(found.rows[place])
    run = found.runs[int(queries.accounting.table.columns.verdict[row])]
    idle_for = float(found.idle_for[place])
    reasons = {
        StaleReason.OLDER_THAN_RUN: found.older[place],
        StaleReason.JOB_ENDED: found.ended[place],
        StaleReason.IDLE: found.idle[place],
    }
    return StaleConnection(
        flow=queries.flow(row),
        reasons=tuple(reason for reason, holds in reasons.items() if holds),
        idle_seconds=None if np.isnan(idle_for) else max(0.0, idle_for),
        run_started_at=run.started_at,
    )
