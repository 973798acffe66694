"""flowmap's own connections, which no deployment makes: no question is about them. Most are to control planes.

The daemon knows both endpoints of a connection when it is made, a moment after a source may have seen its first packet.
So a connection to such a control plane is not asked about in its first :data:`HOLD` seconds. Connections of other
programs to the same endpoint are asked about then: only a flow that began when flowmap's own one was made is its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flowmap.flows.columns import Mask
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import TCP
from flowmap.flows.table import FlowTable
from flowmap.model.address import Endpoint

Pair = tuple[Endpoint, Endpoint]
"""Local and remote endpoint of a connection."""

HOLD = 2.0
"""Seconds in which it becomes known whether a connection to a control plane is flowmap's own."""
HANDSHAKE = 10.0
"""Longest time in seconds from the first packet until the connection is made."""
LIMIT = 64
"""Connections that are remembered, the newest: clients of control planes keep fewer open."""


class OwnConnections:
    """Those of flowmap among the flows of one table. Times are monotonic seconds."""

    def __init__(self, table: FlowTable) -> None:
        self._table = table
        self._made: dict[Pair, float] = {}
        self._is_remote = np.zeros(table.endpoints.capacity, np.bool_)  # by number of the service endpoint

    def note(self, made: tuple[Pair, ...], now: float) -> None:
        """These connections have just been made."""
        for pair in made:
            self._made.pop(pair, None)
            self._made[pair] = now
        for pair in list(self._made)[:-LIMIT]:
            del self._made[pair]
        self.opened(np.unique(self._table.columns.service[self._table.live()]))

    def opened(self, numbers: Rows) -> None:
        """Note endpoints of new flows."""
        high, low = self._table.endpoints.addresses(numbers)
        remote = np.zeros(len(numbers), np.bool_)
        for address in {remote.address for _, remote in self._made}:
            remote |= (high == np.uint64(address.high)) & (low == np.uint64(address.low))
        self._is_remote[numbers] = remote & self._table.endpoints.are_services(numbers)

    def among(self, rows: Rows) -> Mask:
        """Whether each flow is one of flowmap's own."""
        ports = np.array([local.port for local, _ in self._made], np.uint64)
        columns = self._table.columns
        return self._where(rows, lambda some: np.isin(columns.client_port(some), ports), self._is_own)

    def perhaps_among(self, rows: Rows, now: float) -> Mask:
        """Whether each flow is so young that it may be one: from the same address to the same endpoint."""
        born_by, pairs = self._table.columns.born_by, {(local.address, remote) for local, remote in self._made}
        return self._where(
            rows, lambda some: now - born_by[some] < HOLD, lambda _, client, server: (client.address, server) in pairs
        )

    def forget(self, numbers: Rows) -> None:
        """The numbers of these endpoints will stand for others."""
        self._is_remote[numbers] = False

    def _is_own(self, row: int, client: Endpoint, server: Endpoint) -> bool:
        """Whether the flow began when the connection between these endpoints was made."""
        columns, at = self._table.columns, self._made.get((client, server))
        return at is not None and bool(columns.born_after[row] <= at <= columns.born_by[row] + HANDSHAKE)

    def _where(
        self, rows: Rows, roughly: Callable[[Rows], Mask], exactly: Callable[[int, Endpoint, Endpoint], bool]
    ) -> Mask:
        """The flows to control planes for which both tests hold; the first takes many flows at once."""
        found, columns = np.zeros(len(rows), np.bool_), self._table.columns
        if not self._made:
            return found
        places = np.flatnonzero(self._is_remote[columns.service[rows]])
        places = places[(columns.protocol(rows[places]) == TCP) & roughly(rows[places])]
        for place in places.tolist():
            row = int(rows[place])
            found[place] = exactly(row, *columns.endpoints_of(row))
        return found
