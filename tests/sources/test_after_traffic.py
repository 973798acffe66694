"""Measurements wait for the events of their time, and leave out flows that are younger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowmap.flows.records.batch import FlowBatch, RecordKind
from flowmap.flows.table import FlowTable
from flowmap.model.workload import Local, Workload
from flowmap.sources.after_traffic import after_traffic
from flowmap.sources.base import CaughtUp, MeasuringFinished, Step
from tests.support.records import Record, batch_of, replace
from tests.support.scripted_source import ScriptedSource

EARLIER = Record(RecordKind.OPENED, id=7, counters=(1, 1, 1, 1))
LATER = replace(EARLIER, id=8)
GONE = replace(EARLIER, kind=RecordKind.CLOSED)
SOCKET = Record(RecordKind.MEASURED, id=0, retransmits=0, workloads=(2, 0))
OTHER = replace(SOCKET, client_port=SOCKET.client_port + 1, workloads=(3, 0))
A, B = Workload("/a", cgroup_id=10), Workload("/b", cgroup_id=11)


@pytest.fixture
def traffic() -> Iterator[ScriptedSource]:
    made = ScriptedSource("conntrack")
    made.open()
    yield made
    made.free()


def test_events_come_first(traffic: ScriptedSource) -> None:
    traffic.hand(batch_of(GONE), CaughtUp(1.0))
    finished = MeasuringFinished(True)
    first, second, measured, last = after_traffic(iter([batch_of(SOCKET), finished]), traffic)
    assert isinstance(first, FlowBatch) and first.kind.tolist() == [RecordKind.CLOSED]
    assert second == CaughtUp(1.0) and last == finished
    assert isinstance(measured, FlowBatch) and measured.rows() == batch_of(SOCKET).rows()


@pytest.mark.parametrize("kind", [RecordKind.OPENED, RecordKind.DUMPED])
def test_a_flow_that_began_meanwhile_is_left_out(traffic: ScriptedSource, kind: RecordKind) -> None:
    traffic.hand(batch_of(GONE, replace(LATER, kind=kind)))
    *_, measured = after_traffic(iter([batch_of(SOCKET, OTHER)]), traffic)
    assert isinstance(measured, FlowBatch) and measured.rows() == batch_of(OTHER).rows()


def test_steps_without_records_wait_for_nothing(traffic: ScriptedSource) -> None:
    traffic.hand(CaughtUp(1.0))
    steps: list[Step] = [FlowBatch(0), MeasuringFinished(True)]
    assert list(after_traffic(iter(steps), traffic)) == steps


def test_a_socket_never_gives_its_container_to_the_connection_before(traffic: ScriptedSource) -> None:
    """The tuple went from a short connection, which no read has seen, to one of another container."""
    table = FlowTable(100)
    table.workloads.learn([(2, A), (3, B)])
    table.apply(batch_of(EARLIER), now=1.0, read_at=1.0)
    traffic.hand(batch_of(GONE, LATER))
    shown: list[tuple[Local, ...]] = []
    for step in after_traffic(iter([batch_of(replace(SOCKET, workloads=(3, 0)))]), traffic):
        assert isinstance(step, FlowBatch)
        changes = table.apply(step, now=2.0, read_at=2.0)
        shown += [table.workloads.local(table.columns, row) for row in changes.closed.tolist()]
    assert shown == [()]
