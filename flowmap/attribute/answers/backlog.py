"""What is to be judged: a part of it in each turn, so that no turn takes long.

Answers about a service endpoint, or an outage that ends, can make hundreds of thousands of flows decidable at once. The
newest come first: what began to wait in this turn is not behind a flood.
"""

from __future__ import annotations

import numpy as np

from flowmap.attribute.owner_state import may_be_named
from flowmap.flows.columns import FlowColumns, Row
from flowmap.flows.index.hash_index import Rows

FLOWS_AT_ONCE = 2000
"""Flows that are judged in one turn: about 0.1 s of work."""
CLIENTS_AT_ONCE = 2000
"""Clients that are checked for contradictions in one turn."""
_USED = np.uint32(Row.USED)
_NO_ROWS = np.zeros(0, np.int32)


class Backlog:
    """Flows whose endpoints have new answers, and clients whose answers may contradict what was decided."""

    def __init__(self, columns: FlowColumns) -> None:
        self._columns = columns
        self._rows = _NO_ROWS
        self._clients: list[int] = []

    def __bool__(self) -> bool:
        return bool(len(self._rows) or self._clients)

    def add(self, rows: Rows, decisive: Rows, clients: list[int]) -> None:
        """Add undecided flows, with the endpoint that each depends on most, and clients with new answers."""
        order = np.argsort(decisive, kind="stable")  # flows of one endpoint are judged together
        self._rows = np.concatenate((rows[order], self._rows)) if len(self._rows) else rows[order]
        self._clients = clients + self._clients

    def take_rows(self) -> Rows:
        """The flows to judge in this turn. What was decided or freed meanwhile is left out."""
        if not len(self._rows):
            return _NO_ROWS
        rows, self._rows = self._rows[:FLOWS_AT_ONCE], self._rows[FLOWS_AT_ONCE:]
        rows = np.unique(rows)
        used = (self._columns.flags[rows] & _USED) != 0
        chosen: Rows = rows[used & may_be_named(self._columns, rows)]
        return chosen

    def take_clients(self) -> list[int]:
        """The clients to check in this turn."""
        clients, self._clients = self._clients[:CLIENTS_AT_ONCE], self._clients[CLIENTS_AT_ONCE:]
        return clients

    def forget(self, numbers: Rows) -> None:
        """The numbers of these endpoints will stand for others."""
        gone = set(numbers.tolist())
        self._clients = [client for client in self._clients if client not in gone]
