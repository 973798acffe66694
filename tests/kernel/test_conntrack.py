"""The conntrack source against a real kernel, real traffic and Debian's conntrack tool."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.model.address import Address
from flowmap.sources.base import CaughtUp, Lost, ReadFinished, ReadStarted, Step
from flowmap.sources.conntrack import check as conntrack_check
from flowmap.sources.conntrack.source import ConntrackSource
from tests.support import kernel_traffic as traffic
from tests.support.kernel_traffic import CLIENT, SERVER, SERVER6, Routed
from tests.support.netns import Namespace, namespace, needs_root

pytestmark = [
    pytest.mark.kernel,
    needs_root,
    pytest.mark.skipif(not (shutil.which("conntrack") and shutil.which("nft")), reason="needs conntrack and nft"),
]

IP_AND_TCP = 20 + 20
UDP_AND_IP = 8 + 20


@pytest.fixture(scope="module")
def net() -> Iterator[Routed]:
    with traffic.routed() as made:
        yield made


@pytest.fixture
def alone() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture
def source(net: Routed) -> Iterator[ConntrackSource]:
    net.router.run("conntrack", "-F")
    with opened(net.router) as made:
        yield made


class opened:  # noqa: N801 - used like a function
    """A source open in ``space``."""

    def __init__(self, space: Namespace, **options: int | bool | float) -> None:
        self._space, self._source = space, ConntrackSource(**{"receive_buffer": 8 << 20, **options})  # type: ignore[arg-type]

    def __enter__(self) -> ConntrackSource:
        with self._space.entered():
            self._source.open()
        return self._source

    def __exit__(self, *_: object) -> None:
        self._source.close()


def poll(source: ConntrackSource, space: Namespace) -> list[Step]:
    with space.entered():
        return list(source.poll())


def records(steps: list[Step], *kinds: RecordKind) -> FlowBatch:
    batch = FlowBatch.concatenate([step for step in steps if isinstance(step, FlowBatch)])
    return batch.take(np.isin(batch.kind, kinds)) if kinds else batch


def address(batch: FlowBatch, name: str, row: int = 0) -> str:
    return str(Address(int(getattr(batch, f"{name}_high")[row]), int(getattr(batch, f"{name}_low")[row])))


def tuples(batch: FlowBatch) -> dict[int, tuple[object, ...]]:
    """Rows by id in the form of ``traffic.Listed``: the reply tuple is the translated ends turned round."""
    return {
        int(batch.id[row]): (
            int(batch.protocol[row]),
            (address(batch, "client", row), int(batch.client_port[row]))
            + (address(batch, "server", row), int(batch.server_port[row])),
            (address(batch, "translated_server", row), int(batch.translated_server_port[row]))
            + (address(batch, "translated_client", row), int(batch.translated_client_port[row])),
            (int(batch.transmit_packets[row]), int(batch.receive_packets[row])),
            (int(batch.transmit_bytes[row]), int(batch.receive_bytes[row])),
        )
        for row in range(len(batch))
    }


def until_closed(source: ConntrackSource, space: Namespace, n: int, patience: float = 10) -> list[Step]:
    """Steps until ``n`` CLOSED records came."""
    steps: list[Step] = []
    end = time.monotonic() + patience
    while time.monotonic() < end:
        steps += poll(source, space)
        if len(records(steps, RecordKind.CLOSED)) >= n:
            return steps
        time.sleep(0.05)
    raise AssertionError(f"{len(records(steps, RecordKind.CLOSED))} of {n} flows closed")


def end_all(space: Namespace) -> None:
    """Take every entry out of the table now; the kernel sends the same DESTROY as when it times out."""
    space.run("conntrack", "-F")


def test_tcp_counts_payload_and_headers_exactly(net: Routed, source: ConntrackSource) -> None:
    steps = poll(source, net.router)
    with traffic.listen(net.server, SERVER, 8080) as listener:
        port = traffic.exchange(net.client, (SERVER, 8080), listener, 100_000, 5_000)
        (listed,) = traffic.listed(net.router)
    end_all(net.router)
    steps += until_closed(source, net.router, 1)
    opened_records, closed = records(steps, RecordKind.OPENED), records(steps, RecordKind.CLOSED)
    assert not opened_records.flags[0] & Flag.COUNTERS
    assert Flag(int(closed.flags[0])) == Flag.COUNTERS | Flag.REPLIED | Flag.ASSURED | Flag.ENDING
    assert (address(closed, "client"), int(closed.client_port[0])) == (CLIENT, port)
    assert (address(closed, "server"), int(closed.server_port[0])) == (SERVER, 8080)
    assert int(closed.id[0]) == int(opened_records.id[0]) == listed.id
    assert tuples(closed)[listed.id] == listed[:5]
    for total, packets, payload in zip(listed.bytes, listed.packets, (100_000, 5_000), strict=True):
        assert total == packets * IP_AND_TCP + traffic.SYN_OPTIONS + payload


@pytest.mark.parametrize("target, overhead", [(SERVER, UDP_AND_IP), (SERVER6, UDP_AND_IP + 20)])
def test_udp_bytes_are_payload_and_headers(net: Routed, source: ConntrackSource, target: str, overhead: int) -> None:
    poll(source, net.router)
    port = traffic.datagrams(net.client, net.server, target, 5353, (700, 30))
    end_all(net.router)
    closed = records(until_closed(source, net.router, 1), RecordKind.CLOSED)
    closed = closed.take(closed.protocol == 17)
    assert closed.client_port.tolist() == [port]
    assert (int(closed.transmit_bytes[0]), int(closed.receive_bytes[0])) == (700 + overhead, 30 + overhead)
    assert (int(closed.transmit_packets[0]), int(closed.receive_packets[0])) == (1, 1)


def test_a_full_read_is_what_the_conntrack_tool_lists(net: Routed, source: ConntrackSource) -> None:
    for target in (SERVER, SERVER6):
        with traffic.listen(net.server, target, 8080) as listener:
            traffic.exchange(net.client, (target, 8080), listener, 1000, 2000)
        traffic.datagrams(net.client, net.server, target, 5353, (10, 20))
    expected = {entry.id: entry[:5] for entry in traffic.listed(net.router)}
    steps = poll(source, net.router)
    seen = records(steps, RecordKind.DUMPED)
    seen = seen.take((seen.protocol == 6) | (seen.protocol == 17))
    assert tuples(seen) == expected
    assert len(expected) == 4
    assert [type(step) for step in steps if not isinstance(step, FlowBatch)] == [ReadStarted, ReadFinished, CaughtUp]
    assert ReadFinished(complete=True) in steps


def test_pings_with_different_identifiers_are_different_flows(net: Routed, source: ConntrackSource) -> None:
    poll(source, net.router)
    for identifier in (7, 8):
        traffic.ping(net.client, SERVER, identifier)
        traffic.ping(net.client, SERVER6, identifier)
    batch = records(poll(source, net.router), RecordKind.OPENED)
    v4, v6 = batch.take(batch.protocol == 1), batch.take(batch.protocol == 58)
    assert v4.client_port.tolist() == [7, 8]
    assert v4.server_port.tolist() == [0, 0]
    assert not (v4.flags & np.uint16(Flag.TRANSLATED)).any()
    assert {7, 8} <= set(v6.client_port.tolist())


def test_nat_keeps_both_tuples(net: Routed, source: ConntrackSource) -> None:
    net.router.nft(
        "table ip nat {\n"
        f"  chain in {{ type nat hook prerouting priority -100; ip daddr {traffic.ALIAS} tcp dport 80 "
        f"dnat to {SERVER}:8080; }}\n"
        f"  chain out {{ type nat hook postrouting priority 100; tcp dport 8080 snat to {traffic.PUBLIC}; }}\n"
        "}\n"
    )
    try:
        poll(source, net.router)
        with traffic.listen(net.server, SERVER, 8080) as listener:
            port = traffic.exchange(net.client, (traffic.ALIAS, 80), listener, 10, 10)
        listed = {entry.id: entry[:5] for entry in traffic.listed(net.router, "ipv4")}
        end_all(net.router)
        closed = records(until_closed(source, net.router, 1), RecordKind.CLOSED)
    finally:
        net.router.run("nft", "delete", "table", "ip", "nat")
    assert closed.flags[0] & Flag.TRANSLATED
    assert (address(closed, "client"), int(closed.client_port[0])) == (CLIENT, port)
    assert (address(closed, "server"), int(closed.server_port[0])) == (traffic.ALIAS, 80)
    assert address(closed, "translated_client") == traffic.PUBLIC
    assert (address(closed, "translated_server"), int(closed.translated_server_port[0])) == (SERVER, 8080)
    assert tuples(closed) == listed


def test_zones_tell_equal_tuples_apart(alone: Namespace) -> None:
    alone.track()
    alone.nft(
        "table inet zones {\n"
        "  chain out { type filter hook output priority -300; udp dport 7001 ct zone set 7; }\n"
        "  chain in { type filter hook prerouting priority -300; udp dport 7001 ct zone set 7; }\n"
        "}\n"
    )
    with opened(alone) as source, alone.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in (7001, 7002):
            sender.sendto(b"x", ("127.0.0.1", port))
        steps = list(source.poll())
    seen = records(steps, RecordKind.DUMPED)
    assert dict(zip(seen.server_port.tolist(), seen.zone.tolist(), strict=True)) == {7001: 7, 7002: 0}


def test_connections_shorter_than_a_poll_are_all_counted(net: Routed, source: ConntrackSource) -> None:
    poll(source, net.router)
    ports = []
    with traffic.listen(net.server, SERVER, 8080) as listener:
        for n in range(200):
            ports.append(traffic.exchange(net.client, (SERVER, 8080), listener, n, 2 * n))
    end_all(net.router)
    steps = until_closed(source, net.router, 200)
    closed = records(steps, RecordKind.CLOSED)
    assert sorted(closed.client_port.tolist()) == sorted(ports)
    assert (closed.flags & np.uint16(Flag.COUNTERS) != 0).all()
    assert sorted(records(steps, RecordKind.OPENED).client_port.tolist()) == sorted(ports)
    sent = dict(zip(closed.client_port.tolist(), closed.transmit_bytes.tolist(), strict=True))
    packets = dict(zip(closed.client_port.tolist(), closed.transmit_packets.tolist(), strict=True))
    expected = [packets[port] * IP_AND_TCP + traffic.SYN_OPTIONS + n for n, port in enumerate(ports)]
    assert [sent[port] for port in ports] == expected
    assert source.stats.overruns == 0


def make_flow(space: Namespace, port: int) -> None:
    with space.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", port))


def ends_told_of_an_older_entry(events: int) -> int:
    """CLOSED records for one entry made before the source was opened and deleted after its first read."""
    with namespace() as space:
        space.track()
        space.sysctl("net.netfilter.nf_conntrack_events", events)
        make_flow(space, 7001)
        with opened(space) as source:
            seen = records(poll(source, space), RecordKind.DUMPED)
            assert (seen.flags & np.uint16(Flag.END_UNANNOUNCED) != 0).tolist() == [True]
            assert ("events" in source.stats.notes) == (events == 2)
            end_all(space)
            return len(records(poll(source, space), RecordKind.CLOSED))


def test_entries_older_than_the_listener_end_unannounced() -> None:
    """With nf_conntrack_events=2, the default; the next full read notices, and until then they are SILENT.

    The kernel asks whether anything listens in any namespace, so another program's listener hides the effect.
    """
    for _ in range(20):
        if ends_told_of_an_older_entry(events=2) == 0:
            return
        time.sleep(0.5)
    pytest.skip("another program on this host listens to conntrack events")


def test_with_events_always_on_older_entries_are_announced() -> None:
    assert ends_told_of_an_older_entry(events=1) == 1


def test_entries_younger_than_the_listener_announce_their_end(alone: Namespace) -> None:
    alone.track()
    clock = [0.0]
    with opened(alone, resync=30.0, clock=lambda: clock[0]) as source:  # type: ignore[arg-type]
        poll(source, alone)
        make_flow(alone, 7001)
        assert len(records(poll(source, alone), RecordKind.OPENED)) == 1
        clock[0] = 31.0
        steps = poll(source, alone)
        assert ReadStarted("timer") in steps
        assert (records(steps, RecordKind.DUMPED).flags & np.uint16(Flag.END_UNANNOUNCED) == 0).all()
        assert source.stats.resyncs == {"start": 1, "timer": 1}


def test_without_events_no_flow_closes_between_reads(alone: Namespace) -> None:
    alone.track()
    alone.sysctl("net.netfilter.nf_conntrack_events", 0)
    with opened(alone) as source:
        assert not any(isinstance(step, CaughtUp) for step in poll(source, alone))
        make_flow(alone, 7001)
        assert poll(source, alone) == []
        assert "only full reads see" in source.stats.notes["events"]


def test_accounting_counts_only_later_entries(alone: Namespace) -> None:
    alone.track()
    assert alone.sysctl("net.netfilter.nf_conntrack_acct") == 0
    make_flow(alone, 7001)
    with opened(alone, enable_accounting=True) as source:
        assert alone.sysctl("net.netfilter.nf_conntrack_acct") == 1
        make_flow(alone, 7002)
        steps = poll(source, alone)
        seen = records(steps, RecordKind.DUMPED)
        counted = (seen.flags & np.uint16(Flag.COUNTERS)) != 0
        assert dict(zip(seen.server_port.tolist(), counted.tolist(), strict=True)) == {7001: False, 7002: True}
        assert "1 entries" in source.stats.notes["uncounted"]
        make_flow(alone, 7003)
        opened_record = records(poll(source, alone), RecordKind.OPENED)
        assert not opened_record.flags[0] & Flag.COUNTERS


def test_without_accounting_the_source_says_so(alone: Namespace) -> None:
    alone.track()
    with opened(alone) as source:
        assert "without bytes" in source.stats.notes["accounting"]
        assert alone.sysctl("net.netfilter.nf_conntrack_acct") == 0


def test_without_a_ct_rule_the_table_stays_empty(alone: Namespace) -> None:
    make_flow(alone, 7001)
    with opened(alone) as source, alone.entered():
        assert len(records(list(source.poll()))) == 0
        found = conntrack_check.findings(conntrack_check.read_settings(), conntrack_check.read_probe(1 << 20))
        assert "ct rule" in source.stats.notes["table"]
    assert {finding.name: finding.level for finding in found}["conntrack.table"] == "degraded"


def test_a_full_read_repairs_an_overrun(alone: Namespace) -> None:
    alone.track()
    with opened(alone, receive_buffer=64 << 10) as source:
        poll(source, alone)
        traffic.insert(alone, 3000)
        steps = poll(source, alone)
        assert Lost("overrun") in steps
        assert not any(isinstance(step, CaughtUp) for step in steps)
        assert len(records(steps, RecordKind.OPENED)) < 3000
        assert source.stats.overruns >= 1
        assert source.stats.lost == {}
        assert source.stats.receive_buffer == 128 << 10
        assert source.deadline() <= time.monotonic()
        steps = poll(source, alone)
        assert steps[0] == ReadStarted("overrun")
        assert isinstance(steps[-1], CaughtUp)
        seen = records(steps, RecordKind.DUMPED)
        assert len(seen) == int(alone.run("conntrack", "-C")) == 3000
        assert (seen.flags & np.uint16(Flag.END_UNANNOUNCED) == 0).all()


def test_the_granted_receive_buffer_is_told(alone: Namespace) -> None:
    with opened(alone, receive_buffer=32 << 20) as source:
        assert source.stats.receive_buffer == 32 << 20
        assert "receive_buffer" not in source.stats.notes


def test_a_missing_capability_is_an_error_with_a_remedy(alone: Namespace) -> None:
    code = (
        "from flowmap.sources.conntrack.source import ConntrackSource\n"
        "from flowmap.errors import SourceDenied\n"
        "try:\n"
        "    ConntrackSource().open()\n"
        "except SourceDenied as error:\n"
        "    print(error, '|', error.remedy)\n"
    )
    drop = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    output = alone.run(*drop, sys.executable, "-c", code)
    assert "not permitted" in output
    assert "CAP_NET_ADMIN" in output
