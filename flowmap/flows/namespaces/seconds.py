"""The seconds of flows: sockets whose bytes the flow of another network namespace counts.

See ``flowmap.flows.namespaces.sightings`` for the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from flowmap.flows.columns import FlowColumns, FlowKeys, Mask, Row, key_columns
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.index.ports import TCP, swapped
from flowmap.flows.namespaces.places import NOWHERE, Places
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.flows.table import FlowTable

SERVICE_READS = 2
"""Full reads of its namespace for which a closed flow to a service is kept: reads of all namespaces have one pace."""
LATE_READS = 12
"""Full reads of its namespace that may miss a second: a socket whose connection is over is in none, and has its final
record only when its application closes it."""
LIMIT = 65_536
"""Closed flows that a second may still follow. The oldest is dropped: its second would be counted again."""

Identity = tuple[int, int]
"""Namespace and kernel id of a flow, or of a socket."""
Four = tuple[int, int, int, int]
Tuple = tuple[int, ...]
"""Addresses and packed ports of a flow, in the order of ``FlowKeys``."""
End = tuple[int, int, int]
"""Address and port of a client."""

_CLOSED, _PRESENT, _ENDING = int(RecordKind.CLOSED), int(Flag.PRESENT), int(Flag.ENDING)
_ROW_PRESENT, _ROW_ENDED = np.uint32(Row.PRESENT), np.uint32(Row.ENDED)
_COUNTERS = ("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets")
_NOTHING: Four = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Second:
    """A socket whose bytes the flow of another namespace counts."""

    first: Identity
    read: int
    """Number of the full read of its own namespace that last showed it."""


class _Over(NamedTuple):
    """A closed flow without a second so far."""

    identity: Identity
    is_client: bool
    counters: Four
    is_final: bool
    """Whether the counters are those of a final record."""
    other: int
    """The namespace in which the second may be; the flow's own if that is not known, as of a service."""
    read: int
    """Number of the last full read of that namespace for which the second is waited for."""
    heir: Identity | None
    """The second that continues the flow, if it had one."""

    def fits(self, identity: Identity, is_client: bool) -> bool:
        """Whether a socket can be the other end, if that is the client's or not."""
        return self.is_client is is_client and self.identity[0] != identity[0]


@dataclass(slots=True)
class Ends:
    """The two ends of each record of a batch."""

    is_client: Mask
    """The record is about the client's socket."""
    other: np.ndarray
    """The namespace that alone has the remote address, if the local address is alone in the record's own; else -1."""
    to_service: Mask
    """The record is about the client's socket, and no namespace has the server's address: perhaps a service's."""


@dataclass(slots=True)
class Seconds:
    """Knows which sockets are seconds, and which closed flows may still get one."""

    table: FlowTable
    places: Places
    forgotten: int = 0
    """Closed flows that were dropped at the limit."""
    _seconds: dict[Identity, _Second] = field(default_factory=dict)
    _second_of: dict[Identity, Identity] = field(default_factory=dict)
    _over: dict[Tuple, list[_Over]] = field(default_factory=dict)  # the oldest first
    _services: dict[End, Tuple] = field(default_factory=dict)
    """Tuples of flows to services, as their clients' sockets have them, by client."""
    _served: dict[End, tuple[Tuple, int]] = field(default_factory=dict)
    """Tuples of flows that servers' sockets began, and their namespaces, by client."""
    _orphans: set[Tuple] = field(default_factory=set)
    """Those of ``_over`` whose namespace is not read any more, so that its addresses are not known."""
    _counted_before: dict[Identity, tuple[Four, int]] = field(default_factory=dict)
    """What the first had counted of a flow that continues with its second, and the read that last showed it."""
    _reads: dict[int, int] = field(default_factory=dict)

    def begin_read(self, namespace: int) -> None:
        """A full read of a namespace starts."""
        self._reads[namespace] = self._reads.get(namespace, 0) + 1

    def finish_read(self, namespace: int) -> None:
        """A complete full read has ended: sockets that it did not show are gone."""
        read = self._reads.get(namespace, 0)
        self._drop([one for one, second in self._seconds.items() if one[0] == namespace and second.read < read])
        for identity, (_, shown) in list(self._counted_before.items()):
            if identity[0] == namespace and shown < read:
                del self._counted_before[identity]
        self._keep_over(lambda over: over.other != namespace or over.read >= read)

    def forget(self, namespace: int) -> None:
        """The namespace is not read any more, and its flows were closed."""
        self._reads.pop(namespace, None)
        self._drop([one for one in self._seconds if one[0] == namespace])
        for identity in [one for one in self._counted_before if one[0] == namespace]:
            del self._counted_before[identity]
        self._keep_over(lambda over: over.other != namespace)
        self._orphans.update(
            key for key, overs in self._over.items() if any(one.identity[0] == namespace for one in overs)
        )

    def find(self, batch: FlowBatch) -> Mask:
        """Which records of a batch, all of one namespace, are of seconds."""
        found = np.zeros(len(batch), np.bool_)
        namespace, ends = int(batch.namespace[0]), self.ends(batch)
        if self._seconds:
            for place, number in enumerate(batch.id.tolist()):
                found[place] = (namespace, number) in self._seconds
                if found[place]:
                    self._show((namespace, number), over=batch.kind[place] == _CLOSED)
        joint = (ends.other >= 0) | self._may_be_served(batch, ends)
        if self._orphans:
            key = key_columns(batch)
            pairs = zip(_tuples(key), _tuples(_turned(key)), strict=True)
            joint |= np.fromiter((not self._orphans.isdisjoint(pair) for pair in pairs), np.bool_, len(batch))
        places = np.flatnonzero(joint & ~found)
        if len(places):
            self._judge(batch, places, ends, found)
        return found

    def _show(self, second: Identity, *, over: bool) -> None:
        """Note a record of a second; ``over``: the last one."""
        if over:
            self._drop([second])
        else:
            self._seconds[second] = replace(self._seconds[second], read=self._reads.get(second[0], 0))

    def _judge(self, batch: FlowBatch, places: np.ndarray, ends: Ends, found: Mask) -> None:
        """Find the seconds among the records at ``places``, in their order."""
        key = key_columns(batch).take(places)
        own, original = self.table.find(key), _tuples(key)
        key = self._as_other_end(key, ends, places)
        rows, turned = (self.table.find(one) for one in (key, _turned(key)))
        tuples, turned_tuples = _tuples(key), _tuples(_turned(key))
        columns, counting = self.table.columns, set[Identity]()
        for n, place in enumerate(places.tolist()):
            identity = int(batch.namespace[place]), int(batch.id[place])
            counts = own[n] >= 0 and columns.id[own[n]] == identity[1]
            if counts or identity in counting or identity in self._counted_before:
                continue
            is_client = bool(ends.is_client[place])
            # The two sockets agree about the client, unless one of them guessed.
            overs = [(tuples[n], not is_client), (turned_tuples[n], is_client)]
            flows = [(int(rows[n]), not is_client), (int(turned[n]), is_client)]
            if (
                self._resume(identity, tuples[n], is_client)
                or self._follow_over(batch, place, identity, overs)
                or self._follow_row(batch, place, identity, flows)
                or self._follow_lost(identity, overs)
            ):
                found[place] = identity not in self._counted_before
            if not found[place]:
                counting.add(identity)
                if not is_client:
                    self._served[_end(original[n])] = original[n], identity[0]
                    _bound(self._served)

    def _resume(self, identity: Identity, key: Tuple, is_client: bool) -> bool:
        """Whether the record is of a flow that was lost and is seen again: its namespace is read anew."""
        for over in self._over.get(key, ()):
            if not over.is_final and over.identity[1] == identity[1] and over.is_client is is_client:
                self._over[key].remove(over)
                read = self._reads.get(identity[0], 0)
                if over.heir in self._counted_before:
                    self._seconds[identity], self._second_of[over.heir] = _Second(over.heir, read), identity
                else:
                    self._counted_before[identity] = over.counters, read
                return True
        return False

    def _follow_over(self, batch: FlowBatch, place: int, identity: Identity, where: list[tuple[Tuple, bool]]) -> bool:
        """Whether the record is of the second of a closed flow. A connection that is established has no such flow."""
        is_final = batch.kind[place] == _CLOSED
        if not is_final and not batch.flags[place] & _ENDING:
            return False
        counters = _counters(batch, place)
        for key, is_client in where:
            able = [one for one in self._over.get(key, ()) if one.is_final and one.fits(identity, is_client)]
            fitting = [one for one in able if _agree(one, counters, turned=key != where[0][0])]
            recent = [one for one in able if is_final and not self._is_late(one)]
            if fitting or recent:
                over = (fitting or recent)[0]
                self._over[key].remove(over)
                if not is_final:
                    self._seconds[identity] = _Second(over.identity, self._reads.get(identity[0], 0))
                return True
        return False

    def _is_late(self, over: _Over) -> bool:
        """Whether a read has missed the second of a closed flow: by now the tuple may be another connection's."""
        return over.other != over.identity[0] and self._reads.get(over.other, 0) > over.read - LATE_READS

    def _follow_lost(self, identity: Identity, where: list[tuple[Tuple, bool]]) -> bool:
        """Whether the record continues a flow that ended without a final record. It counts what is beyond that."""
        for key, is_client in where:
            for over in self._over.get(key, ()):
                if not over.is_final and over.heir is None and over.fits(identity, is_client):
                    self._over[key].remove(over)
                    one, two, three, four = over.counters
                    counters = over.counters if key == where[0][0] else (two, one, four, three)
                    self._counted_before[identity] = counters, self._reads.get(identity[0], 0)
                    return True
        return False

    def _follow_row(self, batch: FlowBatch, place: int, identity: Identity, flows: list[tuple[int, bool]]) -> bool:
        """Whether the record is of the second of an open flow."""
        columns = self.table.columns
        established = batch.kind[place] != _CLOSED and not batch.flags[place] & _ENDING
        for row, is_client in flows:
            if row < 0 or bool(columns.flags[row] & _ROW_PRESENT) is not is_client:
                continue
            first = int(columns.namespace[row]), int(columns.id[row])
            if first in self._second_of or (established and columns.flags[row] & _ROW_ENDED):
                continue
            if batch.kind[place] != _CLOSED:
                self._seconds[identity] = _Second(first, self._reads.get(identity[0], 0))
                self._second_of[first] = identity
            return True
        return False

    def ends(self, batch: FlowBatch) -> Ends:
        """The two ends of each record."""
        is_client = (batch.flags & np.uint16(_PRESENT)) != 0
        high, low = ((getattr(batch, f"client_{half}"), getattr(batch, f"server_{half}")) for half in ("high", "low"))
        local, remote = (
            self.places.owner(np.where(side, high[0], high[1]), np.where(side, low[0], low[1]))
            for side in (is_client, ~is_client)
        )
        alone = (batch.protocol == TCP) & (local == batch.namespace)
        other = np.where(alone & (remote >= 0) & (remote != local), remote, -1)
        return Ends(is_client, other, alone & is_client & (remote == NOWHERE))

    def opened(self, rows: Rows) -> None:
        """Note new flows whose other end may have another tuple: that of a service is translated on the way."""
        columns = self.table.columns
        rows = rows[(columns.protocol(rows) == TCP) & (columns.flags[rows] & _ROW_PRESENT != 0)]
        to_service = self.places.owner(columns.server_high[rows], columns.server_low[rows]) == NOWHERE
        for key in _tuples(_keys(columns, rows[to_service])):
            self._services[_end(key)] = key
        _bound(self._services)

    def _may_be_served(self, batch: FlowBatch, ends: Ends) -> Mask:
        """Which clients' sockets may be connected to a server's socket that was seen before, through a service."""
        found = ends.to_service & bool(self._served)
        for place in np.flatnonzero(found).tolist():
            one = int(batch.client_high[place]), int(batch.client_low[place]), int(batch.client_port[place])
            found[place] = one in self._served
        return found

    def keys_of_firsts(self, batch: FlowBatch) -> FlowKeys:
        """The keys under which the flows of the other ends are, in their namespaces."""
        return self._as_other_end(key_columns(batch), self.ends(batch), np.arange(len(batch)))

    def _as_other_end(self, key: FlowKeys, ends: Ends, places: np.ndarray) -> FlowKeys:
        tuples, namespaces = _tuples(key), ends.other[places]
        known = self.table.find(key._replace(namespace=namespaces.astype(np.uint32))) >= 0
        for n, place in enumerate(places.tolist()):
            one = tuples[n]
            if ends.is_client[place] and namespaces[n] < 0:
                tuples[n], namespaces[n] = self._served.get(_end(one), (one, -1))
            elif not (ends.is_client[place] or known[n] or one in self._over):
                tuples[n] = self._services.get(_end(one), one)
        columns = np.array(tuples, np.uint64).reshape(-1, 5).T
        return FlowKeys._make((*columns, namespaces.astype(np.uint32)))

    def without_counted(self, batch: FlowBatch) -> FlowBatch:
        """The batch without the traffic that the first of a flow has counted. Its start is not known here."""
        if not self._counted_before or not len(batch):
            return batch
        batch, namespace = batch.take(np.arange(len(batch))), int(batch.namespace[0])
        for place, number in enumerate(batch.id.tolist()):
            before = self._counted_before.get((namespace, number))
            if before is not None:
                self._counted_before[namespace, number] = before[0], self._reads.get(namespace, 0)
                batch.flags[place] |= np.uint16(Flag.PICKED_UP)
                for name, counted in zip(_COUNTERS, before[0], strict=True):
                    column = getattr(batch, name)
                    column[place] = max(int(column[place]) - counted, 0)
        return batch

    def close(self, rows: Rows, final: np.ndarray) -> None:
        """Note closed rows; ``final``: kernel ids of those with a final record."""
        if not len(rows) or not len(self.places):
            return
        columns = self.table.columns
        rows = rows[columns.protocol(rows) == TCP]
        is_client = (columns.flags[rows] & _ROW_PRESENT) != 0
        ends = (columns.client_high, columns.client_low), (columns.server_high, columns.server_low)
        remote = [np.where(is_client, server[rows], client[rows]) for client, server in zip(*ends, strict=True)]
        other = self.places.owner(remote[0], remote[1])
        tuples = _tuples(_keys(columns, rows))
        identities = list(zip(columns.namespace[rows].tolist(), columns.id[rows].tolist(), strict=True))
        joint = (other >= 0) & (other != columns.namespace[rows]) | (is_client & (other == NOWHERE))
        joint |= np.fromiter((one in self._second_of for one in identities), np.bool_, len(identities))
        for n in np.flatnonzero(joint).tolist():
            row, identity = int(rows[n]), identities[n]
            before, _ = self._counted_before.pop(identity, (_NOTHING, 0))
            counters = _plus(columns.last[row].tolist(), before)
            is_final = bool(np.isin(columns.id[row], final))
            second = self._second_of.pop(identity, None)
            if second is not None and not is_final:
                self._counted_before[second] = counters, self._seconds.pop(second).read
            if second is None or not is_final:
                where = second[0] if second is not None else int(other[n])
                read = self._reads.get(where, 0) + (LATE_READS if is_final else 0)
                if where == NOWHERE:
                    where, read = identity[0], self._reads.get(identity[0], 0) + SERVICE_READS
                over = _Over(identity, bool(is_client[n]), counters, is_final, where, read, heir=second)
                self._over.setdefault(tuples[n], []).append(over)
        while len(self._over) > LIMIT:
            self.forgotten += len(self._over.pop(next(iter(self._over))))

    def _drop(self, seconds: list[Identity]) -> None:
        """Forget seconds whose sockets are gone. Their flows may have another one: the tuple can be used again."""
        for identity in seconds:
            first = self._seconds.pop(identity).first
            if self._second_of.get(first) == identity:
                del self._second_of[first]

    def _keep_over(self, holds: Callable[[_Over], bool]) -> None:
        for key, several in list(self._over.items()):
            kept = [one for one in several if holds(one)]
            if kept:
                self._over[key] = kept
            else:
                del self._over[key]
                if self._services.get(_end(key)) == key:
                    del self._services[_end(key)]
                if self._served.get(_end(key), (None,))[0] == key:
                    del self._served[_end(key)]
        self._orphans.intersection_update(self._over)


def _turned(key: FlowKeys) -> FlowKeys:
    """The keys with client and server exchanged."""
    return FlowKeys(key.server_high, key.server_low, key.client_high, key.client_low, swapped(key.ports), key.namespace)


def _keys(columns: FlowColumns, rows: Rows) -> FlowKeys:
    return FlowKeys._make(getattr(columns, name)[rows] for name in FlowKeys._fields)


def _end(key: Tuple) -> End:
    return key[0], key[1], key[4] >> 48


def _bound(table: dict[End, Any]) -> None:
    while len(table) > LIMIT:
        del table[next(iter(table))]


def _tuples(key: FlowKeys) -> list[Tuple]:
    return list(zip(*(column.tolist() for column in key[:-1]), strict=True))


def _counters(batch: FlowBatch, place: int) -> Four:
    one, two, three, four = (int(getattr(batch, name)[place]) for name in _COUNTERS)
    return one, two, three, four


def _agree(over: _Over, counters: Four, *, turned: bool) -> bool:
    """Whether the payload that a closed flow and a later record show can be that of one connection.

    No end has an acknowledgement of more than the other one received. The last byte may be a FIN.
    """
    first, second = over.counters, (counters[1], counters[0]) if turned else counters
    client, server = (first, second) if over.is_client else (second, first)
    return client[0] <= server[0] + 1 and server[1] <= client[1] + 1


def _plus(counters: list[int], others: Four) -> Four:
    one, two, three, four = (a + b for a, b in zip(counters, others, strict=True))
    return one, two, three, four
