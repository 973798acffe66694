"""Connections between real network namespaces: each byte counts once, in whichever namespace it is seen.

The reader's own namespace is a router between ``client`` and ``server``, which are read through a real opener. The
truth is what the programs sent, and for IP bytes the counters of nftables in the router.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowmap.attribute.settings import AttributionSettings
from flowmap.config.models import CollectConfig
from flowmap.engine.commands import Decide, TakeStep
from flowmap.model.deployment import State
from flowmap.model.views import FlowFilter, FlowView
from flowmap.query.live import LiveQueries
from flowmap.sources.choice import choose_source
from tests.support.accounting import Auditor, accounting_for
from tests.support.netns import Namespace, namespace, needs_root
from tests.support.opener import named_namespace, opener

pytestmark = [
    pytest.mark.kernel,
    needs_root,
    pytest.mark.skipif(not shutil.which("nft"), reason="needs nft"),
]

SERVE = """
import socket, sys, threading
def answer(peer, size):
    while peer.recv(1 << 16): pass
    peer.sendall(b"y" * size)
    peer.close()
listener = socket.create_server((sys.argv[1], 9092), backlog=500)
print("ready", flush=True)
while True:
    peer, _ = listener.accept()
    threading.Thread(target=answer, args=(peer, int(sys.argv[2]))).start()
"""
"""Reads each connection to its end and answers with so many bytes."""

CALL = """
import socket, sys
host, port, own, size, count, held = sys.argv[1], *map(int, sys.argv[2:])
peers = []
for number in range(count + held):
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    peer.bind(("", own + number if own else 0))
    peer.connect((host, port))
    peer.sendall(b"x" * size)
    if number < count:
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(1 << 16): pass
        peer.close()
    else:
        peers.append(peer)
print("sent", flush=True)
sys.stdin.readline()
for peer in peers:
    peer.shutdown(socket.SHUT_WR)
    while peer.recv(1 << 16): pass
    peer.close()
"""
"""Makes ``count`` connections one after the other, and ``held`` more, which stay open until a line is read."""

HOLD = """
import socket, sys
peer = socket.create_connection((sys.argv[1], 9092))
peer.sendall(b"x" * 1000)
peer.shutdown(socket.SHUT_WR)
while peer.recv(1 << 16): pass
print("sent", flush=True)
sys.stdin.readline()
"""
"""Makes a connection that is over, and holds its socket until a line is read."""

ABANDON = """
import socket, sys
peer = socket.create_connection((sys.argv[1], 9092))
peer.sendall(b"x" * 1000)
peer.recv(700, socket.MSG_WAITALL)
peer.close()
print("sent", flush=True)
sys.stdin.readline()
"""
"""Closes its connection when it has read 700 bytes."""

SEND_LATE = """
import socket, sys
listener = socket.create_server((sys.argv[1], 9092))
print("ready", flush=True)
peer, _ = listener.accept()
peer.recv(1000, socket.MSG_WAITALL)
peer.sendall(b"y" * 700)
while peer.recv(1 << 16): pass
peer.sendall(b"y" * 50)
try:
    while True: peer.sendall(b"y")
except OSError: peer.close()
print("sent", flush=True)
sys.stdin.readline()
"""
"""Answers with 700 bytes, and sends more when the client has closed: the client's kernel resets the connection."""

TRUTH = """table inet truth {
  counter sent { }
  counter received { }
  chain forward {
    type filter hook forward priority 100;
    tcp dport 9092 counter name sent
    tcp sport 9092 counter name received
  }
}"""

CLIENT, SERVER = "10.66.1.2", "10.66.2.2"


@contextlib.contextmanager
def program(name: str, code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a namespace, after its first line."""
    command = ["ip", "netns", "exec", name, sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() in ("ready\n", "sent\n")
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> None:
    """Let it close its open connections and end."""
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def attach(router: Namespace, device: str, name: str, gateway: str, address: str) -> None:
    """Connect a namespace to the router; both addresses are in one network."""
    router.run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name)
    router.address(device, f"{gateway}/24")
    for arguments in (
        ("address", "add", f"{address}/24", "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        ("route", "add", "default", "via", gateway),
    ):
        subprocess.run(["ip", "-n", name, *arguments], check=True)


class Pods:
    """A router and two namespaces beside it."""

    def __init__(self, router: Namespace, client: str, server: str) -> None:
        self.router, self.client, self.server = router, client, server


@pytest.fixture
def pods() -> Iterator[Pods]:
    with namespace() as router, named_namespace() as client, named_namespace() as server:
        attach(router, "client", client, "10.66.1.1", CLIENT)
        attach(router, "server", server, "10.66.2.1", SERVER)
        router.sysctl("net.ipv4.ip_forward", 1)
        yield Pods(router, client, server)


class Reader:
    """The source of a daemon in the router, and the accounting of what it reads."""

    def __init__(self, router: Namespace, opener_socket: Path, names: list[str], source: str) -> None:
        settings = {
            "source": source,
            "namespaces": names,
            "opener": str(opener_socket),
            "sockets": {"interval": "1s"},
            "conntrack": {"resync": "1s"},
        }
        self._router = router
        with router.entered():
            self.source = choose_source(CollectConfig.model_validate(settings)).source
            self.source.open()
        attribution = AttributionSettings(namespaces=("ns",), semantics="connection")
        self.accounting = accounting_for(
            attribution, max_flows=2000, announces_births=self.source.facts.announces_births
        )
        self.auditor = Auditor(self.accounting)
        self.queries = LiveQueries(self.accounting, source=self.source.facts.name, epoch=0.0)
        self.reads = 0
        self.seen: list[FlowView] = []
        self.accounting.on_leaving(lambda rows: self.seen.extend(self.queries.flow(row) for row in rows.tolist()))

    def poll(self) -> None:
        with self._router.entered():  # as the thread of a daemon there
            at = time.monotonic()
            for step in self.source.poll():
                self.accounting.apply(TakeStep(step, time.monotonic(), at))
                at = time.monotonic()
        self.accounting.apply(Decide(time.monotonic()))
        self.auditor.check()

    def until(self, condition: Callable[[], bool], *, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.accounting.observed, self.source.stats, self.flows())
            self.poll()
            time.sleep(0.02)

    def settle(self) -> None:
        """Read every namespace twice more."""
        began = time.monotonic()
        self.until(lambda: time.monotonic() > began + 4)

    def flows(self) -> list[FlowView]:
        return list(self.queries.flows(FlowFilter(), 1000, None).flows)

    def ready(self, namespaces: int) -> None:
        """Wait for the first reads of all namespaces."""
        known = self.accounting.table.namespaces
        self.until(lambda: len(known) == namespaces)
        self.settle()


@contextlib.contextmanager
def reading(pods: Pods, directory: Path, names: list[str], source: str) -> Iterator[Reader]:
    with opener(directory) as process:
        one = Reader(pods.router, process.socket, names, source)
        try:
            one.ready(len(names))
            yield one
        finally:
            one.source.close()


def counted_by_nftables(router: Namespace) -> list[int]:
    told: list[dict[str, Any]] = json.loads(router.run("nft", "-j", "list", "counters"))["nftables"]
    counters = {entry["counter"]["name"]: entry["counter"]["bytes"] for entry in told if "counter" in entry}
    return [counters["sent"], counters["received"]]


DNAT = """table ip nat {
  chain pre { type nat hook prerouting priority -100; ip daddr 10.96.0.1 tcp dport 80 dnat to 10.66.2.2:9092; }
}"""


@pytest.mark.parametrize(
    "called", [pytest.param((SERVER, 9092), id="direct"), pytest.param(("10.96.0.1", 80), id="through a service")]
)
def test_a_connection_between_two_namespaces_is_one(pods: Pods, tmp_path: Path, called: tuple[str, int]) -> None:
    pods.router.nft(DNAT)
    with (
        reading(pods, tmp_path, [pods.client, pods.server], "sockets") as one,
        program(pods.server, SERVE, SERVER, 700),
        program(pods.client, CALL, *called, 0, 1000, 20, 3) as caller,
    ):
        one.until(lambda: one.accounting.observed[0] >= 23_000)
        one.settle()
        flows = [flow for flow in one.flows() if flow.ended_at is None]
        assert len(flows) == 3
        for flow in flows:
            assert [local.workload.namespace for local in flow.local] == [pods.client, pods.server]
        finish(caller)
        one.until(lambda: one.accounting.observed[1] >= 23 * 700)
        one.settle()
        assert one.accounting.observed == [23_000, 23 * 700]
        assert one.accounting.table.open_flows == 0


def test_a_connection_of_the_host_with_a_namespace_is_one(pods: Pods, tmp_path: Path) -> None:
    with reading(pods, tmp_path, [pods.client, pods.server], "sockets") as one:
        with pods.router.entered():
            host = subprocess.Popen(
                [sys.executable, "-c", SERVE, "10.66.1.1", "300"], stdout=subprocess.PIPE, text=True
            )
        try:
            assert host.stdout is not None
            host.stdout.readline()
            with program(pods.client, CALL, "10.66.1.1", 9092, 0, 5000, 10, 1) as caller:
                one.until(lambda: one.accounting.observed[0] >= 55_000)
                finish(caller)
                one.until(lambda: one.accounting.observed[1] >= 3300)
                one.settle()
                assert one.accounting.observed == [55_000, 3300]
        finally:
            host.kill()
            host.communicate()


def test_a_socket_that_is_held_after_the_end(pods: Pods, tmp_path: Path) -> None:
    """No full read shows it. The server's socket counts when it is closed, the client's much later."""
    with (
        reading(pods, tmp_path, [pods.client, pods.server], "sockets") as one,
        program(pods.server, SERVE, SERVER, 700),
        program(pods.client, HOLD, SERVER) as client,
    ):
        one.settle()
        assert one.accounting.observed == [1000, 700]
        finish(client)
        one.settle()
        assert one.accounting.observed == [1000, 700]


def test_a_connection_that_is_closed_while_the_server_sends(pods: Pods, tmp_path: Path) -> None:
    """No TIME_WAIT socket is left of the side that closed first, as of one that closed second and counted the FIN."""
    with (
        reading(pods, tmp_path, [pods.client, pods.server], "sockets") as one,
        program(pods.server, SEND_LATE, SERVER) as server,
        program(pods.client, ABANDON, SERVER) as client,
    ):
        assert server.stdout is not None and server.stdout.readline() == "sent\n"
        one.settle()
        assert one.accounting.observed == [1000, 700]
        finish(client)
        finish(server)


def test_equal_tuples_in_isolated_networks_are_two_connections(pods: Pods, tmp_path: Path) -> None:
    with (
        namespace() as other_router,
        named_namespace() as client,
        named_namespace() as server,
    ):
        attach(other_router, "client", client, "10.66.1.1", CLIENT)
        attach(other_router, "server", server, "10.66.2.1", SERVER)
        other_router.sysctl("net.ipv4.ip_forward", 1)
        names = [pods.client, client]  # only the clients: the servers are elsewhere, as far as is known
        with (
            reading(pods, tmp_path, names, "sockets") as one,
            program(pods.server, SERVE, SERVER, 0),
            program(server, SERVE, SERVER, 0),
            program(pods.client, CALL, SERVER, 9092, 5000, 1000, 0, 1) as first,
            program(client, CALL, SERVER, 9092, 5000, 7000, 0, 1) as second,
        ):
            one.until(lambda: one.accounting.observed[0] >= 8000)
            one.settle()
            flows = one.flows()
            assert sorted(flow.transmit_bytes for flow in flows) == [1000, 7000]
            assert {str(flow.namespace) for flow in flows} == {pods.client, client}
            assert {flow.state for flow in flows} == {State.UNKNOWN}, "whose address it is cannot be told"
            finish(first)
            finish(second)
            one.settle()
            assert one.accounting.observed == [8000, 0]


def test_loopback_of_two_namespaces_is_never_joined(pods: Pods, tmp_path: Path) -> None:
    with (
        reading(pods, tmp_path, [pods.client, pods.server], "sockets") as one,
        program(pods.client, SERVE, "127.0.0.1", 0),
        program(pods.server, SERVE, "127.0.0.1", 0),
        program(pods.client, CALL, "127.0.0.1", 9092, 5000, 300, 5, 1) as first,
        program(pods.server, CALL, "127.0.0.1", 9092, 5000, 40, 5, 1) as second,
    ):
        one.until(lambda: one.accounting.observed[0] >= 6 * 340)
        finish(first)
        finish(second)
        one.settle()
        assert one.accounting.observed == [6 * 340, 0]


MASQUERADE = """table ip nat {
  chain post { type nat hook postrouting priority 100; ip saddr 10.66.1.2 tcp dport 9092 masquerade; }
}"""


@pytest.mark.parametrize(
    ("rules", "called"),
    [
        pytest.param("", (SERVER, 9092), id="forwarded"),
        pytest.param(DNAT, ("10.96.0.1", 80), id="to the address of a service"),
        pytest.param(MASQUERADE, (SERVER, 9092), id="masqueraded"),
    ],
)
def test_the_hosts_conntrack_counts_and_the_sockets_of_others_measure(
    pods: Pods, tmp_path: Path, rules: str, called: tuple[str, int]
) -> None:
    pods.router.track()
    pods.router.sysctl("net.netfilter.nf_conntrack_acct", 1)
    pods.router.nft(TRUTH)
    if rules:
        pods.router.nft(rules)
    for name in (pods.client, pods.server):  # the namespaces track connections, too
        subprocess.run(
            ["ip", "netns", "exec", name, "nft", "add table inet t; add chain inet t i { type filter hook input "
             "priority 0; }; add rule inet t i ct state established accept"],
            check=True,
        )  # fmt: skip
    with (
        reading(pods, tmp_path, [pods.client, pods.server], "auto") as one,
        program(pods.server, SERVE, SERVER, 700),
        program(pods.client, CALL, *called, 0, 3000, 20, 2) as caller,
    ):
        assert one.source.facts.name == "conntrack"
        one.settle()
        mine = [flow for flow in one.flows() if flow.ended_at is None and str(flow.client.address) == CLIENT]
        assert len(mine) == 2
        for flow in mine:
            assert [local.workload.namespace for local in flow.local] == [pods.client, pods.server]
        finish(caller)
        pods.router.run("conntrack", "-F") if shutil.which("conntrack") else None
        one.settle()
        assert one.accounting.observed == counted_by_nftables(pods.router)
