"""Series by container and unit: flows move to them, and no byte or connection counts twice."""

from __future__ import annotations

import pytest

from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner
from flowmap.model.workload import Workload
from flowmap.sources.base import WorkloadsNamed
from tests.support.accounting import accounting_for
from tests.support.accounting_run import AccountingRun
from tests.support.records import Record, replace

OPENED = Record(RecordKind.OPENED, id=7, flags=int(Flag.PRESENT))
SOCKET = Record(RecordKind.MEASURED, id=0)
UNREAD, JOB = Workload(cgroup_id=9), Workload("/job.service", unit="job.service", cgroup_id=9)
PROCESS = JOB._replace(pid=5, command="java")
X = Owner("w", "ns", "x", "x")


@pytest.fixture
def run() -> AccountingRun:
    made = AccountingRun(accounting_for(labels=("deployment", "unit")))
    made(OPENED)
    made.answer(X)
    return made


def name(run: AccountingRun, number: int, workload: Workload) -> None:
    run(WorkloadsNamed(((number, workload),)))


def series(run: AccountingRun) -> dict[str, list[int]]:
    """Bytes sent, connections and open ones by the label text of deployments."""
    frozen = run.accounting.series_table.freeze()
    columns = (frozen.transmit_bytes.tolist(), frozen.connections.tolist(), frozen.open_connections.tolist())
    return {text.strip(): list(values) for text, values in zip(frozen.texts, zip(*columns, strict=True), strict=True)}


PLAIN, UNKNOWN, NAMED = (f'{{deployment="x",unit="{unit}"}}' for unit in ("", "unknown", "job.service"))


def test_later_bytes_are_of_the_workload(run: AccountingRun) -> None:
    run(replace(OPENED, kind=RecordKind.UPDATED, counters=(100, 0, 1, 0)))
    name(run, 2, UNREAD)
    run(replace(SOCKET, workloads=(2, 0)))
    run(replace(OPENED, kind=RecordKind.UPDATED, counters=(110, 0, 1, 0)))
    name(run, 2, JOB)
    run(replace(OPENED, kind=RecordKind.UPDATED, counters=(111, 0, 1, 0)))
    assert series(run) == {PLAIN: [100, 1, 0], UNKNOWN: [10, 0, 0], NAMED: [1, 0, 1]}
    name(run, 3, PROCESS)
    run(replace(SOCKET, workloads=(3, 0)))
    run(replace(OPENED, kind=RecordKind.CLOSED, counters=(115, 0, 1, 0)))
    assert series(run) == {PLAIN: [100, 1, 0], UNKNOWN: [10, 0, 0], NAMED: [5, 0, 0]}


def test_a_flow_with_a_known_workload_begins_there(run: AccountingRun) -> None:
    name(run, 2, JOB)
    run(replace(OPENED, id=8, client_port=8, workloads=(0, 2)))
    run.answer(X)
    assert series(run) == {PLAIN: [0, 1, 1], NAMED: [0, 1, 1]}


def test_without_the_labels_nothing_moves() -> None:
    run = AccountingRun(accounting_for(labels=("deployment",)))
    name(run, 2, JOB)
    run(OPENED)
    run.answer(X)
    run(replace(SOCKET, workloads=(2, 0)), replace(OPENED, kind=RecordKind.UPDATED, counters=(100, 0, 1, 0)))
    assert series(run) == {'{deployment="x"}': [100, 1, 1]}
