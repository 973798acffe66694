"""Connections that the file has from before the daemon's start, and whose entries the kernel still keeps.

For two minutes the kernel has an entry of a closed connection. A daemon that starts finds them. If an earlier one wrote
the connection to the file, another row would tell nothing, but look like a second connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flowmap.flows.columns import Mask, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable
from flowmap.history.closed_flows import ClosedFlows

LINGER = 180.0
"""Seconds before the start in which such a connection ended: the kernel keeps those of UDP the longest."""
KNOWN_FOR = 600.0
"""Seconds after the start in which the table frees their entries."""
MOST = 100_000
"""Connections that are remembered, some 110 bytes each; the rest get a row more."""

_KEY = ("client_high", "client_low", "server_high", "server_low", "ports")


class EarlierConnections:
    """The connections of some rows of the file, by their endpoints."""

    def __init__(self, parts: Iterable[ClosedFlows] = (), *, since: int = 0) -> None:
        """``since``: µs since the epoch; what ended before is not remembered."""
        self._keys: set[bytes] = set()
        for part in parts:
            recent = np.flatnonzero(part.columns["ended_by"] >= since)[: MOST - len(self._keys)]
            self._keys.update(_keys({name: part.columns[name][recent] for name in _KEY}))

    def have(self, table: FlowTable, rows: Rows) -> Mask:
        """Which rows only show that the kernel still has the entry of one of them: it was over when the daemon first
        saw it, and moved nothing since."""
        if not self._keys:
            return np.zeros(len(rows), np.bool_)
        given = table.columns
        over: Mask = (given.flags[rows] & np.uint32(Row.PREEXISTING)) != 0
        over &= given.ended_by[rows] <= given.born_by[rows]
        over &= (given.last[rows] == given.base[rows]).all(axis=1)
        places = np.flatnonzero(over)
        columns = {name: getattr(given, name)[rows[places]] for name in _KEY}
        over[places] = [key in self._keys for key in _keys(columns)]
        return over


def _keys(columns: Mapping[str, Any]) -> list[bytes]:
    table = np.stack([columns[name].astype(np.uint64) for name in _KEY], axis=1)
    return [row.tobytes() for row in table]
