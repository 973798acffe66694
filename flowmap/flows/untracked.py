"""Finds connections that no source counts: their sockets carry traffic, but conntrack does not track them.

The kernel does not track a connection without a rule with a ct match, or with a notrack rule. It then has no entry for
the connection, or an old one that does not grow. A socket on this host reveals it: its payload grows, and the next read
of the counted flow, or of all flows, shows no growth. An idle connection whose entry timed out does not count, nor does
one whose opening was lost or not read yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import IGNORED, FlowColumns, FlowKeys, Mask, key_columns
from flowmap.flows.filter import LOOPBACK, Filter
from flowmap.flows.index.hash_index import Hasher, Hashes, KeyIndex, Rows
from flowmap.flows.index.ports import swapped
from flowmap.flows.index.ports import zones as zones_of
from flowmap.flows.records.batch import Flag, FlowBatch

MAX_ZONES = 64
"""Conntrack zones in which a connection is searched. With more zones, no connection counts as missing."""

SOCKET = np.dtype(
    [
        ("hash", np.uint64),
        ("row", np.int32),  # of its flow, -1 without a flow
        ("payload", np.uint64),  # bytes of both directions, as the socket counts
        ("counted", np.uint64),  # bytes of both directions, as the flow counts
        ("counted_at", np.float64),  # the flow, or its absence, was read at this instant or later
        ("grown_at", np.float64),  # when the payload had grown with the same ``counted``
    ]
)
Sockets = npt.NDArray[np.void]

_COMPARED = np.uint16(Flag.PRESENT | Flag.ENDING | Flag.ASSURED | Flag.GUESSED)
_CLIENT = np.uint16(Flag.PRESENT | Flag.ASSURED)


class Untracked:
    """Compares the sockets of clients on this host with their flows, from one full read of the sockets to the next."""

    def __init__(self, columns: FlowColumns, index: KeyIndex, hasher: Hasher) -> None:
        self.connections = 0
        """Number of untracked connections in the last complete read of the sockets."""
        self.complete_at = -np.inf
        """The table had every flow that existed at this monotonic instant."""
        self._columns, self._index, self._hasher = columns, index, hasher
        self._read: list[Sockets] = []
        self._known: Sockets = np.zeros(0, SOCKET)

    def compare(
        self, batch: FlowBatch, hashes: Hashes, rows: Rows, read_at: float, *, admit: Filter, refused: bool, top: int
    ) -> None:
        """Compare records of ``RecordKind.MEASURED``; ``rows`` are the rows of their flows, -1 without a flow.

        Skipped are sockets of servers (behind NAT they have no flow), of opening or closing connections, guesses,
        loopback (often not tracked on purpose) and ignored flows. ``refused``: the full table lacks some flows.
        ``top``: number of rows of the table that were ever used.
        """
        chosen = np.flatnonzero(((batch.flags & _COMPARED) == _CLIENT) & ~_is_loopback(batch))
        if not len(chosen):
            return
        batch, rows = batch.take(chosen), rows[chosen]
        missing = np.flatnonzero(rows < 0)
        compared = np.ones(len(rows), np.bool_)
        if len(missing):
            lost = batch.take(missing)
            zones = np.flatnonzero(np.bincount(zones_of(self._columns.ports[:top]).astype(np.intp), minlength=1))
            rows[missing] = self._find(lost, zones)
            compared[missing] = ~admit.ignores(lost) & (not refused and len(zones) <= MAX_ZONES)
        compared[rows >= 0] = self._columns.series[rows[rows >= 0]] != IGNORED
        self._read.append(self._facts(batch, hashes[chosen], rows, read_at)[compared])

    def finish_read(self, *, complete: bool) -> None:
        """Evaluate a full read of the sockets. An incomplete one is discarded."""
        read, self._read = self._read, []
        if not complete:
            return
        now = np.concatenate(read) if read else np.zeros(0, SOCKET)
        now = now[np.unique(now["hash"], return_index=True)[1]]
        before, found = self._before(now["hash"])
        same = found & (before["row"] == now["row"]) & (before["counted"] == now["counted"])
        same &= before["payload"] <= now["payload"]
        grown = same & (before["grown_at"] == np.inf) & (before["payload"] < now["payload"])
        known = now.copy()
        known[same] = before[same]
        known["grown_at"][grown] = now["grown_at"][grown]
        known["grown_at"][~same] = np.inf
        missing = now["row"] < 0
        counted_at = np.where(missing, self.complete_at, now["counted_at"])
        self.connections = int(np.count_nonzero(known["grown_at"] < counted_at))
        self._known = known

    def _before(self, hashes: Hashes) -> tuple[Sockets, Mask]:
        if not len(self._known):
            return np.zeros(len(hashes), SOCKET), np.zeros(len(hashes), np.bool_)
        at = np.minimum(np.searchsorted(self._known["hash"], hashes), len(self._known) - 1)
        before = self._known[at]
        return before, before["hash"] == hashes

    def _facts(self, batch: FlowBatch, hashes: Hashes, rows: Rows, read_at: float) -> Sockets:
        columns, there = self._columns, rows >= 0
        facts = np.zeros(len(rows), SOCKET)
        facts["hash"], facts["row"], facts["grown_at"] = hashes, rows, read_at
        facts["payload"] = batch.transmit_bytes + batch.receive_bytes
        facts["counted"][there] = columns.last[rows[there], :2].sum(axis=1)
        facts["counted_at"][there] = columns.read_at[rows[there]]
        return facts

    def _find(self, batch: FlowBatch, zones: npt.NDArray[np.intp]) -> Rows:
        """Rows of flows in another zone, or with a first packet from the server; -1 without a flow."""
        rows = np.full(len(batch), -1, np.int32)
        for key in _other_keys(batch, zones[:MAX_ZONES]):
            found = self._index.find(key.hashes(self._hasher), partial(key.same, self._columns))
            rows = np.where(rows < 0, found, rows)
        return rows


def _other_keys(batch: FlowBatch, zones: npt.NDArray[np.intp]) -> Iterator[FlowKeys]:
    key = key_columns(batch)
    turned = key._replace(
        client_high=key.server_high,
        client_low=key.server_low,
        server_high=key.client_high,
        server_low=key.client_low,
        ports=swapped(key.ports),
    )
    for zone in zones.tolist():
        in_zone = np.uint64(zone << 16)
        yield key._replace(ports=key.ports | in_zone)
        yield turned._replace(ports=turned.ports | in_zone)


def _is_loopback(batch: FlowBatch) -> Mask:
    mask = np.zeros(len(batch), np.bool_)
    for network in LOOPBACK:
        mask |= network.contains(batch.server_high, batch.server_low)
        mask |= network.contains(batch.client_high, batch.client_low)
    return mask
