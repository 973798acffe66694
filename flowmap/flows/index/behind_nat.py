"""Finds open flows of the daemon's own namespace by their endpoints after NAT.

A server's socket has the endpoints after NAT, and the index of the table those before it. Only sockets of other
namespaces are looked up here, and nearly all are found without, so an index that is built anew now and then is enough.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import U64, FlowColumns, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import pack_nat
from flowmap.flows.records.batch import FlowBatch
from flowmap.model.namespace import OWN

PAUSE, PAUSE_A_FLOW = 1.0, 20e-6
"""Seconds between two rebuilds, and in addition for each flow with NAT: a rebuild takes about a hundredth of it."""

_WANTED = np.uint32(Row.OPEN | Row.TRANSLATED)
_ODD = np.uint64(0x9E37_79B9_7F4A_7C15)


class BehindNat:
    """An index of the flows that were open when it was built; of those, only open ones are found."""

    def __init__(self, columns: FlowColumns) -> None:
        self._columns = columns
        self._rows: Rows = np.zeros(0, np.int32)
        self._hashes: U64 = np.zeros(0, np.uint64)
        self._build_at = -np.inf

    def find(self, batch: FlowBatch, live: Rows, now: float) -> Rows:
        """The row of the flow that has the endpoints of each record after NAT, or -1. ``live``: all rows in use."""
        if now >= self._build_at:
            self._build(live, now)
        found = np.full(len(batch), -1, np.int32)
        if not len(self._rows):
            return found
        ends = (batch.client_high, batch.client_low, batch.server_high, batch.server_low)
        ports = pack_nat(batch.client_port, batch.server_port)
        at = np.minimum(np.searchsorted(self._hashes, _hash(ends, ports)), len(self._rows) - 1)
        rows, columns = self._rows[at], self._columns
        same = (columns.translated[rows] == np.stack(ends, axis=1)).all(axis=1)
        same &= (columns.translated_ports[rows] == ports) & (columns.protocol(rows) == batch.protocol)
        same &= (columns.flags[rows] & _WANTED) == _WANTED
        found[same] = rows[same]
        return found

    def _build(self, live: Rows, now: float) -> None:
        columns = self._columns
        wanted = (columns.flags[live] & _WANTED) == _WANTED
        rows = live[wanted & (columns.namespace[live] == OWN)]
        hashes = _hash(tuple(columns.translated[rows].T), columns.translated_ports[rows])
        order = np.argsort(hashes, kind="stable")
        self._rows, self._hashes = rows[order], hashes[order]
        self._build_at = now + PAUSE + PAUSE_A_FLOW * len(rows)


def _hash(ends: tuple[U64, ...], ports: npt.NDArray[np.uint32]) -> U64:
    mixed = ports.astype(np.uint64)
    for half in ends:
        mixed = (mixed ^ half) * _ODD
    return mixed
