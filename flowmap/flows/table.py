"""The table of flows: absolute counters in, deltas out.

Every record of a batch finds the row of its flow by the original tuple and zone; a record with another kernel id is
another flow. The table decides nothing about owners. It says which rows opened, which closed, and by how much the
counters of each row grew, such that the sum of all deltas of a flow is exactly what was observed of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from flowmap.flows.batch import Flag, FlowBatch, Kind
from flowmap.flows.columns import (
    IGNORED,
    PENDING,
    U64,
    FlowColumns,
    Mask,
    Row,
    key_columns,
    occurrence_rounds,
    same_key,
)
from flowmap.flows.ends import EndTable
from flowmap.flows.filter import Filter
from flowmap.flows.index import Hasher, Hashes, KeyIndex, Rows

TCP = 6
NEVER = -np.inf
MAX_SUPERSEDED = 10_000

# numpy looks up a dozen attributes on an enum member at every use; plain numbers keep small batches cheap.
CLOSED, OPENED, UPDATED = int(Kind.CLOSED), int(Kind.OPENED), int(Kind.UPDATED)
COUNTERS, HEALTH, ENDING = int(Flag.COUNTERS), int(Flag.HEALTH), int(Flag.ENDING)
USED, OPEN, ENDED, PREEXISTING, READ, INDEXED, HEALTH_READ = (
    np.uint16(flag) for flag in (Row.USED, Row.OPEN, Row.ENDED, Row.PREEXISTING, Row.READ, Row.INDEXED, Row.HEALTH_READ)
)

Times = npt.NDArray[np.float64]

_NO_ROWS = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch changed. A row can be in several fields, and more than once in ``rows``."""

    rows: Rows
    """Rows whose counters grew."""
    deltas: U64
    """Growth of each of ``rows``: transmit bytes, receive bytes, transmit packets, receive packets."""
    retransmits: npt.NDArray[np.uint32]
    """Growth of retransmitted segments of each of ``rows``."""
    opened: Rows
    closed: Rows
    """Rows whose flow is over; they keep their place until :meth:`FlowTable.free`."""
    shed: int = 0
    """Records of flows that found no room."""
    shed_totals: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Final counters of flows that never had room, in the order of ``deltas``."""


@dataclass(frozen=True, slots=True)
class _Moment:
    """The instants of one ``apply``."""

    now: float
    read_at: float
    born_after: float


class FlowTable:
    """At most ``max_flows`` flows, open or waiting for a decision. One thread uses it."""

    def __init__(
        self,
        max_flows: int,
        *,
        seed: bytes = bytes(range(1, 49)),
        nat: Literal["translated", "original"] = "translated",
        admit: Filter | None = None,
    ) -> None:
        """``seed``: 48 random bytes that keep outsiders from choosing colliding tuples; the default is for tests."""
        hasher = Hasher(seed)
        self.max_flows = max_flows
        self.columns = FlowColumns(max_flows)
        self.ends = EndTable(2 * max_flows, hasher)
        self.open_flows = 0
        """Open rows that are not ignored."""
        self.ended_unseen = 0
        """Flows that vanished between two full reads without a final record."""
        self.alive_at = NEVER
        """Every TCP flow that is open and not ended was alive at this monotonic instant."""
        self._hasher = hasher
        self._index = KeyIndex(max_flows)
        self._nat = nat
        self._admit = admit or Filter()
        self._free: list[int] = []
        self._top = 0
        self._read = 0
        self._starting = True
        self._superseded: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return self._top - len(self._free)

    def live(self) -> Rows:
        """Every row in use."""
        return np.flatnonzero(self.columns.flags[: self._top] & USED).astype(np.int32)

    def alive_until(self, rows: Rows) -> Times:
        """The latest instant at which each flow is known to have been alive."""
        columns = self.columns
        until = np.where(columns.protocol(rows) == TCP, self.alive_at, columns.active[rows])
        ended = (columns.flags[rows] & ENDED) != 0
        return np.where(ended, columns.ended_after[rows], until)

    def caught_up(self, at: float) -> None:
        """Every change before ``at`` is in the table."""
        self.alive_at = max(self.alive_at, at)

    def begin_read(self) -> None:
        """A full read begins."""
        self._read += 1

    def end_read(self, *, complete: bool, now: float) -> Rows:
        """A full read is over; if it was complete, open flows it did not show are closed. Returns the closed rows."""
        if not complete:
            return _NO_ROWS
        self._starting = False
        flags = self.columns.flags[: self._top]
        missing = (flags & (OPEN | INDEXED)) == OPEN | INDEXED
        missing &= self.columns.read[: self._top] != self._read
        gone = np.flatnonzero(missing).astype(np.int32)
        self.ended_unseen += len(gone) + len(self._superseded)
        gone = np.concatenate((gone, np.array(list(self._superseded.values()), np.int32)))
        self._superseded.clear()
        self._close(gone, now)
        return gone

    def apply(self, batch: FlowBatch, *, now: float, read_at: float, born_after: float = NEVER) -> Applied:
        """Take the records of ``batch`` in order.

        ``read_at`` and ``now`` are monotonic instants before and after the batch was read from the kernel;
        ``born_after`` is the instant before which no flow that is still unknown can have begun.
        """
        moment = _Moment(now, read_at, born_after)
        key = key_columns(batch)
        hashes = self._hasher(key)
        rounds = occurrence_rounds(hashes)
        if rounds is None:
            return self._apply_distinct(batch, key, hashes, moment)
        results = []
        for n, part in enumerate(rounds):
            chosen = _worth_applying(batch, part) if n else part
            if len(chosen):
                distinct = [column[chosen] for column in key]
                results.append(self._apply_distinct(batch.take(chosen), distinct, hashes[chosen], moment))
        return _joined(results)

    def free(self, rows: Rows) -> None:
        """Give up closed rows whose traffic is credited."""
        self.columns.flags[rows] = 0
        self._free.extend(rows.tolist())

    def sweep_ends(self) -> Rows:
        """Free the numbers of ends that no flow has any more; returns them."""
        in_use = np.zeros(self.ends.capacity, np.bool_)
        live = self.live()
        in_use[self.columns.client[live]] = True
        in_use[self.columns.service[live]] = True
        return self.ends.sweep(in_use)

    def _apply_distinct(self, batch: FlowBatch, key: list[U64], hashes: Hashes, moment: _Moment) -> Applied:
        """One part of a batch, in which every key comes once."""
        columns = self.columns
        rows = self._index.find(hashes, lambda keys, found: same_key(columns, key, keys, found))
        replaced = self._meet_other_ids(batch, hashes, rows, moment.now)
        fresh = np.flatnonzero(rows < 0)
        placed = fresh[: self.max_flows - len(self)]
        rows[placed] = self._open(batch, key, hashes, placed, moment)
        opened = rows[placed]
        shed_totals = (0, 0, 0, 0)
        if len(placed) < len(fresh):
            shed_totals = _final_counters(batch.take(fresh[len(placed) :]))
            kept = np.flatnonzero(rows >= 0)
            batch, rows = batch.take(kept), rows[kept]
        columns.read[rows] = self._read
        deltas = self._count(batch, rows, moment.read_at)
        self._late_openings(batch, rows, deltas, moment)
        resent = self._health(batch, rows)
        self._end(rows[(batch.flags & ENDING) != 0], moment.now)
        closed = rows[batch.kind == CLOSED]
        self._close(closed, moment.now)
        grew = np.flatnonzero(deltas.any(axis=1) | (resent != 0))
        closed = np.concatenate((closed, replaced))
        return Applied(rows[grew], deltas[grew], resent[grew], opened, closed, len(fresh) - len(placed), shed_totals)

    def _meet_other_ids(self, batch: FlowBatch, hashes: Hashes, rows: Rows, now: float) -> Rows:
        """A known tuple under another kernel id is another flow; marks its record as not found.

        A full read can show the new flow before the final record of the old one was read from the event queue, so
        the old row is kept aside until that record comes or the read ends. Returns rows given up for want of room.
        """
        known = self.columns.id[rows]
        other = np.flatnonzero((rows >= 0) & (known != batch.id) & (known != 0) & (batch.id != 0))
        closed = []
        for position in other.tolist():
            if batch.kind[position] == CLOSED:
                rows[position] = self._superseded.pop((int(hashes[position]), int(batch.id[position])), -1)
                continue
            row = int(rows[position])
            self._superseded[int(hashes[position]), int(known[position])] = row
            rows[position] = -1
            if len(self._superseded) > MAX_SUPERSEDED:
                closed.append(self._superseded.pop(next(iter(self._superseded))))
            self._unindex(np.array([row], np.int32))
            self._end(np.array([row], np.int32), now)
        given_up = np.array(closed, np.int32)
        self._close(given_up, now)
        return given_up

    def _open(
        self, batch: FlowBatch, key: list[U64], hashes: Hashes, placed: npt.NDArray[np.intp], moment: _Moment
    ) -> Rows:
        rows = self._allocate(len(placed))
        if not len(rows):
            return rows
        columns, records = self.columns, batch.take(placed)
        for name, values in zip(("client_high", "client_low", "server_high", "server_low", "ports"), key, strict=True):
            getattr(columns, name)[rows] = values[placed]
        columns.id[rows] = records.id
        columns.client[rows], columns.service[rows] = self._ends_asked(records)
        before = self._starting & (records.kind != OPENED)
        columns.flags[rows] = _opening_flags(records, before)
        columns.born_after[rows] = np.where(before, NEVER, moment.born_after)
        columns.born_by[rows] = moment.now
        for column in (columns.ended_after, columns.active):
            column[rows] = NEVER
        columns.ended_by[rows] = np.inf
        for cleared in (
            columns.last,
            columns.base,
            columns.retransmits,
            columns.resent,
            columns.round_trip,
            columns.read_at,
        ):
            cleared[rows] = 0
        columns.verdict[rows] = -1
        columns.state[rows] = 0
        columns.series[rows] = np.where(self._admit.ignores(records), IGNORED, PENDING)
        self._keep_translation(records, rows)
        self.open_flows += int(np.count_nonzero(columns.series[rows] == PENDING))
        # A final record of an unknown flow must not hide a newer flow with the same tuple.
        lasting = records.kind != CLOSED
        self._index.insert(rows[lasting], hashes[placed][lasting])
        columns.flags[rows[lasting]] |= INDEXED
        return rows

    def _allocate(self, count: int) -> Rows:
        reused = self._free[len(self._free) - min(count, len(self._free)) :]
        del self._free[len(self._free) - len(reused) :]
        fresh = count - len(reused)
        rows = np.array(reused + list(range(self._top, self._top + fresh)), np.int32)
        self._top += fresh
        return rows

    def _ends_asked(self, batch: FlowBatch) -> tuple[Rows, Rows]:
        if self.ends.room < 2 * len(batch):
            self.sweep_ends()
        if self._nat == "original":
            clients = self.ends.clients(batch.client_high, batch.client_low)
            address = (batch.server_high, batch.server_low, batch.server_port)
        else:
            clients = self.ends.clients(batch.translated_client_high, batch.translated_client_low)
            address = (batch.translated_server_high, batch.translated_server_low, batch.translated_server_port)
        return clients, self.ends.services(*address, batch.protocol)

    def _keep_translation(self, batch: FlowBatch, rows: Rows) -> None:
        changed = np.flatnonzero(batch.flags & Flag.TRANSLATED)
        if len(changed):
            some, columns = batch.take(changed), self.columns
            client = (some.translated_client_high, some.translated_client_low)
            server = (some.translated_server_high, some.translated_server_low)
            columns.translated[rows[changed]] = np.stack((*client, *server), axis=1)
            ports = some.translated_client_port.astype(np.uint32) << np.uint32(16)
            columns.translated_ports[rows[changed]] = ports | some.translated_server_port

    def _count(self, batch: FlowBatch, rows: Rows, read_at: float) -> U64:
        """Deltas of every record; zero where it has no counters."""
        columns = self.columns
        deltas = np.zeros((len(rows), 4), np.uint64)
        with_counters = np.flatnonzero(batch.flags & COUNTERS)
        if not len(with_counters):
            return deltas
        row = rows[with_counters]
        counters = (batch.transmit_bytes, batch.receive_bytes, batch.transmit_packets, batch.receive_packets)
        current = np.stack([column[with_counters] for column in counters], axis=1)
        last = columns.last[row]
        delta = current - last
        went_back = np.flatnonzero((current < last).any(axis=1))
        if len(went_back):  # zeroed by somebody: what the counters hold now has come since
            columns.base[row[went_back]] -= last[went_back]
            delta[went_back] = current[went_back]
        flags = columns.flags[row]
        columns.flags[row] = flags | READ
        first = (flags & READ) == 0
        older = first & ((flags & PREEXISTING) != 0)
        if older.any():
            columns.base[row[older]] = current[older]
            delta[older] = 0
        sending = row[(delta[:, 0] != 0) & ~first]
        columns.active[sending] = columns.read_at[sending]
        columns.last[row] = current
        columns.read_at[row] = read_at
        if len(row) == len(rows):
            return delta
        deltas[with_counters] = delta
        return deltas

    def _late_openings(self, batch: FlowBatch, rows: Rows, deltas: U64, moment: _Moment) -> None:
        """A flow that the first full read showed before its opening was announced is not older than the daemon."""
        columns = self.columns
        late = np.flatnonzero((batch.kind == OPENED) & ((columns.flags[rows] & PREEXISTING) != 0))
        if len(late):
            row = rows[late]
            deltas[late] += columns.base[row]
            columns.base[row] = 0
            columns.flags[row] &= ~PREEXISTING
            columns.born_after[row] = moment.born_after

    def _health(self, batch: FlowBatch, rows: Rows) -> npt.NDArray[np.uint32]:
        """Growth of retransmitted segments; zero where the record does not tell."""
        columns = self.columns
        resent = np.zeros(len(rows), np.uint32)
        told = np.flatnonzero(batch.flags & HEALTH)
        if len(told):
            row, current = rows[told], batch.retransmits[told]
            last, flags = columns.retransmits[row], columns.flags[row]
            older = ((flags & PREEXISTING) != 0) & ((flags & HEALTH_READ) == 0)
            resent[told] = np.where(older, 0, np.where(current < last, current, current - last))
            columns.retransmits[row] = current
            columns.resent[row] += resent[told]
            columns.flags[row] = flags | HEALTH_READ
            columns.round_trip[row] = batch.round_trip[told]
        return resent

    def _end(self, rows: Rows, now: float) -> None:
        """The connections are over; the kernel may keep their entries."""
        if not len(rows):
            return
        columns = self.columns
        rows = rows[(columns.flags[rows] & ENDED) == 0]
        columns.ended_after[rows] = self.alive_until(rows)
        columns.ended_by[rows] = now
        columns.flags[rows] |= ENDED

    def _close(self, rows: Rows, now: float) -> None:
        if not len(rows):
            return
        columns = self.columns
        self._end(rows, now)
        self._unindex(rows)
        open_before = (columns.flags[rows] & OPEN) != 0
        self.open_flows -= int(np.count_nonzero(open_before & (columns.series[rows] != IGNORED)))
        columns.flags[rows] &= ~OPEN

    def _unindex(self, rows: Rows) -> None:
        indexed = rows[(self.columns.flags[rows] & INDEXED) != 0]
        self._index.remove(indexed)
        self.columns.flags[indexed] &= ~INDEXED


def _opening_flags(batch: FlowBatch, before: Mask) -> npt.NDArray[np.uint16]:
    flags = np.full(len(batch), USED | OPEN, np.uint16)
    flags[before] |= PREEXISTING
    flags[(batch.flags & Flag.GUESSED) != 0] |= np.uint16(Row.GUESSED)
    flags[(batch.flags & Flag.TRANSLATED) != 0] |= np.uint16(Row.TRANSLATED)
    return flags


def _worth_applying(batch: FlowBatch, part: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Leave out repeated updates that carry nothing the table keeps, however many a flow sends."""
    news = (batch.flags[part] & (COUNTERS | ENDING | HEALTH)) != 0
    chosen: npt.NDArray[np.intp] = part[(batch.kind[part] != UPDATED) | news]
    return chosen


def _final_counters(batch: FlowBatch) -> tuple[int, int, int, int]:
    final = (batch.kind == CLOSED) & ((batch.flags & COUNTERS) != 0)
    counters = (batch.transmit_bytes, batch.receive_bytes, batch.transmit_packets, batch.receive_packets)
    one, two, three, four = (int(column[final].sum()) for column in counters)
    return one, two, three, four


def _joined(results: list[Applied]) -> Applied:
    return Applied(
        np.concatenate([result.rows for result in results]),
        np.concatenate([result.deltas for result in results]),
        np.concatenate([result.retransmits for result in results]),
        np.concatenate([result.opened for result in results]),
        np.concatenate([result.closed for result in results]),
        sum(result.shed for result in results),
        tuple(map(sum, zip(*(result.shed_totals for result in results), strict=True))),  # type: ignore[arg-type]
    )
