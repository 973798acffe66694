"""Which connections of a client existed at the same time: what is proven, and what later traffic may still prove.

Two connections overlap if each was seen to send after the other had begun. A source that reports new connections at
once shows them seconds before a full read shows that the older ones still send.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.attribute.answers.lifetimes import lifetimes_of
from flowmap.attribute.answers.timeline import Lifetimes
from flowmap.attribute.owner_state import is_connected
from flowmap.attribute.questions import Owners
from flowmap.flows.bursts import is_connectionless
from flowmap.flows.columns import Mask
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable

Times = npt.NDArray[np.float64]

_NO_ROWS = np.zeros(0, np.int32)


def may_send(table: FlowTable, rows: Rows) -> Mask:
    """Whether later traffic of each flow may still prove that it overlaps others: an open connection."""
    columns = table.columns
    return is_connected(columns, rows) & ~is_connectionless(columns, rows)


class Connections(NamedTuple):
    """Connections of one client to one service endpoint that the same deployments use."""

    service: int
    users: Owners
    born: Times
    """By when each had begun, ascending."""
    proven: Times
    """The latest proof of life among each and those before it, after -inf for none."""
    open_rows: Rows
    """Those that may still send."""

    @classmethod
    def of(cls, service: int, users: Owners, born: Times, proven: Times, open_rows: Rows) -> Connections:
        """``born``, ``proven``: when each had begun, and the latest proof of life, in any order."""
        order = np.argsort(born, kind="stable")
        return cls(service, users, born[order], np.maximum.accumulate(np.append(-np.inf, proven[order])), open_rows)

    def overlap(self, flows: Lifetimes) -> Mask:
        """Whether each flow is proven to overlap at least one of the connections."""
        overlaps: Mask = self.proven[np.searchsorted(self.born, flows.proven_until, "right")] >= flows.born_by
        return overlaps


class Unproven:
    """Open connections whose later traffic may prove an overlap: at most one entry for each row of the table."""

    def __init__(self, table: FlowTable) -> None:
        self._table = table
        self._parts: list[tuple[Rows, Times]] = []

    def add(self, rows: Rows, others: Rows) -> None:
        """Note that some of ``rows`` are not proven to overlap some of ``others``, all of one client."""
        ours, theirs = lifetimes_of(self._table, rows), lifetimes_of(self._table, others)
        for some, proven, born in (
            (rows, ours.proven_until, theirs.born_by),
            (others, theirs.proven_until, ours.born_by),
        ):
            needed = _next(born, proven)
            lags = needed < np.inf
            self._parts.append((some[lags], needed[lags]))

    def take_clients(self) -> Rows:
        """The clients with a connection that was seen to send by the instant that an overlap needs."""
        if not self._parts:
            return _NO_ROWS
        rows, needed = self._merged()
        is_open = may_send(self._table, rows)  # a row that stands for another flow now costs a look at its client
        rows, needed = rows[is_open], needed[is_open]
        sent = lifetimes_of(self._table, rows).proven_until >= needed
        self._parts = [(rows[~sent], needed[~sent])] if not sent.all() else []
        return np.unique(self._table.columns.client[rows[sent]])

    def _merged(self) -> tuple[Rows, Times]:
        """One entry a row, with the earliest instant."""
        if len(self._parts) == 1:
            return self._parts[0]
        rows, needed = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.lexsort((needed, rows))
        rows, first = np.unique(rows[order], return_index=True)
        return rows, needed[order][first]


def _next(instants: Times, after: Times) -> Times:
    """The first of ``instants`` after each instant of ``after``; inf without one."""
    ordered = np.append(np.sort(instants), np.inf)
    found: Times = ordered[np.searchsorted(ordered, after, "right")]
    return found
