"""Flows that are not in the history yet: when the first of them ended, and what becomes of them at the stop."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flowmap.attribute.answers.timeline import NO_OWNERS
from flowmap.attribute.decisions import Decision
from flowmap.engine.protocols import Journal
from flowmap.flows import bursts
from flowmap.flows.columns import IGNORED, PENDING, Mask, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable
from flowmap.model.deployment import State

STOPPED = "stopped: the daemon was stopped before an answer about the owner arrived"

_OPEN = np.uint32(Row.OPEN)
_OPEN_OR_ENDED = np.uint32(Row.OPEN | Row.ENDED)


def first_end(table: FlowTable) -> float | None:
    """Monotonic seconds at which the first of the ended flows in the table ended; None without one.

    They wait for a decision, or until the kernel drops their entries.
    """
    columns, rows = table.columns, table.live()
    rows = rows[~_is_open(table, rows) & (columns.series[rows] != IGNORED)]
    return float(columns.ended_by[rows].min()) if len(rows) else None


def leave_all(table: FlowTable, journal: Journal | None, decisions: Mapping[int, Decision], *, now: float) -> None:
    """Pass all flows of the table to the journal, since the daemon stops. What is not decided has failed.

    Traffic that waits for a confirmation of its owner becomes a flow of its own, without an owner.
    """
    if journal is None:
        return
    columns, rows = table.columns, table.live()
    rows = rows[columns.series[rows] != IGNORED]
    resumed = rows[bursts.is_unconfirmed(columns, rows)]
    bursts.keep_decision(columns, resumed)
    bursts.leave_earlier(columns, resumed, lambda earlier: journal.left(table, earlier, decisions))
    waits = _waits(table, rows)
    _leave(table, journal, rows[~waits], decisions)
    rows = rows[waits]
    columns.verdict[rows] = 0
    _leave(table, journal, rows, {0: Decision(State.FAILED, NO_OWNERS, {}, now, STOPPED)})


def _is_open(table: FlowTable, rows: Rows) -> Mask:
    """Not those of which the kernel still has the entry of a closed connection."""
    is_open: Mask = table.columns.flags[rows] & _OPEN_OR_ENDED == _OPEN
    return is_open


def _waits(table: FlowTable, rows: Rows) -> Mask:
    waits: Mask = (table.columns.series[rows] == PENDING) | bursts.is_unconfirmed(table.columns, rows)
    return waits


def _leave(table: FlowTable, journal: Journal, rows: Rows, decisions: Mapping[int, Decision]) -> None:
    is_open = _is_open(table, rows)
    if len(ended := rows[~is_open]):
        journal.left(table, ended, decisions)
    if len(alive := rows[is_open]):
        journal.left(table, alive, decisions, open_until=table.alive_until(alive))
