"""A connection that two network namespaces of this host show is counted once.

Its client's socket is in one namespace, its server's socket in another, and both have the same endpoints. The flow of
the socket that was seen first counts; the other one is its *second*: it adds its workload and proof of life, and no
byte. A socket belongs to a flow of another namespace only if that is certain:

- the address of each endpoint is one of exactly one namespace that is read, the socket's own (``flows/places``);
- the sockets are the two ends of one connection: of the same tuple, one is the client's and one the server's;
- the flow has no second yet, and the counters of both can be those of one connection.

The address of a service is one of no namespace, and is translated on the way to the server. There both sockets belong
together by the client's address and port.

Otherwise both are flows of their own and count. The same holds where another source counts in the daemon's own
namespace, and the sockets of the others only measure (``RecordKind.MEASURED``): they then belong to its flows.

A second stays one as long as its socket lives, also after its flow was closed. If that flow ended without a final
record (its namespace is not read any more), the second is counted from then on.
"""

from __future__ import annotations

import numpy as np

from flowmap.flows.columns import key_columns
from flowmap.flows.eviction import Evict
from flowmap.flows.index.behind_nat import BehindNat
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import zones
from flowmap.flows.namespaces.places import Places
from flowmap.flows.namespaces.seconds import Seconds
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.flows.records.changes import Changes, joined
from flowmap.flows.table import NEVER, FlowTable
from flowmap.model.namespace import OWN

_CLOSED, _MEASURED = int(RecordKind.CLOSED), int(RecordKind.MEASURED)
_PRESENT, _HEALTH = int(Flag.PRESENT), int(Flag.HEALTH)
_NONE = np.zeros(0, np.uint64)


class Sightings:
    """Feeds the records of all namespaces to a table. Without addresses of namespaces it passes them on as they are."""

    def __init__(self, table: FlowTable) -> None:
        self.table = table
        self.places = Places()
        """The addresses of each namespace."""
        self._seconds = Seconds(table, self.places)
        self._behind_nat = BehindNat(table.columns)

    @property
    def forgotten(self) -> int:
        """Closed flows of which a second may still come and would be counted again: there were too many."""
        return self._seconds.forgotten

    def apply(
        self, batch: FlowBatch, *, now: float, read_at: float, born_after: float = NEVER, evict: Evict | None = None
    ) -> Changes:
        """As :meth:`FlowTable.apply`. All records of a batch are of one namespace."""
        table = self.table
        if not len(batch) or not len(self.places):
            return table.apply(batch, now=now, read_at=read_at, born_after=born_after, evict=evict)
        if batch.kind[0] == _MEASURED:
            return table.apply(self._of_own(batch, now), now=now, read_at=read_at, born_after=born_after)
        is_second = self._seconds.find(batch)
        counted = self._seconds.without_counted(batch.take(~is_second) if is_second.any() else batch)
        changes = table.apply(counted, now=now, read_at=read_at, born_after=born_after, evict=evict)
        self._seconds.opened(changes.opened)
        self._seconds.close(changes.closed, counted.id[counted.kind == _CLOSED])
        if not is_second.any():
            return changes
        seconds = self._as_measured(batch.take(is_second))
        return joined([changes, table.apply(seconds, now=now, read_at=read_at, born_after=born_after)])

    def begin_read(self, namespace: int) -> None:
        """As :meth:`FlowTable.begin_read`."""
        self.table.begin_read(namespace)
        self._seconds.begin_read(namespace)

    def end_read(self, *, complete: bool, now: float, namespace: int) -> list[Changes]:
        """As :meth:`FlowTable.end_read`."""
        changes = self.table.end_read(complete=complete, now=now, namespace=namespace)
        self._note_ends(changes)
        if complete:
            self._seconds.finish_read(namespace)
        return changes

    def close_namespace(self, namespace: int, now: float) -> list[Changes]:
        """As :meth:`FlowTable.close_namespace`."""
        changes = self.table.close_namespace(namespace, now)
        self._note_ends(changes)
        self.places.forget(namespace)
        self._seconds.forget(namespace)
        return changes

    def _note_ends(self, changes: list[Changes]) -> None:
        """Note flows that ended without a final record, before their rows are freed."""
        for one in changes:
            self._seconds.close(one.closed, _NONE)

    def _as_measured(self, batch: FlowBatch) -> FlowBatch:
        """Records of seconds as measurements of their flows. The health of a flow is that of the socket it counts."""
        rows = self.table.find(self._seconds.keys_of_firsts(batch))
        batch, rows = batch.take(np.flatnonzero(rows >= 0)), rows[rows >= 0]
        self._set_keys(batch, np.arange(len(batch)), rows)
        batch.namespace = self.table.columns.namespace[rows]
        batch.kind[:] = _MEASURED
        batch.flags &= np.uint16(Flag.PRESENT | Flag.ENDING)
        batch.id[:] = 0
        return batch

    def _of_own(self, batch: FlowBatch, now: float) -> FlowBatch:
        """Measurements of another namespace's sockets, for the flows of the daemon's own that they belong to.

        Only sockets whose local address is in no other namespace. The health of a flow is that of its client's socket,
        if that is on this host too. A server's socket has the endpoints after NAT.
        """
        if int(batch.namespace[0]) == OWN:
            return batch
        is_client = (batch.flags & np.uint16(_PRESENT)) != 0
        client = self.places.owner(batch.client_high, batch.client_low)
        server = self.places.owner(batch.server_high, batch.server_low)
        certain = np.where(is_client, client, server) == batch.namespace
        batch, client, is_client = batch.take(np.flatnonzero(certain)), client[certain], is_client[certain]
        batch.namespace[:] = OWN
        batch.flags[~is_client & (client >= 0)] &= np.uint16(~_HEALTH & 0xFFFF)
        servers = np.flatnonzero(~is_client)
        servers = servers[self.table.find(key_columns(batch).take(servers)) < 0]
        if len(servers):
            rows = self._behind_nat.find(batch.take(servers), self.table.live(), now)
            self._set_keys(batch, servers[rows >= 0], rows[rows >= 0])
        return batch

    def _set_keys(self, batch: FlowBatch, places: np.ndarray, rows: Rows) -> None:
        """Give the records at ``places`` the endpoints of the flows in these rows."""
        columns = self.table.columns
        for name in ("client_high", "client_low", "server_high", "server_low"):
            getattr(batch, name)[places] = getattr(columns, name)[rows]
        batch.client_port[places], batch.server_port[places] = columns.client_port(rows), columns.server_port(rows)
        batch.zone[places] = zones(columns.ports[rows])
