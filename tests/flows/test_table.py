"""The flow table: cases worth a name. The model test covers what they have in common."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowmap.flows.columns import IGNORED, Row
from flowmap.flows.filter import Filter
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.flows.table import FlowTable
from flowmap.model.address import Address
from tests.support.flow_table import Feed, bytes_of, started
from tests.support.records import Record, replace

OPENED, UPDATED, DUMPED, CLOSED = RecordKind.OPENED, RecordKind.UPDATED, RecordKind.DUMPED, RecordKind.CLOSED


A, B, C = (Record(DUMPED, id=flow_id) for flow_id in (1, 2, 3))


@pytest.mark.parametrize(
    ("events", "total"),
    [
        pytest.param([replace(A, kind=CLOSED, counters=bytes_of(900))], 900 + 50, id="the end of the old one"),
        pytest.param(
            [replace(A, kind=UPDATED, flags=Flag.ENDING), replace(A, kind=CLOSED, counters=bytes_of(900))],
            900 + 50,
            id="a change of the old one before its end",
        ),
        pytest.param(
            [replace(A, kind=CLOSED, counters=bytes_of(900)), replace(B, kind=OPENED)],
            900 + 50,
            id="the opening of the new one",
        ),
        pytest.param(
            [
                replace(A, kind=CLOSED, counters=bytes_of(900)),
                replace(C, kind=OPENED),
                replace(C, kind=CLOSED, counters=bytes_of(7)),
                replace(B, kind=OPENED),
            ],
            900 + 7 + 50,
            id="a whole life between the two",
        ),
        pytest.param(
            [
                replace(A, kind=CLOSED, counters=bytes_of(900)),
                replace(C, kind=OPENED),
                replace(C, kind=UPDATED),
                replace(C, kind=CLOSED, counters=bytes_of(7)),
                replace(B, kind=UPDATED, flags=Flag.REPLIED, counters=bytes_of(50)),
            ],
            900 + 7 + 50,
            id="a whole life and a change of the new one",
        ),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_read_ahead_of_events_counts_once(events: list[Record], total: int, at_once: bool) -> None:
    feed = started()
    feed(replace(A, kind=OPENED))
    feed(replace(A, counters=bytes_of(600)))
    feed.table.begin_read()
    feed(replace(B, counters=bytes_of(50)))
    for records in [events] if at_once else [[event] for event in events]:
        feed(*records)
    feed.end_read()
    assert feed.total[0] == total
    assert len(feed.table) == 1
    feed(replace(B, kind=CLOSED, counters=bytes_of(80)))
    assert (feed.total[0], len(feed.table), feed.table.open_flows) == (total + 30, 0, 0)


def test_a_reused_tuple_and_id_is_another_flow() -> None:
    feed = started()
    feed.catch_up()
    feed(replace(A, kind=OPENED))
    feed(replace(A, counters=bytes_of(100)))
    feed.catch_up()
    applied = feed(replace(A, kind=OPENED), free=False)
    (old,), (new,) = applied.closed.tolist(), applied.opened.tolist()
    assert old != new
    assert feed.table.columns.born_after[new] == feed.born_after
    feed.table.free(applied.closed)
    feed(replace(A, kind=CLOSED, counters=bytes_of(40)))
    assert feed.total[0] == 140
    assert feed.table.ended_unseen == 1


def test_a_lost_end_does_not_affect_the_next_flow() -> None:
    feed = Feed(FlowTable(10))
    feed.read(replace(A, counters=bytes_of(1000), flags=Flag.END_UNANNOUNCED))
    feed(replace(A, kind=OPENED))
    assert feed.total[0] == 0
    feed(replace(A, kind=CLOSED, counters=bytes_of(5)))
    assert feed.total[0] == 5


def test_a_late_opening_makes_the_flow_new() -> None:
    feed = Feed(FlowTable(10))
    feed.born_after = 42.0
    feed.table.begin_read()
    feed(replace(A, counters=bytes_of(30)))
    row, columns = feed.table.live()[0], feed.table.columns
    assert (columns.flags[row] & Row.PREEXISTING != 0, columns.born_after[row]) == (True, -math.inf)
    feed(replace(A, kind=OPENED))
    assert (columns.flags[row] & Row.PREEXISTING != 0, columns.born_after[row]) == (False, 42.0)
    feed.end_read()
    assert feed.total[0] == 30


def test_an_opening_after_the_first_reads_makes_the_flow_new() -> None:
    feed = Feed(FlowTable(10))
    for counters, total in ((30, 0), (50, 20)):
        feed.read(replace(A, counters=bytes_of(counters)), complete=False)
        assert feed.total[0] == total
    feed(replace(A, kind=OPENED))
    assert feed.total[0] == 50


def test_zeroed_counters_before_a_late_opening() -> None:
    feed = Feed(FlowTable(10))
    for n in (100, 150, 10):
        feed.read(replace(A, counters=bytes_of(n)), complete=False)
    feed(replace(A, kind=OPENED))
    feed(replace(A, counters=bytes_of(15)))
    assert feed.total.tolist() == [65, 130, 6, 13]


def test_a_read_of_the_next_flow_counts_once() -> None:
    feed = started(max_flows=10)
    feed(replace(A, kind=OPENED))
    feed(replace(A, counters=bytes_of(100)))
    feed.table.begin_read()
    feed(replace(A, counters=bytes_of(10)))  # the next flow's; of the end of the first nothing was read yet
    feed(replace(A, kind=CLOSED, counters=bytes_of(120)))
    assert feed.total[0] == 120
    feed(replace(A, kind=OPENED))
    feed.end_read()
    feed(replace(A, kind=CLOSED, counters=bytes_of(15)))
    assert feed.total[0] == 120 + 15


def test_zeroed_counters_count_when_the_read_ends() -> None:
    feed = started(max_flows=10)
    feed(replace(A, kind=OPENED))
    feed(replace(A, counters=bytes_of(100)))
    for complete, shown, total in ((True, 10, 110), (False, 30, 130), (True, 20, 150)):
        feed.read(replace(A, counters=bytes_of(shown)), complete=complete)
        assert feed.total[0] == total
    feed(replace(A, kind=CLOSED, counters=bytes_of(5)))  # and again; a final record waits for nothing
    assert feed.total[0] == 155


def test_refused_flows_keep_their_final_counters() -> None:
    feed = started(max_flows=2)
    ports = [Record(OPENED, client_port=port) for port in (1, 2, 3, 4)]
    assert feed(*ports).shed == 2
    big = (1 << 63) + 5
    done = [replace(record, kind=CLOSED, counters=(big, 1, 1, 1)) for record in ports]
    applied = feed(*done[2:])
    assert (applied.shed, applied.shed_totals) == (2, (2 * big, 2, 2, 2))
    assert not len(applied.closed)


def test_refused_ignored_flows_are_not_observed() -> None:
    feed = started(max_flows=1, admit=Filter(exclude=["tcp/9092"]))
    feed(Record(OPENED, server_port=443))
    applied = feed(Record(CLOSED, client_port=7, counters=(10, 20, 1, 2)))
    assert (applied.shed, applied.shed_totals, applied.shed_ignored) == (0, (0, 0, 0, 0), 30)


def test_a_flow_after_refusals_may_be_old() -> None:
    feed = started(max_flows=1)
    one, two, three = (Record(OPENED, client_port=port) for port in (1, 2, 3))
    feed(one)
    feed(two)
    feed(replace(one, kind=CLOSED))
    feed.catch_up()
    feed.read(replace(two, kind=DUMPED))
    assert feed.table.columns.born_after[feed.table.live()].tolist() == [-math.inf]
    feed(replace(two, kind=CLOSED))
    feed.catch_up()
    feed(replace(three, kind=DUMPED))
    assert feed.table.columns.born_after[feed.table.live()].tolist() == [feed.born_after], "all had room again"


def test_an_unannounced_end_is_bounded_by_reads() -> None:
    feed = Feed(FlowTable(10))
    feed.read(
        replace(A, counters=bytes_of(10), flags=Flag.END_UNANNOUNCED),
        Record(DUMPED, client_port=2, counters=bytes_of(1)),
    )
    seen_at = feed.now - 1.5
    feed.now += 50
    feed.catch_up()
    rows = feed.table.live()
    assert feed.table.alive_until(rows).tolist() == [seen_at, feed.now]
    feed(replace(A, kind=UPDATED))
    assert feed.table.alive_until(rows).tolist() == [feed.now - 1] * 2, "after an event its end will be announced"


@pytest.mark.parametrize(
    ("record", "shows_client"),
    [
        (replace(A, kind=DUMPED), True),
        (replace(A, kind=UPDATED), True),
        (replace(A, kind=DUMPED, flags=int(Flag.ENDING)), False),
        (replace(A, kind=CLOSED), False),
    ],
)
def test_growth_with_the_end_proves_no_client(record: Record, shows_client: bool) -> None:
    # Whoever got the address of a client that vanished answers the server's next segment with a reset.
    feed = started()
    feed(replace(A, kind=OPENED))
    feed(replace(A, counters=bytes_of(10)))
    read_at = feed.now - 0.5
    row = feed.table.live()
    feed(replace(record, counters=bytes_of(11)), free=False)
    assert feed.table.columns.active[row].tolist() == [read_at if shows_client else -math.inf]


@pytest.mark.parametrize(
    ("nat", "client", "service"), [("translated", "10.0.0.1", "10.8.0.1"), ("original", A.client, A.server)]
)
def test_nat_decides_the_endpoints(nat: str, client: str, service: str) -> None:
    feed = started(nat=nat)
    feed(replace(A, kind=OPENED, translated=("10.9.0.1", 1234, "10.8.0.1", 8080)))
    (row,) = feed.table.live().tolist()
    endpoints, columns = feed.table.endpoints, feed.table.columns
    assert endpoints.key(int(columns.client[row])) == EndpointKey(Address.parse(client), 0, 0, False)
    port = 8080 if nat == "translated" else 9092
    assert endpoints.key(int(columns.service[row])) == EndpointKey(Address.parse(service), port, 6, True)


def test_endpoints_are_swept_when_full() -> None:
    feed = started(max_flows=2)
    for n in range(9):
        record = Record(OPENED, client=f"10.0.0.{n}", server=f"10.1.0.{n}")
        (row,) = feed(record).opened.tolist()
        end = feed.table.endpoints.key(int(feed.table.columns.service[row]))
        assert str(end.address) == record.server
        feed(replace(record, kind=CLOSED))
    assert len(feed.table.pop_swept()) >= 4
    assert not len(feed.table.pop_swept())


def test_reused_rows_are_clean() -> None:
    feed = started(max_flows=1)
    first = replace(A, kind=OPENED, counters=bytes_of(99), retransmits=9, round_trip=7, flags=int(Flag.GUESSED))
    (row,) = feed(first).opened.tolist()
    columns = feed.table.columns
    columns.series[row], columns.state[row], columns.verdict[row] = 5, 1, 77
    feed(replace(first, kind=CLOSED, translated=("1.1.1.1", 1, "2.2.2.2", 2)))
    feed(Record(OPENED, client="2001:db8::9", id=8))
    assert columns.total(np.array([row])).tolist() == [[0, 0, 0, 0]]
    assert (columns.series[row], columns.state[row], columns.verdict[row]) == (-1, 0, -1)
    assert (columns.resent[row], columns.round_trip[row], columns.active[row]) == (0, 0, -math.inf)
    assert Row(int(columns.flags[row])) == Row.USED | Row.OPEN | Row.INDEXED
    feed(Record(DUMPED, client="2001:db8::9", id=8, counters=bytes_of(1), flags=int(Flag.ASSURED)))
    assert feed.total[0] == 99 + 1


def test_ignored_flows_are_tracked_but_not_open() -> None:
    feed = started(admit=Filter(include=["10.1.0.0/16:9092"]))
    feed(A, Record(DUMPED, server_port=443))
    assert feed.table.open_flows == 1
    assert sorted(feed.table.columns.series[feed.table.live()].tolist()) == [IGNORED, -1]
    feed.read()
    assert (feed.table.open_flows, len(feed.table)) == (0, 0)


def test_retransmits_grow_and_restart() -> None:
    feed = started()
    grown = [feed(replace(A, retransmits=n)).retransmits.tolist() for n in (3, 3, 5, 1)]
    assert grown == [[3], [], [2], [1]]


def test_records_of_one_flow_keep_their_order() -> None:
    feed = started()
    steps = [replace(A, kind=OPENED)] + [replace(A, kind=UPDATED, counters=bytes_of(n)) for n in range(0, 300, 10)]
    feed(*steps, replace(A, kind=CLOSED, counters=bytes_of(500)), replace(A, kind=OPENED))
    assert feed.total[0] == 500
    assert len(feed.table) == 1


def test_an_incomplete_read_closes_no_flow() -> None:
    feed = started()
    feed(replace(A, kind=OPENED))
    assert feed.read(complete=False) == []
    assert len(feed.read()) == 1
