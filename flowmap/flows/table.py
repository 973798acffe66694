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
from flowmap.flows.columns import (
    IGNORED,
    PENDING,
    FlowColumns,
    FlowKeys,
    Row,
    key_columns,
    occurrence_rounds,
)
from flowmap.flows.counters import apply_late_openings, count, count_held, count_retransmits, has_grown, sums
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
from flowmap.flows.health import apply_measured
from flowmap.flows.held_counters import HeldCounters
from flowmap.flows.index.endpoints import EndpointTable
from flowmap.flows.index.hash_index import Hasher, Hashes, KeyIndex, Rows
from flowmap.flows.index.ports import TCP
from flowmap.flows.index.superseded import Superseded
from flowmap.flows.namespaces import Namespaces
from flowmap.flows.new_flows import applicable, note_flags, opening_flags, write_translation
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.flows.records.changes import Changes, Moment, Shed, joined
from flowmap.flows.records.moments import note_moments
from flowmap.flows.untracked import Untracked
from flowmap.flows.workloads import Workloads

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
        self._free: list[int] = []
        self._top = 0
        self._read = 0
        self._starting = True
        self._superseded = Superseded(MAX_SUPERSEDED)
        self._reading = False
        self._held = HeldCounters(self.columns)
        self._refused = False  # a flow was refused since the start of the last complete read without refusals
        self._refused_in_read = False
        self._swept: list[Rows] = []
        self.withhold_above = max_flows // 2
        """Number of flows above which the counters of evictable flows are not counted yet."""
        self._withholding = False

    def __len__(self) -> int:
        return self._top - len(self._free)

    def set_filter(self, admit: Filter) -> None:
        """Use another filter for new flows; existing flows keep theirs."""
        self._admit = admit

    def live(self) -> Rows:
        """All rows in use."""
        return np.flatnonzero(self.columns.flags[: self._top] & USED).astype(np.int32)

    def alive_until(self, rows: Rows) -> bursts.Times:
        """The latest instant at which each flow was certainly alive."""
        columns, flags = self.columns, self.columns.flags[rows]
        reported = np.where((flags & END_UNANNOUNCED) != 0, columns.read_at[rows], self.alive_at)
        until = np.where(columns.protocol(rows) == TCP, reported, columns.active[rows])
        return np.where((flags & ENDED) != 0, columns.ended_after[rows], until)

    def caught_up(self, at: float) -> None:
        """Note that the table has every change before ``at``."""
        self.alive_at = max(self.alive_at, at)

    def begin_read(self) -> None:
        """Start a full read. Until :meth:`end_read` the counters that it shows are held."""
        self._read += 1
        self._reading = True
        self._held.clear()
        self._refused_in_read = False

    def end_read(self, *, complete: bool, now: float) -> list[Changes]:
        """End a full read: count what it showed. A complete one also closes the open flows that it did not show."""
        self._reading = False
        changes = [count_held(self.columns, reading) for reading in self._held.take()]
        return [*changes, self._close_unseen(now)] if complete else changes

    def _close_unseen(self, now: float) -> Changes:
        self._starting = False
        flags = self.columns.flags[: self._top]
        missing = (flags & (OPEN | INDEXED)) == OPEN | INDEXED
        missing &= self.columns.read[: self._top] != self._read
        gone = np.flatnonzero(missing).astype(np.int32)
        gone = np.concatenate((gone, self._superseded.clear()))
        self.ended_unseen += self._not_ignored(gone)
        self._close(gone, now)
        flags &= ~UNANNOUNCED
        self._refused = self._refused_in_read
        return Changes.of_closed(gone)

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
        rows = unanswered(self.columns, self._top, max(wanted, self.max_flows // SHARE))
        if len(rows):
            self._refused = self._refused_in_read = True
            self._unindex(rows)
            self.open_flows -= self._not_ignored(rows)
        return rows

    def free(self, rows: Rows) -> None:
        """Free closed rows after their traffic was credited."""
        self.columns.flags[rows] = 0
        self._held.drop(rows)
        self._free.extend(rows.tolist())

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
            self.untracked.compare(
                batch, hashes, rows, moment.read_at, admit=self._admit, refused=self._refused, top=self._top
            )
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
            shed = self._refuse(batch.take(fresh[len(placed) :]))
            kept = np.flatnonzero(rows >= 0)
            batch, rows = batch.take(kept), rows[kept]
        columns.read[rows] = self._read
        note_flags(columns, batch, rows)
        if self._withholding:
            batch = without_evictable(columns, batch, rows)
        deltas = count(columns, batch, rows, moment.read_at, moment.now, self._held, hold=self._reading)
        apply_late_openings(columns, batch, rows, deltas, moment.born_after)
        resent = count_retransmits(columns, batch, rows)
        self.workloads.note(columns, batch, rows)
        note_moments(columns, batch, rows, self.alive_until)
        self._end(rows[(batch.flags & ENDING) != 0], moment.now)
        closed = rows[batch.kind == CLOSED]
        self._close(closed, moment.now)
        grew = np.flatnonzero(has_grown(deltas) | (resent != 0))
        closed = np.concatenate((closed, replaced))
        return Changes(rows[grew], deltas[grew], resent[grew], opened, closed, *shed)

    def _refuse(self, batch: FlowBatch) -> Shed:
        """Count records of refused flows. A flow that is first seen later may be one of them, and old."""
        self._refused = self._refused_in_read = True
        ignored = self._admit.ignores(batch)
        final = (batch.kind == CLOSED) & ((batch.flags & COUNTERS) != 0)
        totals = sums(batch, final & ~ignored)
        return Shed(int(np.count_nonzero(~ignored)), totals, sum(sums(batch, final & ignored)[:2]))

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
        self._end(rows, now)
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
        rows = self._allocate(len(placed))
        if not len(rows):
            return rows
        columns, records = self.columns, batch.take(placed)
        key.take(placed).write(columns, rows)
        columns.id[rows] = records.id
        columns.client[rows], columns.service[rows] = self._intern_endpoints(records)
        joined = (records.flags & PICKED_UP) != 0
        before = self._starting & (records.kind != OPENED) & ~joined
        columns.flags[rows] = opening_flags(records, before)
        perhaps_old = before | joined | (self._refused & (records.kind != OPENED))
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

    def _allocate(self, count: int) -> Rows:
        reused = self._free[len(self._free) - min(count, len(self._free)) :]
        del self._free[len(self._free) - len(reused) :]
        fresh = count - len(reused)
        rows = np.array(reused + list(range(self._top, self._top + fresh)), np.int32)
        self._top += fresh
        return rows

    def _intern_endpoints(self, batch: FlowBatch) -> tuple[Rows, Rows]:
        if self.endpoints.room < 2 * len(batch):
            self._swept.append(self.sweep_endpoints())
        # The client is always the one before source NAT. Many clients can share one translated address, and the host
        # that has this address itself (the router, or a host with a job) must not get their traffic.
        clients = self.endpoints.intern_clients(batch.client_high, batch.client_low)
        if self._nat == "original":
            address = (batch.server_high, batch.server_low, batch.server_port)
        else:
            address = (batch.translated_server_high, batch.translated_server_low, batch.translated_server_port)
        return clients, self.endpoints.intern_services(*address, batch.protocol)

    def _end(self, rows: Rows, now: float) -> None:
        """Note the end of the connections. The kernel may keep their entries."""
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
        self._held.drop(rows)
        self.open_flows -= self._not_ignored(rows[(columns.flags[rows] & OPEN) != 0])
        columns.flags[rows] &= ~OPEN

    def _not_ignored(self, rows: Rows) -> int:
        return int(np.count_nonzero(self.columns.series[rows] != IGNORED))

    def _unindex(self, rows: Rows) -> None:
        indexed = rows[(self.columns.flags[rows] & INDEXED) != 0]
        self._index.remove(indexed)
        self.columns.flags[indexed] &= ~INDEXED
