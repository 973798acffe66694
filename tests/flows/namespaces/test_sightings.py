"""A connection that two network namespaces show: which record counts, and what the other one adds."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.flows.namespaces.seconds import LATE_READS
from flowmap.flows.namespaces.sightings import Sightings
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.flows.records.changes import Changes
from flowmap.flows.table import FlowTable
from flowmap.model.address import Address
from flowmap.model.workload import Local, Workload
from tests.support.records import Record, batch_of, replace

CLIENT, SERVER, THIRD = 1, 2, 3
HERE = {0: "10.0.0.1", CLIENT: "10.0.0.2", SERVER: "10.0.0.3", THIRD: "10.0.0.4"}
OPEN, CLOSED, MEASURED = RecordKind.DUMPED, RecordKind.CLOSED, RecordKind.MEASURED
OF_CLIENT = Record(
    OPEN,
    client=HERE[CLIENT],
    server=HERE[SERVER],
    id=11,
    counters=(100, 50, 4, 2),
    flags=int(Flag.PRESENT),
    namespace=CLIENT,
    retransmits=3,
    workloads=(2, 0),
)
OF_SERVER = replace(OF_CLIENT, id=22, flags=0, namespace=SERVER, retransmits=40, workloads=(0, 3))
FORWARDED = replace(OF_CLIENT, kind=RecordKind.OPENED, id=9, flags=0, namespace=0, retransmits=None, workloads=(0, 0))


class Feed:
    """A table with the addresses of four namespaces, all of which were read once."""

    def __init__(self, places: dict[int, str] = HERE) -> None:
        self.table, self.now, self.counted = FlowTable(50), 100.0, [0, 0, 0, 0]
        self.sightings = Sightings(self.table)
        self.table.workloads.learn([(2, Workload("/client", cgroup_id=5)), (3, Workload("/server", cgroup_id=6))])
        for number, address in places.items():
            if number:
                self.table.open_namespace(number, is_new=True)
            self.sightings.places.set(number, [Address.parse(address), Address.parse("127.0.0.1")])
            self.read(number)

    def __call__(self, *records: Record) -> Changes:
        self.now += 1
        changes = self.sightings.apply(batch_of(*records), now=self.now, read_at=self.now - 0.5)
        self.add(changes)
        return changes

    def add(self, changes: Changes) -> None:
        for delta in changes.deltas.tolist():
            self.counted = [known + grown for known, grown in zip(self.counted, delta, strict=True)]
        self.table.free(changes.closed)

    def read(self, number: int, *records: Record) -> None:
        self.sightings.begin_read(number)
        if records:
            self(*records)
        self.now += 1
        for changes in self.sightings.end_read(complete=True, now=self.now, namespace=number):
            self.add(changes)

    def gone(self, number: int) -> None:
        self.now += 1
        for changes in self.sightings.close_namespace(number, self.now):
            self.add(changes)

    @property
    def rows(self) -> list[int]:
        return [int(row) for row in self.table.live()]


@pytest.mark.parametrize("order", [(OF_CLIENT, OF_SERVER), (OF_SERVER, OF_CLIENT)])
@pytest.mark.parametrize("kind", [OPEN, CLOSED])
def test_both_sockets_are_one_connection(order: tuple[Record, Record], kind: RecordKind) -> None:
    feed = Feed()
    for record in order:
        feed(replace(record, kind=kind))
    assert feed.counted == [100, 50, 4, 2]
    for record in order:  # both are told again, and closed
        feed(replace(record, kind=CLOSED)) if kind is OPEN else None
    assert (feed.counted, feed.rows) == ([100, 50, 4, 2], [])


def test_the_second_adds_its_workload_and_no_health() -> None:
    feed = Feed()
    feed(OF_CLIENT)
    feed(OF_SERVER)
    (row,) = feed.rows
    local = feed.table.workloads.local(feed.table.columns, row)
    assert local == (
        Local("client", Workload("/client", cgroup_id=5)),
        Local("server", Workload("/server", cgroup_id=6)),
    )
    assert (feed.table.columns.namespace[row], feed.table.columns.retransmits[row]) == (CLIENT, 3)


def test_one_that_guessed_the_client_wrongly_is_the_second_too() -> None:
    feed = Feed()
    feed(OF_CLIENT)
    feed(
        replace(
            OF_SERVER,
            client=OF_SERVER.server,
            client_port=OF_SERVER.server_port,
            server=OF_SERVER.client,
            server_port=OF_SERVER.client_port,
            counters=(50, 100, 2, 4),
            flags=int(Flag.PRESENT | Flag.GUESSED),
        )
    )
    assert feed.counted == [100, 50, 4, 2]


TO_SERVICE = replace(OF_CLIENT, server="10.96.0.1", server_port=443)


@pytest.mark.parametrize("order", [(TO_SERVICE, OF_SERVER), (OF_SERVER, TO_SERVICE)])
@pytest.mark.parametrize("kind", [OPEN, CLOSED])
def test_a_connection_through_a_service_is_one(order: tuple[Record, Record], kind: RecordKind) -> None:
    feed = Feed()
    for record in order:
        feed(replace(record, kind=kind))
    assert feed.counted == [100, 50, 4, 2]
    if kind is OPEN:
        (row,) = feed.rows
        sides = [local.side for local in feed.table.workloads.local(feed.table.columns, row)]
        assert sides == ["client", "server"]
        for record in order:
            feed(replace(record, kind=CLOSED))
    assert (feed.counted, feed.rows) == ([100, 50, 4, 2], [])


def test_a_server_of_another_port_of_the_client_is_not_that_of_a_service() -> None:
    feed = Feed()
    feed(TO_SERVICE)
    feed(replace(OF_SERVER, client_port=7))
    assert feed.counted == [200, 100, 8, 4]


def test_a_closed_flow_to_a_service_is_followed_for_two_reads() -> None:
    feed = Feed()
    feed(replace(TO_SERVICE, kind=CLOSED))
    feed.read(CLIENT)
    feed(replace(OF_SERVER, kind=CLOSED))
    assert feed.counted == [100, 50, 4, 2]
    feed(replace(TO_SERVICE, kind=CLOSED, id=12))
    for _ in range(3):
        feed.read(CLIENT)
    feed(replace(OF_SERVER, kind=CLOSED, id=23))
    assert feed.counted == [300, 150, 12, 6]


TWO_FLOWS = [
    pytest.param({}, {"client": "127.0.0.1", "server": "127.0.0.1"}, id="loopback of each"),
    pytest.param({}, {"client": "192.0.2.1"}, id="an address that no namespace has"),
    pytest.param({THIRD: HERE[CLIENT]}, {}, id="an address that several namespaces have"),
    pytest.param({}, {"flags": int(Flag.PRESENT)}, id="two clients"),
    pytest.param({}, {"server_port": 443}, id="another port"),
    pytest.param({}, {"protocol": 17}, id="not TCP"),
]


@pytest.mark.parametrize(("places", "changed"), TWO_FLOWS)
def test_what_is_not_certain_counts_in_both(places: dict[int, str], changed: dict[str, Any]) -> None:
    feed = Feed(HERE | places)
    both: dict[str, Any] = {name: value for name, value in changed.items() if name in ("client", "server", "protocol")}
    feed(replace(OF_CLIENT, **both))
    feed(replace(OF_SERVER, **changed))
    assert (feed.counted, len(feed.rows)) == ([200, 100, 8, 4], 2)


def test_isolated_networks_with_equal_addresses_are_never_joined() -> None:
    feed = Feed({0: "10.0.0.1", 1: "10.0.0.2", 2: "10.0.0.3", 3: "10.0.0.2", 4: "10.0.0.3"})
    for number in (1, 3):
        feed(replace(OF_CLIENT, namespace=number, id=number))
    assert (feed.counted, len(feed.rows)) == ([200, 100, 8, 4], 2)
    assert {str(address) for address in feed.sightings.places.shared} == {"10.0.0.2", "10.0.0.3"}


def test_a_tuple_that_is_used_again_is_another_connection() -> None:
    feed = Feed()
    for number in (0, 100):
        for record in (OF_SERVER, OF_CLIENT):
            feed(replace(record, id=record.id + number))
        for record in (OF_CLIENT, OF_SERVER):
            feed(replace(record, id=record.id + number, kind=CLOSED, counters=(200, 100, 8, 4)))
    assert (feed.counted[:2], feed.rows) == ([400, 200], [])


def test_an_open_connection_is_no_second_of_a_closed_one() -> None:
    feed = Feed()
    feed(replace(OF_SERVER, kind=CLOSED))
    feed(replace(OF_CLIENT, id=12, counters=(10, 5, 1, 1)))  # the next one on the tuple
    feed(replace(OF_CLIENT, kind=CLOSED))
    assert feed.counted == [110, 55, 5, 3]


@pytest.mark.parametrize(("reads", "times"), [(0, 1), (1, 1), (LATE_READS, 1), (LATE_READS + 1, 2)])
def test_reads_of_the_other_namespace_for_which_a_closed_flow_is_followed(reads: int, times: int) -> None:
    """No read shows a socket that its application holds after the connection has ended."""
    feed = Feed()
    feed(replace(OF_CLIENT, kind=CLOSED))
    for _ in range(reads):
        feed.read(SERVER)
    feed(replace(OF_SERVER, kind=CLOSED))
    assert feed.counted == [100 * times, 50 * times, 4 * times, 2 * times]


@pytest.mark.parametrize(("reads", "counted"), [(0, [100, 50, 4, 2]), (1, [400, 350, 8, 4])])
def test_after_a_read_only_counters_of_one_connection_follow(reads: int, counted: list[int]) -> None:
    feed = Feed()
    feed(replace(OF_CLIENT, kind=CLOSED))
    for _ in range(reads):
        feed.read(SERVER)
    feed(replace(OF_SERVER, kind=CLOSED, counters=(300, 300, 4, 2)))
    assert feed.counted == counted


def test_the_second_goes_on_counting_when_the_namespace_of_the_first_is_not_read_any_more() -> None:
    feed = Feed()
    feed(OF_CLIENT)
    feed(OF_SERVER)
    feed.gone(CLIENT)
    assert feed.rows == []
    feed.read(SERVER, replace(OF_SERVER, counters=(170, 60, 7, 3)))
    assert feed.counted == [170, 60, 7, 3]
    (row,) = feed.rows
    assert feed.table.columns.born_after[row] == float("-inf"), "it began before it was seen here"
    feed(replace(OF_SERVER, kind=CLOSED, counters=(175, 61, 8, 4)))
    assert (feed.counted, feed.rows) == ([175, 61, 8, 4], [])


def test_a_second_whose_flow_is_closed_does_not_count() -> None:
    feed = Feed()
    feed(OF_CLIENT)
    feed(OF_SERVER)
    feed(replace(OF_CLIENT, kind=CLOSED))
    feed.read(SERVER, replace(OF_SERVER, flags=int(Flag.ENDING)))
    feed(replace(OF_SERVER, kind=CLOSED))
    assert feed.counted == [100, 50, 4, 2]


# Where another source counts, and the sockets of all namespaces only measure.


@pytest.mark.parametrize("measured", [OF_CLIENT, OF_SERVER])
def test_a_measurement_belongs_to_the_flow_of_the_own_namespace(measured: Record) -> None:
    feed = Feed()
    feed(FORWARDED)
    feed(replace(measured, kind=MEASURED, id=0))
    (row,) = feed.rows
    (local,) = feed.table.workloads.local(feed.table.columns, row)
    assert local.workload.cgroup == ("/client" if measured is OF_CLIENT else "/server")
    assert feed.counted == [100, 50, 4, 2]


def test_the_health_of_a_flow_is_that_of_its_clients_socket() -> None:
    feed = Feed()
    feed(FORWARDED)
    for record in (OF_SERVER, OF_CLIENT, OF_SERVER):
        feed(replace(record, kind=MEASURED, id=0))
    (row,) = feed.rows
    assert feed.table.columns.retransmits[row] == 3


def test_a_measurement_of_an_address_in_several_namespaces_belongs_to_no_flow() -> None:
    feed = Feed(HERE | {THIRD: HERE[CLIENT]})
    feed(FORWARDED)
    feed(replace(OF_CLIENT, kind=MEASURED, id=0))
    (row,) = feed.rows
    assert feed.table.workloads.local(feed.table.columns, row) == ()
    assert feed.table.columns.active[row] == float("-inf"), "nor does it show that the client exists"


def test_the_server_behind_nat_is_found_by_its_endpoints_after_it() -> None:
    feed = Feed()
    address = "10.96.0.1"  # of a service, which is the server's after NAT
    translated = (FORWARDED.client, FORWARDED.client_port, FORWARDED.server, FORWARDED.server_port)
    feed(replace(FORWARDED, server=address, server_port=443, translated=translated))
    feed(replace(OF_CLIENT, kind=MEASURED, id=0, server=address, server_port=443))
    feed(replace(OF_SERVER, kind=MEASURED, id=0))
    (row,) = feed.rows
    sides = [local.side for local in feed.table.workloads.local(feed.table.columns, row)]
    assert (sides, feed.counted) == (["client", "server"], [100, 50, 4, 2])


def test_closed_flows_above_the_limit_wait_no_longer_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowmap.flows.namespaces.seconds.LIMIT", 1)
    feed = Feed()
    feed(replace(OF_CLIENT, kind=CLOSED))
    assert feed.sightings.forgotten == 0
    feed(replace(OF_CLIENT, kind=CLOSED, id=12, client_port=40_001))
    assert feed.sightings.forgotten == 1
