"""The table of flows: turns absolute counters into deltas.

Each record belongs to the row with its original tuple, zone and network namespace; a record with another kernel id is
another flow. The table returns which rows opened, which closed, and by how much the counters of each row grew. The sum
of all deltas of a flow is exactly its observed traffic. The table does not decide about owners.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from flowmap.flows import bursts
from flowmap.flows.columns import IGNORED, PENDING, FlowColumns, FlowKeys, Row, key_columns, occurrence_rounds
from flowmap.flows.counters import apply_late_openings, count, count_held, count_retransmits, has_grown
from flowmap.flows.eviction import (
    SHARE,
    Evict,
    assured,
    closed_pending,
    evicts_others,
    missing_rows,
    unanswered,
    without_evictable,
)
from flowmap.flows.filter import Filter
from flowmap.flows.free_rows import FreeRows
from flowmap.flows.health import apply_measured
from flowmap.flows.index.endpoints import EndpointTable
from flowmap.flows.index.hash_index import Hasher, Hashes, KeyIndex, Rows
from flowmap.flows.index.ports import TCP
from flowmap.flows.index.superseded import Superseded
from flowmap.flows.namespaces.numbering import Namespaces
from flowmap.flows.namespaces.reads import FullReads
from flowmap.flows.new_flows import applicable, count_refused, note_flags, opening_flags, write_translation
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.flows.records.changes import Changes, Moment, Shed, joined
from flowmap.flows.records.moments import note_moments
from flowmap.flows.untracked import Untracked
from flowmap.flows.workloads import Workloads
from flowmap.model.namespace import OWN

NEVER = -np.inf
MAX_SUPERSEDED = 10_000

# numpy looks up a dozen attributes of an enum member at every use; plain numbers keep small batches fast.
CLOSED, OPENED, UPDATED = int(RecordKind.CLOSED), int(RecordKind.OPENED), int(RecordKind.UPDATED)
MEASURED = int(RecordKind.MEASURED)
COUNTERS, ENDING, PICKED_UP = int(Flag.COUNTERS), int(Flag.ENDING), int(Flag.PICKED_UP)
USED, OPEN, ENDED, INDEXED, END_UNANNOUNCED, UNANNOUNCED = (
    np.uint32(flag) for flag in (Row.USED, Row.OPEN, Row.ENDED, Row.INDEXED, Row.END_UNANNOUNCED, Row.UNANNOUNCED)
)

_NO_ROWS = np.zeros(0, np.int32)


class FlowTable:
    """At most ``max_flows`` flows, open or waiting for a decision. Only one thread may use it."""

    def __init__(
        self,
        max_flows: int,
        *,
        seed: bytes = bytes(range(1, 49)),
        nat: Literal["translated", "original"] = "translated",
        admit: Filter | None = None,
    ) -> None:
        """``seed``: 48 random bytes, so that a sender cannot choose colliding tuples. The default is for tests."""
        hasher = Hasher(seed)
        self.max_flows = max_flows
        self.columns = FlowColumns(max_flows)
        self.endpoints = EndpointTable(2 * max_flows, hasher)
        self.workloads = Workloads()
        self.namespaces = Namespaces()
        self.open_flows = 0
        """Number of open rows that are not ignored."""
        self.ended_unseen = 0
        """Flows that disappeared between two full reads without a final record, without ignored ones."""
        self.alive_at = NEVER
        """Every open TCP flow was alive at this monotonic instant."""
        self._hasher = hasher
        self._index = KeyIndex(max_flows)
        self.untracked = Untracked(self.columns, self._index, hasher)
        self._nat = nat
        self._admit = admit or Filter()
        self._rows = FreeRows()
        self._reads = FullReads(self.columns)
        self._superseded = Superseded(MAX_SUPERSEDED)
        self._swept: list[Rows] = []
        self.withhold_above = max_flows // 2
        """Number of flows above which the counters of evictable flows are not counted yet."""
        self._withholding = False

    def __len__(self) -> int:
        return self._rows.top - len(self._rows)

    def set_filter(self, admit: Filter) -> None:
        """Use another filter for new flows; existing flows keep theirs."""
        self._admit = admit

    def live(self) -> Rows:
        """All rows in use."""
        return np.flatnonzero(self.columns.flags[: self._rows.top] & USED).astype(np.int32)

    def find(self, key: FlowKeys) -> Rows:
        """The row of the open flow with each key; -1 without one."""
        return self._index.find(key.hashes(self._hasher), partial(key.same, self.columns))

    def alive_until(self, rows: Rows) -> bursts.Times:
        """The latest instant at which each flow was certainly alive."""
        columns, flags = self.columns, self.columns.flags[rows]
        reported = np.where((flags & END_UNANNOUNCED) != 0, columns.read_at[rows], self.alive_at)
        until = np.where(columns.protocol(rows) == TCP, reported, columns.active[rows])
        return np.where((flags & ENDED) != 0, columns.ended_after[rows], until)

    def caught_up(self, at: float) -> None:
        """Note that the table has every change before ``at``."""
        self.alive_at = max(self.alive_at, at)

    def open_namespace(self, namespace: int, *, is_new: bool) -> None:
        """Prepare for the flows of another namespace. ``is_new``: it did not exist when the daemon started."""
        self._reads.add(namespace, is_new=is_new)

    def close_namespace(self, namespace: int, now: float) -> list[Changes]:
        """Count what is held of a namespace that is not read any more, and close its open flows."""
        changes = self._count_held(namespace)
        self._reads.forget(namespace)
        rows = self._in_namespace(namespace)
        return [*changes, self._close_unseen(rows[(self.columns.flags[rows] & OPEN) != 0], namespace, now)]

    def begin_read(self, namespace: int = OWN) -> None:
        """Start a full read of a namespace. Until :meth:`end_read` the counters that it shows are held."""
        self._reads.begin(namespace)

    def end_read(self, *, complete: bool, now: float, namespace: int = OWN) -> list[Changes]:
        """End a full read: count what it showed. A complete one also closes the open flows that it did not show."""
        changes = self._count_held(namespace)
        if not complete:
            return changes
        columns, rows = self.columns, self._in_namespace(namespace)
        missing = (columns.flags[rows] & (OPEN | INDEXED)) == OPEN | INDEXED
        missing &= columns.read[rows] < self._reads.began(namespace)
        closed = self._close_unseen(rows[missing], namespace, now)
        columns.flags[rows] &= ~UNANNOUNCED
        self._reads.finish(namespace)
        return [*changes, closed]

    def _count_held(self, namespace: int) -> list[Changes]:
        return [count_held(self.columns, reading) for reading in self._reads.take_held(namespace)]

    def _close_unseen(self, rows: Rows, namespace: int, now: float) -> Changes:
        """Close flows without a final record, and those whose tuple another flow has."""
        gone = np.union1d(rows, self._superseded.clear(self.columns.namespace, namespace)).astype(np.int32)
        self.ended_unseen += self._not_ignored(gone)
        self._close(gone, now)
        return Changes.of_closed(gone)

    def _in_namespace(self, namespace: int) -> Rows:
        used = (self.columns.flags[: self._rows.top] & USED) != 0
        return np.flatnonzero(used & (self.columns.namespace[: self._rows.top] == namespace)).astype(np.int32)

    def apply(
        self, batch: FlowBatch, *, now: float, read_at: float, born_after: float = NEVER, evict: Evict | None = None
    ) -> Changes:
        """Apply the records of ``batch`` in order.

        ``read_at`` and ``now`` are monotonic instants before and after the batch was read from the kernel. Unknown
        flows began after ``born_after``. ``moments`` of the batch take precedence over these. Without ``evict`` no
        flow is evicted for new ones.
        """
        moment = Moment(now, read_at, born_after)
        key = key_columns(batch)
        hashes = key.hashes(self._hasher)
        if evict is not None and len(batch) > self.max_flows - len(self) and batch.kind[0] != MEASURED:
            self._make_room(batch, key, hashes, evict)
        self._withholding = len(self) > self.withhold_above
        rounds = occurrence_rounds(hashes)
        if rounds is None:
            return self._apply_distinct(batch, key, hashes, moment)
        results = []
        for n, part in enumerate(rounds):
            chosen = applicable(batch, part) if n else part
            if len(chosen):
                results.append(self._apply_distinct(batch.take(chosen), key.take(chosen), hashes[chosen], moment))
        return joined(results)

    def _make_room(self, batch: FlowBatch, key: FlowKeys, hashes: Hashes, evict: Evict) -> None:
        """Evict flows for new ones that begin or are assured. A tuple with another kernel id counts as a new flow."""
        places = np.flatnonzero(evicts_others(batch))
        columns, hashes, key = self.columns, hashes[places], key.take(places)
        rows = self._index.find(hashes, partial(key.same, columns))
        new = (rows < 0) | (batch.kind[places] == OPENED) | (columns.id[rows] != batch.id[places])
        room = self.max_flows - len(self)
        if (wanted := missing_rows(hashes[new], room)) <= 0:
            return
        if len(gone := self.evict_unanswered(wanted)):
            evict("unanswered", gone)
            room, new = room + len(gone), new | np.isin(rows, gone)
        answered = missing_rows(hashes[new & assured(batch)[places]], room)
        if len(gone := closed_pending(columns, self.live(), missing_rows(hashes[new], room), answered)):
            evict("pending", gone)

    def evict_unanswered(self, wanted: int) -> Rows:
        """Stop tracking at least ``wanted`` unanswered flows, if there are as many. Returns the rows to free."""
        rows = unanswered(self.columns, self._rows.top, max(wanted, self.max_flows // SHARE))
        if len(rows):
            self._reads.refuse(self.columns.namespace[rows])
            self._unindex(rows)
            self.open_flows -= self._not_ignored(rows)
        return rows

    def free(self, rows: Rows) -> None:
        """Free closed rows after their traffic was credited."""
        self.columns.flags[rows] = self.columns.held[rows] = 0
        self._rows.give(rows)

    def sweep_endpoints(self) -> Rows:
        """Free and return the numbers of endpoints without flows."""
        in_use = np.zeros(self.endpoints.capacity, np.bool_)
        live = self.live()
        in_use[self.columns.client[live]] = True
        in_use[self.columns.service[live]] = True
        return self.endpoints.sweep(in_use)

    def pop_swept(self) -> Rows:
        """Numbers of endpoints that ``apply`` freed to make room. They may already be reused."""
        swept, self._swept = self._swept, []
        return np.concatenate(swept) if swept else _NO_ROWS

    def _apply_distinct(self, batch: FlowBatch, key: FlowKeys, hashes: Hashes, moment: Moment) -> Changes:
        """Apply one part of a batch without repeated keys."""
        columns = self.columns
        rows = self._index.find(hashes, partial(key.same, columns))
        if len(batch) and batch.kind[0] == MEASURED:
            if batch.namespace[0] == OWN:
                lacks, top = self._reads.lacks_flows(OWN), self._rows.top
                self.untracked.compare(batch, hashes, rows, moment.read_at, admit=self._admit, refused=lacks, top=top)
            return apply_measured(columns, batch, rows, moment.read_at, self.workloads)
        replaced = self._apply_other_ids(batch, hashes, rows, moment.now)
        fresh = np.flatnonzero(rows < 0)
        room = self.max_flows - len(self)
        if len(fresh) > room:
            fresh = fresh[np.argsort(~evicts_others(batch)[fresh], kind="stable")]
        placed = fresh[:room]
        rows[placed] = self._open(batch, key, hashes, placed, moment)
        opened = rows[placed]
        shed = Shed()
        if len(placed) < len(fresh):
            refused = batch.take(fresh[len(placed) :])
            self._reads.refuse(refused.namespace)  # a flow that is first seen later may be one of them, and old
            shed = count_refused(refused, self._admit)
            kept = np.flatnonzero(rows >= 0)
            batch, rows = batch.take(kept), rows[kept]
        columns.read[rows] = self._reads.number
        note_flags(columns, batch, rows)
        ending = (batch.kind == CLOSED) | ((batch.flags & ENDING) != 0)
        proven = self.alive_until(rows[ending])  # their counters were read when they had ended
        if self._withholding:
            batch = without_evictable(columns, batch, rows)
        held = self._reads.held(int(batch.namespace[0])) if len(batch) else None
        deltas = count(columns, batch, rows, moment.read_at, moment.now, held)
        apply_late_openings(columns, batch, rows, deltas, moment.born_after)
        resent = count_retransmits(columns, batch, rows)
        self.workloads.note(columns, batch, rows)
        note_moments(columns, batch, rows, self.alive_until)
        self._end(rows[ending], moment.now, proven)
        closed = rows[batch.kind == CLOSED]
        self._close(closed, moment.now)
        grew = np.flatnonzero(has_grown(deltas) | (resent != 0))
        closed = np.concatenate((closed, replaced))
        return Changes(rows[grew], deltas[grew], resent[grew], opened, closed, *shed)

    def _apply_other_ids(self, batch: FlowBatch, hashes: Hashes, rows: Rows, now: float) -> Rows:
        """Separate flows with a known tuple and another kernel id: find their row, or mark the record as new (-1).

        A full read can show the new flow before the final record of the old one is read from the event queue. So the
        old row is kept as superseded until that record arrives or the read ends. Returns the closed rows.
        """
        columns = self.columns
        known, found = columns.id[rows], rows >= 0
        other = found & (known != batch.id) & (known != 0) & (batch.id != 0)
        again = found & ~other & (batch.kind == OPENED) & ((columns.flags[rows] & UNANNOUNCED) == 0)
        other |= ~found & self._superseded.may_hold(hashes)
        dropped = [self._apply_other_id(batch, hashes, rows, place, now) for place in np.flatnonzero(other).tolist()]
        # The kernel reused the tuple and the id of a flow, and the event of its end was lost.
        gone = np.concatenate((rows[again], np.array([row for row in dropped if row is not None], np.int32)))
        self.ended_unseen += self._not_ignored(gone)
        rows[again] = -1
        self._close(gone, now)
        return gone

    def _apply_other_id(self, batch: FlowBatch, hashes: Hashes, rows: Rows, place: int, now: float) -> int | None:
        kind, current = int(batch.kind[place]), int(rows[place])
        identity = int(hashes[place]), int(batch.id[place])
        held = self._superseded.find(*identity)
        if held is not None and kind == CLOSED:
            rows[place] = self._superseded.pop(*identity)[0]
            return None
        if held is not None and kind == UPDATED and current >= 0:
            rows[place] = held
            return None
        if kind == CLOSED:
            rows[place] = -1
            return None
        dropped = None
        if current >= 0:
            dropped = self._supersede(identity[0], current, now)
        rows[place] = -1 if held is None else self._restore(*identity)
        return dropped

    def _supersede(self, tuple_hash: int, row: int, now: float) -> int | None:
        rows, ended = np.array([row], np.int32), bool(self.columns.flags[row] & ENDED)
        self._unindex(rows)
        self._end(rows, now, self.alive_until(rows))
        return self._superseded.add(tuple_hash, int(self.columns.id[row]), row, ended=ended)

    def _restore(self, tuple_hash: int, flow_id: int) -> int:
        row, ended = self._superseded.pop(tuple_hash, flow_id)
        columns = self.columns
        self._index.insert(np.array([row], np.int32), np.array([tuple_hash], np.uint64))
        columns.flags[row] |= INDEXED
        if not ended:
            columns.flags[row] &= ~ENDED
            columns.ended_after[row], columns.ended_by[row] = NEVER, np.inf
        return row

    def _open(
        self, batch: FlowBatch, key: FlowKeys, hashes: Hashes, placed: npt.NDArray[np.intp], moment: Moment
    ) -> Rows:
        rows = self._rows.take(len(placed))
        if not len(rows):
            return rows
        columns, records = self.columns, batch.take(placed)
        key.take(placed).write(columns, rows)
        columns.id[rows] = records.id
        columns.client[rows], columns.service[rows] = self._intern_endpoints(records)
        joined = (records.flags & PICKED_UP) != 0
        found = records.kind != OPENED
        before = self._reads.are_before_first(records.namespace) & found & ~joined
        columns.flags[rows] = opening_flags(records, before)
        perhaps_old = before | joined | (self._reads.lack_flows(records.namespace) & found)
        each = records.moments
        columns.born_after[rows] = np.where(perhaps_old, NEVER, moment.born_after if each is None else each.before)
        columns.born_by[rows] = moment.now if each is None else each.by
        columns.reset(rows)
        bursts.begin(columns, rows)
        columns.series[rows] = np.where(self._admit.ignores(records), IGNORED, PENDING)
        write_translation(columns, records, rows)
        self.open_flows += int(np.count_nonzero(columns.series[rows] == PENDING))
        # A final record of an unknown flow must not replace a newer flow with the same tuple in the index.
        lasting = records.kind != CLOSED
        self._index.insert(rows[lasting], hashes[placed][lasting])
        columns.flags[rows[lasting]] |= INDEXED
        return rows

    def _intern_endpoints(self, batch: FlowBatch) -> tuple[Rows, Rows]:
        if self.endpoints.room < 2 * len(batch):
            self._swept.append(self.sweep_endpoints())
        # The client is always the one before source NAT. Many clients can share one translated address, and the host
        # that has this address itself (the router, or a host with a job) must not get their traffic.
        clients = self.endpoints.intern_clients(batch.client_high, batch.client_low)
        before = "" if self._nat == "original" else "translated_"
        high, low, port = (getattr(batch, f"{before}server_{part}") for part in ("high", "low", "port"))
        return clients, self.endpoints.intern_services(high, low, port, batch.protocol)

    def _end(self, rows: Rows, now: float, proven: bursts.Times) -> None:
        """Note the end of connections that were alive until ``proven``. The kernel may keep their entries."""
        columns = self.columns
        lasting = (columns.flags[rows] & ENDED) == 0
        rows = rows[lasting]
        columns.ended_after[rows] = proven[lasting]
        columns.ended_by[rows] = now
        columns.flags[rows] |= ENDED

    def _close(self, rows: Rows, now: float) -> None:
        if not len(rows):
            return
        columns = self.columns
        self._end(rows, now, self.alive_until(rows))
        self._unindex(rows)
        columns.held[rows] = 0
        self.open_flows -= self._not_ignored(rows[(columns.flags[rows] & OPEN) != 0])
        columns.flags[rows] &= ~OPEN

    def _not_ignored(self, rows: Rows) -> int:
        return int(np.count_nonzero(self.columns.series[rows] != IGNORED))

    def _unindex(self, rows: Rows) -> None:
        indexed = rows[(self.columns.flags[rows] & INDEXED) != 0]
        self._index.remove(indexed)
        self.columns.flags[indexed] &= ~INDEXED
