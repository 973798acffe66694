"""Workloads of flows: joined from records, never mixed up, bounded."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows import workloads
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.flows.workloads import Workloads
from flowmap.model.workload import CONFLICT, CONFLICTING, Local, Workload
from tests.support.flow_table import Feed, bytes_of, started
from tests.support.records import Record, replace

OPEN = Record(RecordKind.OPENED, id=7, counters=bytes_of(100))
SOCKET = Record(RecordKind.MEASURED, id=0, retransmits=0)
A, A_PROCESS = Workload("/a", cgroup_id=10), Workload("/a", pid=5, command="a", cgroup_id=10)
B, ELSEWHERE = Workload("/b", cgroup_id=11), Workload("/a", cgroup_id=10, namespace="pod")
UNTOLD = Workload(unknown="short")
NUMBERS = {2: A, 3: A_PROCESS, 4: B, 5: UNTOLD, 6: ELSEWHERE}


def feed_with_flow() -> tuple[Feed, int]:
    feed = started()
    feed.table.workloads.learn(NUMBERS.items())
    (row,) = feed(OPEN).opened.tolist()
    return feed, row


SEQUENCES = [
    # numbers in the records of one flow, the number that is kept
    ((0, 0), 0),
    ((2, 0), 2),
    ((2, 2), 2),
    ((2, 3), 3),  # the process was found
    ((2, 5), 2),  # a destroyed socket has no cgroup
    ((5, 2), 2),
    ((2, 4), CONFLICT),
    ((2, 6), CONFLICT),
    ((2, 4, 2), CONFLICT),
    ((2, 4, 5), CONFLICT),
    ((5, 5), 5),
]


@pytest.mark.parametrize(("numbers", "kept"), SEQUENCES)
def test_records_of_one_flow(numbers: tuple[int, ...], kept: int) -> None:
    feed, row = feed_with_flow()
    for number in numbers:
        feed(replace(SOCKET, workloads=(number, 0)))
        feed(replace(SOCKET, workloads=(0, number)))
    columns = feed.table.columns
    assert (columns.client_workload[row], columns.server_workload[row]) == (kept, kept)
    known = NUMBERS | {CONFLICT: CONFLICTING}
    expected = (Local("client", known[kept]), Local("server", known[kept])) if kept else ()
    assert feed.table.workloads.local(columns, row) == expected
    told = (known[kept].cgroup_id, known[kept].pid or 0) if kept else (0, 0)
    workloads, rows = feed.table.workloads, np.array([row])
    assert (workloads.client_cgroups(columns, rows)[0], workloads.client_pids(columns, rows)[0]) == told


def test_measured_workload_of_a_closed_socket_is_not_for_the_open_flow() -> None:
    feed, row = feed_with_flow()
    feed(replace(SOCKET, flags=Flag.ENDING, workloads=(2, 0)))
    assert feed.table.columns.client_workload[row] == 0


def test_the_next_flow_in_a_row_has_no_workload() -> None:
    feed, row = feed_with_flow()
    feed(replace(SOCKET, workloads=(2, 4)))
    feed(replace(OPEN, kind=RecordKind.CLOSED))
    (again,) = feed(replace(OPEN, id=8)).opened.tolist()
    assert again == row
    assert feed.table.workloads.local(feed.table.columns, row) == ()


def test_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "LIMIT", 4)
    feed, row = feed_with_flow()
    feed(replace(SOCKET, workloads=(2, 0)))
    table = feed.table.workloads
    table.tidy(feed.table.columns, feed.table.live)
    assert len(table) == 2  # that of the flow, and the conflict
    assert table.local(feed.table.columns, row) == (Local("client", A),)
    dropped = table.get(4)
    assert dropped is not None and "full" in dropped.unknown
    assert table.dropped == 0, "no flow had them"


def test_limit_of_used_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "LIMIT", 3)
    feed = started()
    feed.table.workloads.learn(NUMBERS.items())
    for port in range(2, 7):
        feed(replace(OPEN, id=port, client_port=port, workloads=(port, 0)))
    feed.table.workloads.tidy(feed.table.columns, feed.table.live)
    assert (len(feed.table.workloads), feed.table.workloads.dropped) == (3, 3)
    assert feed.table.workloads.get(6) == ELSEWHERE and feed.table.workloads.get(CONFLICT) == CONFLICTING


def test_numbers_without_a_workload() -> None:
    assert Workloads().get(0) is None


def test_rows_with_other_labels() -> None:
    feed, row = feed_with_flow()
    columns, table = feed.table.columns, feed.table.workloads
    relabelled: list[list[int]] = []

    def take() -> None:
        relabelled.append(table.take_relabelled(columns, feed.table.live).tolist())

    for number in (2, 3, 4):  # /a, its process, a conflict
        feed(replace(SOCKET, workloads=(number, 0)))
        take()
    table.learn([(4, B._replace(unit="b.service"))])
    take()
    feed(replace(OPEN, id=9, client_port=9, workloads=(0, 4)))
    take()
    table.learn([(4, B)])
    take()
    (other,) = (one for one in feed.table.live().tolist() if one != row)
    assert relabelled == [[], [], [row], [], [other], [other]]


def test_rows_whose_client_is_better_known() -> None:
    feed, row = feed_with_flow()
    told: list[list[int]] = []
    for pair in ((0, 2), (2, 2), (2, 0), (3, 2), (5, 2), (4, 2)):  # the server's, /a, twice, its process, a conflict
        feed(replace(SOCKET, workloads=pair))
        told.append(feed.table.workloads.take_told().tolist())
    assert told == [[], [row], [], [row], [row], [row]]
