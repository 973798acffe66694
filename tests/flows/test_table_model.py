"""The flow table against a slow model: one record at a time, one object a flow, Python's own integers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowmap.flows.columns import Row
from flowmap.flows.eviction import FEW_PACKETS
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.flows.records.changes import Changes
from flowmap.flows.table import FlowTable
from flowmap.model.address import Address
from tests.support.records import Record, batch_of, replace

TCP = 6
OTHER = 7 << 20  # another network namespace
WITHHOLD_ABOVE = 2
"""Flows in the table above which those that may have to give way are not counted yet."""
NO_ROWS = np.zeros(0, np.int32)
Key = tuple[str, int, int, int]
Four = tuple[int, int, int, int]


@dataclass
class Flow:
    """What the model knows of one flow."""

    key: Key
    id: int
    born_after: float
    born_by: float
    preexisting: bool
    unannounced: bool
    silent: bool
    assured: bool = False
    read: int = 0
    last: Four | None = None
    before: Four = (0, 0, 0, 0)  # carried before the daemon looked
    observed: Four = (0, 0, 0, 0)
    read_at: float = 0.0
    held: tuple[Four, float, bool] | None = None  # what the present read showed: arguments of ``count``
    active: float = -math.inf
    open: bool = True
    ended: bool = False
    ended_after: float = -math.inf
    ended_by: float = math.inf

    def take(self, counters: Four, read_at: float, over: bool, *, held: bool) -> None:
        """``held``: from a full read, so they count when it ends, unless others come before."""
        changed = counters != (self.last or (0, 0, 0, 0))
        self.held = (counters, read_at, over) if held and changed else None
        if self.held is None:
            self.count(counters, read_at, over)

    def count(self, now: Four, read_at: float, over: bool) -> None:
        first, last = self.last is None, self.last or (0, 0, 0, 0)
        grown = _add(now, last, -1)
        if any(value < 0 for value in grown):
            grown, self.before = now, (0, 0, 0, 0)
        if first and self.preexisting:
            self.before, grown = now, (0, 0, 0, 0)
        if grown[0] and not first and not (over and self.key[1] == TCP):
            self.active = self.read_at
        self.observed = _add(self.observed, grown)
        self.last, self.read_at = now, read_at

    @property
    def uncounted(self) -> bool:
        """Nothing was counted; zeroed by somebody and then nothing is as good."""
        return not any(self.last or ()) and not any(value % (1 << 64) for value in self.observed)

    def waits(self, now: Four) -> bool:
        """Whether counters of a full read have to wait while the table is crowded."""
        return not self.assured and max(now[2:]) <= FEW_PACKETS and self.uncounted

    def announce(self, born_after: float) -> None:
        self.unannounced = False
        if self.preexisting:
            self.observed = _add(self.observed, self.before)
            self.preexisting, self.born_after = False, born_after

    def facts(self) -> tuple[object, ...]:
        """What must be equal in the table."""
        times = (self.born_after, self.born_by, self.ended_after, self.ended_by)
        return (self.key, self.id, self.observed, self.open, self.ended, self.preexisting, self.active, times)


def _add(a: Four, b: Four, sign: int = 1) -> Four:
    one, two, three, four = (x + sign * y for x, y in zip(a, b, strict=True))
    return one, two, three, four


@dataclass
class Model:
    """The table as its documentation tells it."""

    current: dict[Key, Flow] = field(default_factory=dict)
    aside: dict[tuple[Key, int], tuple[Flow, bool]] = field(default_factory=dict)
    done: list[Flow] = field(default_factory=list)
    starting: set[int] = field(default_factory=lambda: {0, OTHER})
    number: int = 0
    began: dict[int, int] = field(default_factory=lambda: {0: 0, OTHER: 0})
    reading: set[int] = field(default_factory=set)
    alive_at: float = -math.inf
    withholding: bool = False
    crowded: set[int] = field(default_factory=set)
    crowded_now: set[int] = field(default_factory=set)

    def apply(self, records: list[Record], now: float, read_at: float, born_after: float) -> None:
        seen: set[Key] = set()
        self.withholding = len(self.done) > WITHHOLD_ABOVE
        for record in records:
            key = key_of(record)
            news = record.counters is not None or record.flags & (Flag.ENDING | Flag.ASSURED)
            if record.kind is not RecordKind.UPDATED or news or key not in seen:
                self._apply(record, key, now, read_at, born_after)
            seen.add(key)

    def _apply(self, record: Record, key: Key, now: float, read_at: float, born_after: float) -> None:
        flow = self._find(record, key, now)
        if flow is None:
            joined, crowded = bool(record.flags & Flag.PICKED_UP), record.namespace in self.crowded
            old = record.namespace in self.starting and record.kind is not RecordKind.OPENED and not joined
            flow = Flow(
                key,
                record.id,
                -math.inf if old or joined or (crowded and record.kind is not RecordKind.OPENED) else born_after,
                now,
                preexisting=old,
                unannounced=record.kind in (RecordKind.DUMPED, RecordKind.UPDATED),
                silent=bool(record.flags & Flag.END_UNANNOUNCED),
            )
            if record.kind is not RecordKind.CLOSED:
                self.current[key] = flow
            self.done.append(flow)
        flow.read = self.number
        if record.kind is not RecordKind.DUMPED and record.namespace == 0:
            flow.silent = False
        if record.flags & Flag.DOUBTFUL:
            flow.silent = True
        flow.assured |= bool(record.flags & Flag.ASSURED)
        proven = self.alive_until(flow)
        over = record.kind is RecordKind.CLOSED or bool(record.flags & Flag.ENDING)
        waits = self.withholding and record.kind is RecordKind.DUMPED and flow.waits(record.counters or (0, 0, 0, 0))
        if record.counters is not None and not waits:
            held = record.namespace in self.reading and record.kind is RecordKind.DUMPED
            flow.take(record.counters, read_at, over, held=held)
        if record.kind is RecordKind.OPENED:
            flow.announce(born_after)
        if over:
            self._end(flow, now, proven)
        if record.kind is RecordKind.CLOSED:
            self._close(flow, now)

    def _find(self, record: Record, key: Key, now: float) -> Flow | None:
        flow = self.current.get(key)
        if flow is not None and (flow.id == record.id or 0 in (flow.id, record.id)):
            if record.kind is RecordKind.OPENED and not flow.unannounced:
                self._close(flow, now)
                return None
            return flow
        held = self.aside.get((key, record.id))
        if record.kind is RecordKind.CLOSED:
            self.aside.pop((key, record.id), None)
            return held[0] if held else None
        if held is not None and flow is not None and record.kind is RecordKind.UPDATED:
            return held[0]
        if flow is not None:
            self.aside[key, flow.id] = flow, flow.ended
            self._end(flow, now)
            del self.current[key]
        if held is None:
            return None
        back, was_over = self.aside.pop((key, record.id))
        if not was_over:
            back.ended, back.ended_after, back.ended_by = False, -math.inf, math.inf
        self.current[key] = back
        return back

    def alive_until(self, flow: Flow) -> float:
        if flow.ended:
            return flow.ended_after
        if flow.key[1] != TCP:
            return flow.active
        return flow.read_at if flow.silent else self.alive_at

    def _end(self, flow: Flow, now: float, proven: float | None = None) -> None:
        if not flow.ended:
            until = self.alive_until(flow) if proven is None else proven
            flow.ended_after, flow.ended_by, flow.ended = until, now, True

    def _close(self, flow: Flow, now: float) -> None:
        self._end(flow, now)
        flow.open, flow.held = False, None
        if self.current.get(flow.key) is flow:
            del self.current[flow.key]

    def evict(self, gone: list[tuple[object, ...]], wanted: int) -> None:
        """``gone``: facts of flows that gave way. They must have been allowed to, and the oldest."""
        able = sorted((flow for flow in self.current.values() if not flow.assured and flow.uncounted), key=_came)
        leave = [flow for flow in able if flow.facts() in gone]
        assert len(leave) == len(gone) == min(wanted, len(able))
        assert [flow.born_by for flow in leave] == [flow.born_by for flow in able[: len(leave)]]
        for flow in leave:
            del self.current[flow.key]
            self.done.remove(flow)
            self.crowded.add(flow.key[3])
            self.crowded_now.add(flow.key[3])

    def begin_read(self, namespace: int) -> None:
        self.number += 1
        self.began[namespace] = self.number
        self.reading.add(namespace)
        self.crowded_now.discard(namespace)

    def count_held(self, namespace: int) -> None:
        self.reading.discard(namespace)
        for flow in self.done:
            if flow.key[3] == namespace:
                if flow.held is not None:
                    flow.count(*flow.held)
                flow.held = None

    def end_read(self, namespace: int, now: float) -> None:
        self.starting.discard(namespace)
        gone = [flow for flow in self._in(namespace) if flow.read < self.began[namespace]]
        aside = [one for one in self.aside if one[0][3] == namespace]
        for flow in gone + [self.aside.pop(one)[0] for one in aside]:
            self._close(flow, now)
        for flow in self._in(namespace):
            flow.unannounced = False
        if namespace not in self.crowded_now:
            self.crowded.discard(namespace)

    def leave(self, namespace: int, now: float) -> None:
        aside = [one for one in self.aside if one[0][3] == namespace]
        for flow in self._in(namespace) + [self.aside.pop(one)[0] for one in aside]:
            self._close(flow, now)
        for known in (self.starting, self.crowded, self.crowded_now):
            known.discard(namespace)
        self.began[namespace] = self.number

    def _in(self, namespace: int) -> list[Flow]:
        return [flow for flow in self.current.values() if flow.key[3] == namespace]


def _came(flow: Flow) -> float:
    return flow.born_by


def key_of(record: Record) -> Key:
    return record.client, record.protocol, record.zone, record.namespace


numbers = st.one_of(st.integers(0, 30), st.integers(0, 1 << 56))
counters = st.one_of(st.none(), st.tuples(numbers, numbers, numbers, numbers), st.tuples(*[st.integers(0, 30)] * 4))
records = st.builds(
    Record,
    kind=st.sampled_from([kind for kind in RecordKind if kind is not RecordKind.MEASURED]),
    client=st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1"]),
    protocol=st.sampled_from([6, 6, 17]),
    zone=st.sampled_from([0, 0, 0, 7]),
    id=st.sampled_from([1, 1, 1, 2, 3, 0]),
    counters=counters,
    flags=st.sampled_from(
        [0, 0, 0, *map(int, (Flag.ENDING, Flag.END_UNANNOUNCED, Flag.PICKED_UP, Flag.DOUBTFUL, Flag.ASSURED))]
    ),
)


class Comparison(RuleBasedStateMachine):
    """Random steps; after each, every live row says what the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.table = FlowTable(100)
        self.table.withhold_above = WITHHOLD_ABOVE
        self.model = Model()
        self.now = 100.0
        self.born_after = -math.inf
        self.table.open_namespace(OTHER, is_new=False)
        self.grown: dict[int, Four] = {}

    @rule(drawn=st.lists(records, min_size=1, max_size=8), namespace=st.sampled_from([0, 0, 0, OTHER]))
    def apply(self, drawn: list[Record], namespace: int) -> None:
        batch = [replace(one, namespace=namespace) for one in drawn]
        self.now += 1
        now, read_at, born_after = self.now, self.now - 0.5, self.born_after
        applied = self.table.apply(batch_of(*batch), now=now, read_at=read_at, born_after=born_after)
        self.model.apply(batch, now=now, read_at=read_at, born_after=born_after)
        for row in applied.opened.tolist():
            self.grown[row] = (0, 0, 0, 0)
        self._grow(applied)
        assert applied.shed == 0
        self._compare_and_free(applied.closed)

    @rule(namespace=st.sampled_from([0, 0, OTHER]))
    def begin_read(self, namespace: int) -> None:
        if namespace not in self.model.reading:
            self.table.begin_read(namespace)
            self.model.begin_read(namespace)

    @precondition(lambda self: self.model.reading)
    @rule(complete=st.booleans(), data=st.data())
    def end_read(self, complete: bool, data: st.DataObject) -> None:
        namespace = data.draw(st.sampled_from(sorted(self.model.reading)))
        self.now += 1
        changes = self.table.end_read(complete=complete, now=self.now, namespace=namespace)
        self.model.count_held(namespace)
        if complete:
            self.model.end_read(namespace, self.now)
        self._compare_all(changes)

    @rule(is_new=st.booleans())
    def lose_namespace(self, is_new: bool) -> None:
        self.now += 1
        changes = self.table.close_namespace(OTHER, self.now)
        self.model.count_held(OTHER)
        self.model.leave(OTHER, self.now)
        self._compare_all(changes)
        self.table.open_namespace(OTHER, is_new=is_new)
        if not is_new:
            self.model.starting.add(OTHER)

    def _compare_all(self, changes: list[Changes]) -> None:
        for one in changes:
            self._grow(one)
        self._compare_and_free(np.concatenate([NO_ROWS, *(one.closed for one in changes)]))

    @rule()
    def catch_up(self) -> None:
        self.born_after = self.model.alive_at = self.now
        self.table.caught_up(self.now)

    @rule(wanted=st.integers(1, 4))
    def evict(self, wanted: int) -> None:
        gone = self.table.evict_unanswered(wanted)
        assert len(set(gone.tolist())) == len(gone)
        self.model.evict([self._facts(row) for row in gone.tolist()], wanted)
        self.table.free(gone)
        for row in gone.tolist():
            assert self.grown.pop(row) == (0, 0, 0, 0), "nothing was counted"
        self._compare_and_free(NO_ROWS)

    @rule()
    def sweep(self) -> None:
        self.table.sweep_endpoints()

    @invariant()
    def every_endpoint_is_known(self) -> None:
        columns = self.table.columns
        for row in self.table.live().tolist():
            client = self.table.endpoints.key(int(columns.client[row]))
            assert client.address == Address(int(columns.client_high[row]), int(columns.client_low[row]))
            service = self.table.endpoints.key(int(columns.service[row]))
            assert (service.port, service.protocol) == (9092, int(columns.protocol(np.array([row], np.int32))[0]))

    def _grow(self, changes: Changes) -> None:
        for row, delta in zip(changes.rows.tolist(), changes.deltas.tolist(), strict=True):
            self.grown[row] = _add(self.grown[row], (delta[0], delta[1], delta[2], delta[3]))

    def _compare_and_free(self, closed: np.ndarray) -> None:
        live = self.table.live()
        assert sorted(map(self._facts, live.tolist()), key=repr) == sorted(
            (flow.facts() for flow in self.model.done), key=repr
        )
        wrapped = {row: tuple(value % (1 << 64) for value in grown) for row, grown in self.grown.items()}
        assert {
            row: tuple(total) for row, total in zip(live, self.table.columns.total(live).tolist(), strict=True)
        } == {row: wrapped[row] for row in live.tolist()}
        assert self.table.open_flows == sum(flow.open for flow in self.model.done)
        assert len(set(closed.tolist())) == len(closed), "a row is over once"
        assert set(closed.tolist()) == {r for r in live.tolist() if not self.table.columns.flags[r] & Row.OPEN}
        alive = self.table.alive_until(live).tolist()
        assert sorted(alive) == sorted(self.model.alive_until(flow) for flow in self.model.done)
        self.table.free(closed)
        self.model.done = [flow for flow in self.model.done if flow.open]
        for row in closed.tolist():
            del self.grown[row]

    def _facts(self, row: int) -> tuple[object, ...]:
        columns, flags = self.table.columns, int(self.table.columns.flags[row])
        ports = int(columns.ports[row])
        address = str(Address(int(columns.client_high[row]), int(columns.client_low[row])))
        times = (columns.born_after[row], columns.born_by[row], columns.ended_after[row], columns.ended_by[row])
        return (
            (address, ports & 0xFFFF, ports >> 16 & 0xFFFF, int(columns.namespace[row])),
            int(columns.id[row]),
            self.grown[row],
            bool(flags & Row.OPEN),
            bool(flags & Row.ENDED),
            bool(flags & Row.PREEXISTING),
            float(columns.active[row]),
            tuple(map(float, times)),
        )


Comparison.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestComparison = Comparison.TestCase
