"""The capture source on real interfaces: every byte of real traffic, loss that is counted, links that come and go."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowmap.config import CollectConfig
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from flowmap.sources.capture import source as capture
from flowmap.sources.capture.check import findings
from flowmap.sources.capture.source import CaptureSource
from tests.support.host import deployment, host, total_of
from tests.support.netns import Namespace, connect, namespace, needs_root
from tests.support.waiting import until

pytestmark = needs_root


_OPEN: list[CaptureSource] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


class CaptureRun:
    """Polls a source in its namespace, and keeps the last record of each flow."""

    def __init__(self, inside: Namespace, **settings: Any) -> None:
        self.inside = inside
        self.source = CaptureSource(**settings)
        with inside.entered():
            self.source.open()
        _OPEN.append(self.source)
        self.flows: dict[int, dict[str, int]] = {}
        self.steps: list[object] = []

    def poll(self) -> None:
        with self.inside.entered():
            for step in self.source.poll():
                if not isinstance(step, FlowBatch):
                    self.steps.append(step)
                    continue
                columns = {name: column.tolist() for name, column in step.columns().items()}
                for n, number in enumerate(columns["id"]):
                    if not columns["flags"][n] & Flag.COUNTERS:  # a word of doubt
                        continue
                    self.flows[number] = {name: column[n] for name, column in columns.items()}

    def until(self, condition: Callable[[], object], what: str) -> None:
        def received() -> object:
            self.poll()
            return condition()

        until(received, what)

    def of(self, port: int) -> list[dict[str, int]]:
        """Flows to a service port."""
        return [flow for flow in self.flows.values() if flow["server_port"] == port]

    def total(self, port: int) -> tuple[int, int, int, int]:
        """Bytes sent and received, and packets."""
        names = ("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets")
        one, two, three, four = (sum(flow[name] for flow in self.of(port)) for name in names)
        return one, two, three, four


@contextlib.contextmanager
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """Two hosts, 10.9.0.1 and 10.9.0.2, also with IPv6."""
    with namespace() as left, namespace() as right:
        connect(left, right, "near", "far")
        left.address("near", "10.9.0.1/24", "2001:db8::1/64")
        right.address("far", "10.9.0.2/24", "2001:db8::2/64")
        yield left, right


COUNTERS = """table inet count {
  counter sent { }
  counter received { }
  chain out { type filter hook output priority 0; tcp dport 9000 counter name sent; }
  chain in { type filter hook input priority 0; tcp sport 9000 counter name received; }
}"""


def counted(inside: Namespace) -> tuple[int, int, int, int]:
    """What nftables counted, in the order of :meth:`CaptureRun.total`."""
    told = json.loads(inside.run("nft", "-j", "list", "counters"))["nftables"]
    counters = {entry["counter"]["name"]: entry["counter"] for entry in told if "counter" in entry}
    sent, received = counters["sent"], counters["received"]
    return sent["bytes"], received["bytes"], sent["packets"], received["packets"]


@contextlib.contextmanager
def echo(inside: Namespace, address: str) -> Iterator[None]:
    """A TCP server on port 9000 that sends everything back."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside.entered():
        listener = socket.create_server((address, 9000), family=family)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer:
                    while chunk := peer.recv(1 << 16):
                        peer.sendall(chunk)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def exchange(inside: Namespace, address: str, size: int) -> None:
    with inside.entered(), socket.create_connection((address, 9000), timeout=10) as peer:

        def send() -> None:
            peer.sendall(b"x" * size)
            peer.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        received = 0
        while chunk := peer.recv(1 << 16):
            received += len(chunk)
        thread.join()
    assert received == size


@pytest.mark.parametrize("address", ["10.9.0.2", "2001:db8::2"])
def test_every_byte_of_tcp(address: str) -> None:
    with pair() as (left, right), echo(right, address):
        left.nft(COUNTERS)
        run = CaptureRun(left, interfaces=["near"])
        for size in (1, 100_000, 1_000_000):
            exchange(left, address, size)
        run.until(lambda: run.total(9000) == counted(left), "all that nftables counted is there")
        flows = run.of(9000)
        assert len(flows) == 3
        assert all(flow["flags"] & Flag.ENDING and not flow["flags"] & Flag.GUESSED for flow in flows)
        assert not run.source.stats.lost
        assert run.steps[:2] == [ReadStarted("start"), ReadFinished(True)]
        assert run.source.facts.counts == "ip" and run.source.stats.up
        run.source.close()
        assert not run.source.stats.up and run.source.fileno() == -1


def test_fragments_and_datagrams() -> None:
    with pair() as (left, right):
        run = CaptureRun(left, interfaces=["near"])
        with right.entered():
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("10.9.0.2", 9000))
        with left.entered():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.bind(("10.9.0.1", 40_000))
        with server, client:
            for size in (10, 20_000, 60_000):
                client.sendto(bytes(size), ("10.9.0.2", 9000))
                assert len(server.recv(65_535)) == size
            # Each fragment has an IP header of 20 bytes and at most 1480 of what follows, the UDP header first.
            parts = [1, 14, 41]
            wanted = sum(size + 8 + 20 * number for size, number in zip((10, 20_000, 60_000), parts, strict=True))
            run.until(lambda: run.total(9000) == (wanted, 0, sum(parts), 0), "every fragment is of the flow")


def test_loopback_shows_every_packet_once() -> None:
    with namespace() as inside, echo(inside, "127.0.0.1"):
        inside.nft(COUNTERS.replace("hook output", "hook input"))
        run = CaptureRun(inside)
        exchange(inside, "127.0.0.1", 500_000)
        run.until(lambda: run.total(9000) == counted(inside), "each byte is there once")


def test_packets_on_two_interfaces_of_a_router_count_once() -> None:
    with pair() as (left, router), namespace() as right:
        connect(router, right, "beyond", "end")
        router.address("beyond", "10.8.0.1/24")
        right.address("end", "10.8.0.2/24")
        router.sysctl("net.ipv4.ip_forward", 1)
        left.run("ip", "route", "add", "10.8.0.0/24", "via", "10.9.0.2")
        right.run("ip", "route", "add", "default", "via", "10.8.0.1")
        left.nft(COUNTERS)
        run = CaptureRun(router)
        with echo(right, "10.8.0.2"):
            exchange(left, "10.8.0.2", 400_000)
            run.until(lambda: run.total(9000) == counted(left), "each byte is there once")
        assert run.source.stats.exceptional_packets["duplicate"] >= sum(counted(left)[2:])
        assert run.source.stats.exceptional_packets["not_ip"] >= 4, "ARP on both sides"


def test_a_link_that_goes_and_comes_back() -> None:
    with pair() as (left, right), namespace() as other:
        connect(left, other, "second", "peer")
        left.address("second", "10.7.0.1/24")
        other.address("peer", "10.7.0.2/24")
        left.nft(COUNTERS)
        run = CaptureRun(left, interfaces=["near", "second"])
        with echo(right, "10.9.0.2"):
            exchange(left, "10.9.0.2", 1000)
        left.run("ip", "link", "delete", "near")
        with echo(other, "10.7.0.2"):
            exchange(left, "10.7.0.2", 2000)
        run.until(lambda: run.total(9000) == counted(left), "packets of the other interface")
        run.until(lambda: "missing;" in run.source.stats.notes.get("interface near", ""), "it is missed")
        assert run.source.stats.interfaces == {"near": False, "second": True}
        connect(left, right, "near", "far")
        left.address("near", "10.9.0.1/24")
        right.address("far", "10.9.0.2/24")
        run.until(lambda: "was missing" in run.source.stats.notes.get("interface near", ""), "it is back")
        with echo(right, "10.9.0.2"):
            exchange(left, "10.9.0.2", 3000)
        run.until(lambda: run.total(9000) == counted(left), "and received again")
        left.run("ip", "link", "set", "second", "down")
        run.until(lambda: run.source.stats.notes.get("interface second") == "down", "the interface is reported as down")
        assert run.source.stats.interfaces == {"near": True, "second": False}


@pytest.mark.parametrize(
    ("interfaces", "away", "back"),
    [
        (["near"], ["near down"], ["near up"]),
        ([], ["near down"], ["near up"]),
        (["near"], ["near down", "near name away", "away up"], ["away down", "away name near", "near up"]),
    ],
)
def test_flows_close_while_their_interface_is_down(interfaces: list[str], away: list[str], back: list[str]) -> None:
    """While the interface was down, the flow may have ended and its address and port gone to another deployment."""
    with pair() as (left, right):
        run = CaptureRun(left, interfaces=interfaces)
        segment = struct.pack("!HHIIBBHHH", 40_000, 9000, 1, 1, 0x50, 0x10, 100, 0, 0)
        addresses = socket.inet_aton("10.9.0.2") + socket.inet_aton("10.9.0.1")
        frame = b"\xff" * 6 + b"\x02" * 6 + struct.pack("!H", 0x0800)
        frame += struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + addresses + segment
        with right.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("far", 0))
            sender.send(frame)
            run.until(lambda: run.of(9000), "it is seen")
            for change in away:
                left.run("ip", "link", "set", *change.split())
            run.until(lambda: run.of(9000)[0]["kind"] == RecordKind.CLOSED, "it is not taken to go on")
            for change in back:
                left.run("ip", "link", "set", *change.split())

            def seen_again() -> bool:
                with contextlib.suppress(OSError):  # the peer is not up yet
                    sender.send(frame)
                return len(run.of(9000)) == 2

            run.until(seen_again, "later packets are another flow")
        assert Flag.PICKED_UP in Flag(run.of(9000)[1]["flags"])


def test_frames_with_vlan_tags_from_a_raw_socket() -> None:
    with pair() as (left, right):
        run = CaptureRun(left, interfaces=["near"])
        address = struct.pack("!4s4s", socket.inet_aton("10.9.0.2"), socket.inet_aton("10.9.0.1"))
        datagram = struct.pack("!BBHHHBBH", 0x45, 0, 38, 0, 0, 64, 17, 0) + address
        datagram += struct.pack("!HHHH", 40_000, 9000, 18, 0) + bytes(10)
        tags = [b"", struct.pack("!HH", 0x8100, 5), struct.pack("!HHHH", 0x88A8, 7, 0x8100, 5)]
        with right.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("far", 0))
            for tag in tags:
                sender.send(b"\xff" * 6 + b"\x02" * 6 + tag + struct.pack("!H", 0x0800) + datagram)
        run.until(lambda: run.total(9000) == (114, 0, 3, 0), "tags make no difference")


def test_a_flood_of_frames_for_the_slow_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is limited, what is beyond is counted, and the common ones are not affected."""
    monkeypatch.setattr(capture, "GENERAL_RATE", 100)
    with pair() as (left, right):
        run = CaptureRun(left, interfaces=["near"])
        address = struct.pack("!4s4s", socket.inet_aton("10.9.0.2"), socket.inet_aton("10.9.0.1"))
        datagram = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + address
        datagram += struct.pack("!HHHH", 40_000, 9000, 8, 0)
        plain = b"\xff" * 6 + b"\x02" * 6 + struct.pack("!H", 0x0800) + datagram
        labelled = b"\xff" * 6 + b"\x02" * 6 + struct.pack("!HI", 0x8847, 16 << 12 | 0x100 | 64) + datagram
        with right.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("far", 0))
            for _ in range(500):
                sender.send(labelled)
                sender.send(plain)

        def none_is_missing() -> bool:
            packets = run.total(9000)[2]  # of the odd ones, the kernel's own (MLD) are some
            return packets > 500 and packets + run.source.stats.lost.get("decode_limit", 0) >= 1000

        run.until(none_is_missing, "each packet is counted or reported as lost")
        assert 0 < run.source.stats.lost["decode_limit"] < 500


def test_a_ring_that_is_too_small_loses_packets_and_says_so() -> None:
    with pair() as (left, right):
        run = CaptureRun(left, interfaces=["near"], ring=1 << 20)
        with right.entered():
            sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sink.bind(("10.9.0.2", 9000))
        with left.entered():
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sink, client:
            run.poll()
            for _ in range(20_000):
                client.sendto(b"x" * 100, ("10.9.0.2", 9000))
            run.poll()
            lost = run.source.stats.lost["ring_full"]
            assert lost > 1000
            run.until(lambda: run.total(9000)[2] + run.source.stats.lost["ring_full"] >= 20_000, "none is forgotten")
            before = run.total(9000)[2]
            client.sendto(b"x" * 100, ("10.9.0.2", 9000))
            run.until(lambda: run.total(9000)[2] == before + 1, "later packets are counted")
        assert run.source.stats.overruns >= 1


@pytest.mark.parametrize(
    ("settings", "received"),
    [
        ({"pcap": "port 9000"}, True),
        ({"pcap": "port 9001"}, False),
        ({"pcap": "ether broadcast"}, False),
        ({"include": ["tcp/9000"]}, True),
        ({"include": ["10.9.0.2/32:9000"]}, True),
        ({"include": ["tcp/9001", "10.9.0.2:9002"]}, False),
        ({"exclude": ["10.9.0.0/31"]}, False),
        ({"exclude": ["10.7.0.0/16", "2001:db8::/32"]}, True),
        ({"exclude": ["::/0"]}, True),
        ({"exclude": ["::ffff:10.9.0.0/127"]}, False),
        ({"include": ["::/0"]}, False),
    ],
)
def test_filters_in_the_kernel(settings: dict[str, Any], received: bool) -> None:
    with pair() as (left, right), echo(right, "10.9.0.2"):
        left.nft(COUNTERS)
        run = CaptureRun(left, interfaces=["near"], **settings)
        exchange(left, "10.9.0.2", 1000)
        if received:
            run.until(lambda: run.total(9000) == counted(left), "all of it is let through")
        else:
            deadline = time.monotonic() + 0.4
            while time.monotonic() < deadline:
                run.poll()
            assert not run.of(9000)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"include": ["tcp/9000"]}, {"include": ["tcp/9001"]}),
        ({}, {"exclude": ["10.9.0.0/16"]}),
        ({"include": ["tcp/9000"]}, {"include": []}),
    ],
)
def test_counted_flows_pass_later_filters(before: dict[str, list[str]], after: dict[str, list[str]]) -> None:
    with pair() as (left, right), echo(right, "10.9.0.2"):
        left.nft(COUNTERS)
        run = CaptureRun(left, interfaces=["near"], **before)
        exchange(left, "10.9.0.2", 1000)
        with left.entered():
            run.source.configure(CollectConfig.model_validate(after))
        exchange(left, "10.9.0.2", 2000)
        run.until(lambda: run.total(9000) == counted(left), "all of it is let through")


@pytest.mark.parametrize(
    ("interfaces", "pcap", "levels"),
    [
        (["near"], "", ["ok", "ok"]),
        ([], "tcp", ["ok", "ok", "ok"]),
        (["near", "missing"], "", ["ok", "degraded"]),
        (["missing"], "nonsense", ["ok", "failed", "failed"]),
    ],
)
def test_what_check_finds(interfaces: list[str], pcap: str, levels: list[str]) -> None:
    with pair() as (left, _), left.entered():
        found = findings(interfaces=interfaces, ring=1 << 20, pcap=pcap)
    assert [finding.level for finding in found] == levels
    assert all(finding.remedy for finding in found if finding.level != "ok")


def test_it_has_caught_up_with_what_was_sent_before() -> None:
    with pair() as (left, right), echo(right, "10.9.0.2"):
        run = CaptureRun(left, interfaces=["near"])
        run.poll()
        exchange(left, "10.9.0.2", 10)
        sent = time.monotonic()
        run.until(lambda: isinstance(run.steps[-1], CaughtUp) and run.steps[-1].at >= sent, "it is past that")
        assert len(run.of(9000)) == 1 and run.source.as_of >= sent


@pytest.mark.parametrize(
    ("interfaces", "seen"), [([], True), ([r"odd\xff"], True), (["uplink"], True), (["near"], False)]
)
def test_names_that_are_not_utf8_and_other_names(interfaces: list[str], seen: bool) -> None:
    with pair() as (left, right), echo(right, "10.9.0.2"):
        left.nft(COUNTERS)
        left.run("ip", "link", "property", "add", "dev", "near", "altname", "uplink")
        run = CaptureRun(left, interfaces=interfaces)
        left.run("ip", "link", "set", "near", "down")
        left.run("ip", "link", "set", "near", "name", os.fsdecode(b"odd\xff"))
        left.run("ip", "link", "set", os.fsdecode(b"odd\xff"), "up")
        up = dict.fromkeys(interfaces, seen)
        run.until(lambda: run.source.stats.interfaces == up, "the interface is looked at")
        exchange(left, "10.9.0.2", 1000)
        wanted = counted(left) if seen else (0, 0, 0, 0)
        run.until(lambda: run.total(9000) == wanted, "all that nftables counted is there")


def test_the_daemon_names_what_it_captures(tmp_path: Path) -> None:
    catalog = [deployment("ingest", "10.1.0.5", "10.1.0.9:9092")]
    with host(tmp_path, ["10.1.0.5/32", "10.1.0.9/32"], catalog) as here:
        collect = {"source": "capture", "capture": {"interfaces": ["lo"], "ring": "8MiB"}, "exclude": ["127.0.0.0/8"]}
        with here.daemon(collect=collect) as daemon, here.service("10.1.0.9", 9092):
            peer = here.connection("10.1.0.5", "10.1.0.9", 9092)
            with peer:
                name = "flowmap_deployment_transmit_bytes_total"

                def named() -> int:
                    peer.sendall(b"x")
                    peer.recv(2)
                    return total_of(daemon.samples(), name, deployment="ingest")

                until(named, "the deployment has traffic")
            samples = daemon.samples()
            assert total_of(samples, "flowmap_source_info", source="capture", bytes="ip") == 1
            assert daemon.stop() == 0


@pytest.mark.parametrize(("name", "raw"), [("n0", b"n0"), (r"odd\xff", b"odd\xff")])
def test_the_daemon_logs_interfaces_that_come_and_go(tmp_path: Path, name: str, raw: bytes) -> None:
    with host(tmp_path, ["10.1.0.5/32"], []) as here:
        collect = {"source": "capture", "capture": {"interfaces": ["lo", name], "ring": "1MiB"}}
        with here.daemon(collect=collect) as daemon:

            def logged(*lines: str) -> bool:
                logged = re.escape(json.dumps(name)[1:-1])
                return re.findall(f'capture: interface {logged}: ([^;"]*)', daemon.log.read_text()) == list(lines)

            def up() -> int:
                return total_of(daemon.samples(), "flowmap_source_interface_up", interface=name)

            until(lambda: logged("missing"), "it is missed from the start")
            assert not up()
            (source,) = daemon.json("/api/v1/status")["sources"]
            assert f"interface {name}" in source["notes"]
            here.inside.run("ip", "link", "add", os.fsdecode(raw), "up", "type", "veth", "peer", "name", "n1")
            until(lambda: logged("missing", "resolved"), "it has come")
            until(up, "the metric says so")
            here.inside.run("ip", "link", "delete", os.fsdecode(raw))
            until(lambda: logged("missing", "resolved", "missing"), "it is missed again")
            assert daemon.stop() == 0
