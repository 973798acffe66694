"""The daemon on real traffic: conntrack in a namespace, a signed control plane, scraped by a real Prometheus."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import SAMPLES, WORKSPACE, Counted, Daemon, Host, deployment, host, total_of
from tests.support.netns import connect, namespace, needs_root
from tests.support.sandbox import running_sandbox
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

SERVICE, PORT = "10.77.1.10", 9092
ORDERS, ARCHIVE, STRANGER = "10.77.0.11", "10.77.0.12", "10.77.0.99"
END = f"{SERVICE}:{PORT}"
CLIENTS = (ORDERS, ARCHIVE, STRANGER)
NAMES = {ORDERS: "orders", ARCHIVE: "archive"}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Host]:
    addresses = [f"{address}/32" for address in (SERVICE, ORDERS, ARCHIVE, STRANGER)]
    catalog = [deployment("orders", ORDERS, END), deployment("archive", ARCHIVE, END)]
    with host(tmp_path, addresses, catalog) as made, made.service(SERVICE, PORT):
        yield made


def of(samples: SAMPLES, what: str, name: str) -> int:
    return total_of(samples, f"flowmap_deployment_{what}_total", deployment=name)


def settled(daemon: Daemon, sent: int) -> bool:
    """Whether at least ``sent`` bytes were seen, and every flow is decided and gone from the kernel's table."""
    if total_of(daemon.samples(), "flowmap_observed_transmit_bytes_total") < sent:
        return False
    return not daemon.json("/api/v1/flows?limit=1")["flows"]


def test_every_byte_of_short_connections_goes_to_its_deployment(machine: Host) -> None:
    with machine.daemon() as daemon:
        counted = Counted(machine, SERVICE, CLIENTS)
        for n in range(200):
            machine.exchange((ORDERS, ARCHIVE)[n % 2], SERVICE, PORT, 100 + n)
            if n % 40 == 0:
                daemon.samples()
        for n in range(20):
            machine.exchange(STRANGER, SERVICE, PORT, 1000 + n)
        truth = counted.by_client()
        sent = sum(each["transmit_bytes"] for each in truth.values())
        until(lambda: settled(daemon, sent), "every flow ended and was decided")
        until(lambda: total_of(daemon.samples(), "flowmap_pending_flows") == 0, "the page says so, too")
        samples = daemon.samples()
        for address, name in NAMES.items():
            assert of(samples, "connections", name) == 100
            for what in truth[address]:
                assert of(samples, what, name) == truth[address][what], (name, what)
        unknown = "flowmap_unattributed_{}_bytes_total"
        for way in ("transmit", "receive"):
            found = total_of(samples, unknown.format(way), reason="unknown")
            assert found == truth[STRANGER][f"{way}_bytes"]
        # Payload and headers: at least 52 bytes of header (IP, TCP with time stamps) a packet.
        sent = sum(100 + n for n in range(0, 200, 2))
        assert of(samples, "transmit_bytes", "orders") >= sent + 40 * of(samples, "transmit_packets", "orders")
        assert daemon.stop() == 0


def test_an_open_connection_is_named_and_counted_while_it_lives(machine: Host) -> None:
    with machine.daemon() as daemon, machine.connection(ORDERS, SERVICE, PORT) as peer:
        port = peer.getsockname()[1]
        query = f"/api/v1/attribution?srcIp={ORDERS}&srcPort={port}&dstIp={SERVICE}&dstPort={PORT}"
        peer.sendall(b"x" * 5000)
        until(lambda: daemon.json(query)["state"] == "attributed", "the connection has a name")
        until(lambda: of(daemon.samples(), "transmit_bytes", "orders") >= 5000, "its bytes are counted")
        before = of(daemon.samples(), "transmit_bytes", "orders")
        peer.sendall(b"x" * 7000)
        until(lambda: of(daemon.samples(), "transmit_bytes", "orders") >= before + 7000, "the new bytes too")
        answer = daemon.json(query)
        assert [one["name"] for one in answer["deployments"]] == ["orders"]
        shapes = {one["shape"] for one in answer["evidence"]}
        assert {"client"} < shapes <= {"client", "sink", "source", "host"}  # as far as they were asked by then
        assert total_of(daemon.samples(), "flowmap_deployment_open_connections", deployment="orders") == 1
        listing = daemon.json("/api/v1/flows?deployment=orders")["flows"]
        assert [flow["client"] for flow in listing] == [{"ip": ORDERS, "port": port}]


def test_an_older_connection_counts_from_the_daemons_start(machine: Host) -> None:
    with machine.connection(ORDERS, SERVICE, PORT) as peer:
        peer.sendall(b"x" * 100_000)
        time.sleep(0.5)
        with machine.daemon() as daemon:

            def send() -> int:
                peer.sendall(b"y" * 1000)
                peer.recv(1 << 20)
                time.sleep(0.3)
                return of(daemon.samples(), "connections", "orders")

            until(send, "the old connection is named once it is seen to live")
            until(lambda: send() and of(daemon.samples(), "transmit_bytes", "orders"), "and counted from then on")
            assert of(daemon.samples(), "transmit_bytes", "orders") < 90_000


def test_behind_nat_the_translated_end_is_asked_about(tmp_path: Path) -> None:
    with host(tmp_path, [], [deployment("orders", "10.78.0.1", "10.78.0.2:9092")]) as machine, namespace() as other:
        connect(machine.inside, other, "left", "right")
        machine.inside.address("left", "10.78.0.1/24")
        other.address("right", "10.78.0.2/24")
        machine.inside.nft(
            "table ip shift { chain out { type nat hook output priority -100; "
            "ip daddr 10.78.9.9 tcp dport 80 dnat to 10.78.0.2:9092; }; }\n"
        )
        machine.inside.run("ip", "route", "add", "10.78.9.9/32", "dev", "left")
        beyond = Host(other, machine.sandbox, tmp_path)
        with beyond.service("10.78.0.2", 9092), machine.daemon() as daemon:
            with machine.connection("10.78.0.1", "10.78.9.9", 80) as peer:
                peer.sendall(b"x" * 3000)
                until(lambda: of(daemon.samples(), "transmit_bytes", "orders") >= 3000, "named by the real end")
                flow = daemon.json("/api/v1/flows")["flows"][0]
                assert flow["server"] == {"ip": "10.78.9.9", "port": 80}
                assert flow["translated"]["server"] == {"ip": "10.78.0.2", "port": 9092}
                by_service = daemon.json("/api/v1/attribution?srcIp=10.78.0.1&dstIp=10.78.9.9&dstPort=80")
                assert by_service["state"] == "attributed"
            samples = daemon.samples()
            assert total_of(samples, "flowmap_deployment_transmit_bytes_total", peer="10.78.0.2:9092") >= 3000


def test_a_masquerading_router_does_not_own_its_clients_traffic(tmp_path: Path) -> None:
    # The router's own job has the address that all clients share beyond it.
    catalog = [deployment("orders", "10.79.0.1", "10.78.0.2:9092"), deployment("router", "10.78.0.1", "10.78.0.2:9092")]
    with host(tmp_path, [], catalog) as router, namespace() as inside, namespace() as beyond:
        connect(router.inside, beyond, "outer", "right")
        connect(router.inside, inside, "inner", "left")
        router.inside.address("outer", "10.78.0.1/24")
        router.inside.address("inner", "10.79.0.254/24")
        beyond.address("right", "10.78.0.2/24")
        inside.address("left", "10.79.0.1/24", "10.79.0.2/24")
        inside.run("ip", "route", "add", "default", "via", "10.79.0.254")
        router.inside.sysctl("net.ipv4.ip_forward", 1)
        router.inside.nft(
            "table ip hide { chain out { type nat hook postrouting priority 100; oifname outer masquerade; }; }\n"
        )
        far, near = Host(beyond, router.sandbox, tmp_path), Host(inside, router.sandbox, tmp_path)
        with far.service("10.78.0.2", 9092), router.daemon() as daemon:
            for n in range(4):
                near.exchange("10.79.0.1", "10.78.0.2", 9092, 1000)
                near.exchange("10.79.0.2", "10.78.0.2", 9092, 500 + n)
            until(lambda: settled(daemon, 6000), "every flow is decided")
            samples = daemon.samples()
            assert of(samples, "connections", "orders") == 4
            assert of(samples, "connections", "router") == 0
            assert total_of(samples, "flowmap_unattributed_transmit_bytes_total", reason="unknown") >= 2000


def test_a_connection_in_time_wait_is_not_open(machine: Host) -> None:
    machine.inside.sysctl("net.netfilter.nf_conntrack_tcp_timeout_time_wait", 60)
    with machine.daemon() as daemon:
        for _ in range(10):
            machine.exchange(ORDERS, SERVICE, PORT, 100)
        until(lambda: of(daemon.samples(), "connections", "orders") == 10, "they are named")
        samples = daemon.samples()
        assert total_of(samples, "flowmap_deployment_open_connections", deployment="orders") == 0
        assert total_of(samples, "flowmap_open_flows") == 0
        assert len(daemon.json("/api/v1/flows")["flows"]) == 10, "the kernel still has them"


def test_an_old_entry_never_takes_the_next_owner_of_its_address(machine: Host) -> None:
    workspace = {"workspace": machine.sandbox.catalog.workspace}
    machine.sandbox.set_faults([{"kind": "error", "status": 503}])
    with machine.daemon() as daemon, machine.connection(ORDERS, SERVICE, PORT) as peer:
        peer.sendall(b"x" * 1000)
        peer.recv(1 << 16)
        time.sleep(3)
        # The client falls silent, its address goes to somebody else, and the first answer comes after that.
        machine.sandbox.set_catalog({"deployments": [deployment("next", ORDERS, END)]} | workspace)
        machine.sandbox.set_faults([])
        until(lambda: daemon.json("/api/v1/status")["controlPlane"]["answers"] >= 6, "answers came, twice")
        time.sleep(5)
        assert of(daemon.samples(), "connections", "next") == 0
        assert total_of(daemon.samples(), "flowmap_pending_flows") == 1


def test_two_deployments_on_one_address_stay_a_set(machine: Host) -> None:
    machine.sandbox.set_catalog(
        {"deployments": [deployment("alerts", ORDERS, END), deployment("report", ORDERS, END)]}
        | {"workspace": machine.sandbox.catalog.workspace}
    )
    with machine.daemon() as daemon:
        for _ in range(5):
            machine.exchange(ORDERS, SERVICE, PORT, 500)
        until(lambda: settled(daemon, 2500), "every flow is decided")
        samples = daemon.samples()
        assert total_of(samples, "flowmap_deployment_transmit_bytes_total") == 0
        assert total_of(samples, "flowmap_shared_transmit_bytes_total", deployments="alerts,report") >= 2500


def test_a_deployment_without_a_running_job_owns_nothing(machine: Host) -> None:
    machine.sandbox.set_catalog(
        {"deployments": [deployment("orders", ORDERS, END, running=False)]}
        | {"workspace": machine.sandbox.catalog.workspace}
    )
    with machine.daemon() as daemon:
        machine.exchange(ORDERS, SERVICE, PORT, 500)
        until(lambda: settled(daemon, 500), "the flow is decided")
        assert total_of(daemon.samples(), "flowmap_deployment_transmit_bytes_total") == 0
        assert total_of(daemon.samples(), "flowmap_unattributed_transmit_bytes_total", reason="unknown") >= 500


def test_a_reassigned_address_inherits_nothing(machine: Host) -> None:
    workspace = {"workspace": machine.sandbox.catalog.workspace}
    with machine.daemon(collect={"source": "conntrack", "conntrack": {"resync": "1s"}}) as daemon:
        for owner in ("first", "second", "first", "third"):
            machine.sandbox.set_catalog({"deployments": [deployment(owner, ORDERS, END)]} | workspace)
            time.sleep(2.5)  # longer than any answer asked before the change is on its way
            with machine.connection(ORDERS, SERVICE, PORT) as peer:
                port = peer.getsockname()[1]
                path = f"/api/v1/attribution?srcIp={ORDERS}&srcPort={port}&dstIp={SERVICE}&dstPort={PORT}"
                answer: dict[str, Any] = {"state": "pending"}
                while answer["state"] == "pending":  # later traffic shows that the client still exists
                    peer.sendall(b"x" * 100)
                    peer.recv(1 << 16)
                    time.sleep(0.3)
                    answer = daemon.json(path)
                assert [one["name"] for one in answer["deployments"]] == [owner], answer
        counted = {name: of(daemon.samples(), "connections", name) for name in ("first", "second", "third")}
        assert counted == {"first": 2, "second": 1, "third": 1}


FAULTS: dict[str, list[dict[str, Any]]] = {
    "slow": [{"kind": "latency", "seconds": 1.0}],
    "malformed at first": [{"kind": "malformed", "times": 6}],
    "errors at first": [{"kind": "error", "status": 503, "times": 6}],
    "refuses business at first": [{"kind": "business", "times": 6}],
}


@pytest.mark.parametrize("name", FAULTS)
def test_control_plane_faults_cost_no_byte_and_no_wrong_name(machine: Host, name: str) -> None:
    machine.sandbox.set_faults(FAULTS[name])
    with machine.daemon() as daemon, machine.connection(ORDERS, SERVICE, PORT) as peer:
        for _ in range(10):
            machine.exchange(STRANGER, SERVICE, PORT, 100)
            daemon.samples()

        def send() -> bool:
            peer.sendall(b"x" * 1000)
            peer.recv(1 << 16)
            time.sleep(0.3)
            return of(daemon.samples(), "transmit_bytes", "orders") >= 1000

        until(send, "the open connection is named once it is seen to live")
        assert of(daemon.samples(), "connections", "orders") == 1
        assert total_of(daemon.samples(), "flowmap_deployment_connections_total") == 1


def test_empty_answers_name_no_deployment(machine: Host) -> None:
    fault = {"kind": "empty_list", "operation": "GetDeploymentsByIp", "times": 3}  # the catalog asks, too
    machine.sandbox.set_faults([fault])
    with machine.daemon(collect={"source": "conntrack", "conntrack": {"resync": "1s"}}) as daemon:
        with machine.connection(ORDERS, SERVICE, PORT) as peer:

            def send() -> int:
                peer.sendall(b"x" * 1000)
                peer.recv(1 << 16)
                time.sleep(0.3)
                return of(daemon.samples(), "transmit_bytes", "orders")

            send()
            until(
                lambda: total_of(daemon.samples(), "flowmap_unattributed_transmit_bytes_total"), "unattributed at first"
            )
            until(send, "then it gets its name")
            unknown = total_of(daemon.samples(), "flowmap_unattributed_transmit_bytes_total")
            for _ in range(5):
                send()
        assert total_of(daemon.samples(), "flowmap_unattributed_transmit_bytes_total") == unknown


def test_a_control_plane_down_at_startup_only_delays_names(machine: Host) -> None:
    down = {"endpoint": "http://127.0.0.1:9"}
    with machine.daemon(control_plane=down) as daemon, machine.connection(ORDERS, SERVICE, PORT) as peer:
        peer.sendall(b"x" * 4000)
        until(lambda: total_of(daemon.samples(), "flowmap_pending_transmit_bytes") >= 4000, "its bytes wait")
        assert total_of(daemon.samples(), "flowmap_api_request_failures_total") > 0
        until(lambda: daemon.json("/api/v1/status")["controlPlane"]["lastError"], "the status says why")
        assert daemon.stop() == 0
    with machine.daemon() as daemon, machine.connection(ORDERS, SERVICE, PORT) as peer:
        peer.sendall(b"x" * 4000)
        until(lambda: of(daemon.samples(), "transmit_bytes", "orders") >= 4000, "with it back, they are named")


def test_an_overrun_starts_an_exact_resync(machine: Host) -> None:
    with (
        machine.daemon(
            collect={"source": "conntrack", "conntrack": {"receive_buffer": "64KiB", "resync": "2s"}}
        ) as daemon,
        machine.connection(ORDERS, SERVICE, PORT) as peer,
    ):
        daemon.process.send_signal(signal.SIGSTOP)  # while it is stopped, events are not read
        for n in range(1500):
            machine.exchange(ARCHIVE, SERVICE, PORT, 10 + n % 7)
        peer.sendall(b"x" * 9000)
        daemon.process.send_signal(signal.SIGCONT)  # SIGCONT
        until(lambda: total_of(daemon.samples(), "flowmap_source_overruns_total") > 0, "the loss shows")
        reads = lambda: total_of(daemon.samples(), "flowmap_source_resyncs_total", reason="overrun")  # noqa: E731
        until(reads, "a full read follows")
        observed = "flowmap_observed_transmit_bytes_total"
        before = total_of(daemon.samples(), observed)
        peer.sendall(b"x" * 9000)
        until(lambda: total_of(daemon.samples(), observed) >= before + 9000, "what is open is exact again")
        assert total_of(daemon.samples(), observed) < before + 12_000


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
def test_promtool_accepts_the_page(machine: Host) -> None:
    with machine.daemon() as daemon:
        machine.exchange(ORDERS, SERVICE, PORT, 200)
        until(lambda: of(daemon.samples(), "transmit_bytes", "orders"), "there is a series")
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=daemon.get("/metrics"), text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus (Debian: prometheus)")
def test_a_real_prometheus_answers_with_the_deployments_name(machine: Host, tmp_path: Path) -> None:
    scrape = {"job_name": "flowmap", "static_configs": [{"targets": ["127.0.0.1:10817"]}]}
    settings = tmp_path / "prometheus.yml"
    settings.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}))
    command = ["prometheus", f"--config.file={settings}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    command += ["--web.listen-address=127.0.0.1:9090"]

    def asked() -> list[dict[str, Any]]:
        url = "http://127.0.0.1:9090/api/v1/query?query=sum%20by(deployment)(flowmap_deployment_transmit_bytes_total)"
        try:
            with machine.inside.entered(), urllib.request.urlopen(url, timeout=5) as reply:
                return list(json.loads(reply.read())["data"]["result"])
        except OSError:
            return []

    with machine.daemon() as daemon:
        machine.exchange(ORDERS, SERVICE, PORT, 2000)
        until(lambda: settled(daemon, 500), "the flow is decided")
        with machine.inside.entered():
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(asked, "Prometheus has scraped")
            (result,) = asked()
            assert result["metric"] == {"deployment": "orders"}
            assert int(result["value"][1]) == of(daemon.samples(), "transmit_bytes", "orders")
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.mark.parametrize(
    ("rule", "accounting", "chosen"),
    [(True, 1, "conntrack"), (True, 0, "sockets"), (False, 1, "sockets")],
)
def test_auto_takes_conntrack_with_an_empty_table(tmp_path: Path, rule: bool, accounting: int, chosen: str) -> None:
    with namespace() as inside, inside.entered(), running_sandbox({"workspace": WORKSPACE}) as sandbox:
        inside.sysctl("net.netfilter.nf_conntrack_acct", accounting)
        if rule:
            inside.track()
            inside.run("conntrack", "-F")
        with Host(inside, sandbox, tmp_path).daemon(collect={"source": "auto"}) as daemon:
            traffic, *health = daemon.json("/api/v1/status")["sources"]
            assert (traffic["name"], traffic["role"]) == (chosen, "traffic")
            assert [source["name"] for source in health] == (["sockets"] if chosen == "conntrack" else [])
            assert traffic["why"]
            if rule:
                entries = inside.run("conntrack", "-L", "-p", "udp", "--dport", "10817")
                assert "src=127.0.0.1 dst=127.0.0.1" in entries, "the kernel was tried"
            flows = daemon.json("/api/v1/flows")["flows"]
            assert not [flow for flow in flows if flow["protocol"] == "udp"], "UDP is not attributed"
            if chosen == "conntrack":
                inside.run("conntrack", "-D", "-p", "udp")

                def reads() -> int:
                    return total_of(
                        daemon.samples(), "flowmap_source_resyncs_total", source="conntrack", reason="timer"
                    )

                enough = reads() + 2
                until(lambda: reads() >= enough, "a full read was begun after it, and is over")
            assert total_of(daemon.samples(), "flowmap_flows_ended_unseen_total") == 0


def test_scrapes_and_sighup_change_no_total(machine: Host) -> None:
    with machine.daemon(collect={"source": "conntrack", "exclude": []}) as daemon:
        for _ in range(20):
            daemon.samples()
        daemon.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        flows = daemon.json("/api/v1/flows")["flows"]
        assert not [flow for flow in flows if flow["server"]["port"] == 10817]
        assert daemon.process.poll() is None


def test_the_socket_is_not_left_behind(machine: Host) -> None:
    with machine.daemon() as daemon:
        assert daemon.stop() == 0
    with machine.inside.entered():
        socket.create_server(("127.0.0.1", 10817)).close()
