"""``collect.source: auto`` on a host that tracks: bytes from conntrack, health from the socket table, each once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host import Daemon, Host, deployment, host, total_of
from tests.support.netns import needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

SERVICE, PORT, CLIENT = "10.77.1.10", 9092, "10.77.0.11"
AUTO = {"source": "auto", "sockets": {"interval": "500ms"}}
TRANSMIT, RESENT = "flowmap_deployment_transmit_bytes_total", "flowmap_deployment_tcp_retransmits_total"
ROUND_TRIP = "flowmap_deployment_tcp_round_trip_seconds"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Host]:
    catalog = [deployment("orders", CLIENT, f"{SERVICE}:{PORT}")]
    with host(tmp_path, [f"{SERVICE}/32", f"{CLIENT}/32"], catalog) as made, made.service(SERVICE, PORT):
        yield made


def segments_resent(connection: socket.socket) -> int:
    """tcpi_total_retrans of struct tcp_info (linux/tcp.h): the kernel's own count."""
    return int.from_bytes(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[100:104], "little")


def test_traffic_from_one_and_health_from_the_other(machine: Host) -> None:
    machine.inside.run("nft", "add table inet loss")
    machine.inside.run("nft", "add chain inet loss in { type filter hook input priority 0 ; }")
    machine.inside.run("nft", f"add rule inet loss in tcp dport {PORT} ct packets > 8 numgen random mod 8 0 drop")
    with machine.daemon(collect=AUTO) as daemon:
        connection = machine.connection(CLIENT, SERVICE, PORT)
        deadline = time.monotonic() + 20
        while segments_resent(connection) < 3:
            connection.sendall(b"x" * 3000)
            connection.recv(6000, socket.MSG_WAITALL)
            assert time.monotonic() < deadline, "nothing was sent again"
        machine.inside.run("nft", "delete table inet loss")
        resent = segments_resent(connection)
        until(
            lambda: total_of(daemon.samples(), RESENT, deployment="orders") == resent, f"{resent} segments sent again"
        )
        samples = daemon.samples()
        assert 0 < sum(value for (name, _), value in samples.items() if name == ROUND_TRIP) < 1
        sources = {source["name"]: source for source in daemon.json("/api/v1/status")["sources"]}
        assert {name: (source["up"], source["role"]) for name, source in sources.items()} == {
            "conntrack": (True, "traffic"),
            "sockets": (True, "health"),
        }
        assert "the kernel tracks connections here" in sources["conntrack"]["why"]

        def sent() -> int:  # again and again: an acknowledgement may follow
            entry = machine.inside.run("conntrack", "-L", "-p", "tcp", "--dport", str(PORT))
            return int(entry.split("bytes=")[1].split()[0])

        until(lambda: total_of(daemon.samples(), TRANSMIT, deployment="orders") == sent(), "every byte is there, once")
        connection.close()
        assert total_of(daemon.samples(), "flowmap_deployment_connections_total") == 1


def untracked(daemon: Daemon) -> int:
    return total_of(daemon.samples(), "flowmap_source_untracked_connections", source="sockets")


def notes(daemon: Daemon) -> dict[str, str]:
    (health,) = (one for one in daemon.json("/api/v1/status")["sources"] if one["name"] == "sockets")
    return dict(health["notes"])


@pytest.mark.parametrize("flushed", [True, False], ids=["without entries", "entries stand still"])
def test_connections_that_are_no_longer_tracked_are_reported(machine: Host, flushed: bool) -> None:
    with machine.connection(CLIENT, SERVICE, PORT) as peer, machine.daemon(collect=AUTO) as daemon:

        def works() -> None:
            peer.sendall(b"x" * 100)
            peer.recv(200, socket.MSG_WAITALL)

        def untracked_at_work() -> int:
            works()
            return untracked(daemon)

        for _ in range(25):
            assert untracked_at_work() == 0
            time.sleep(0.1)  # in all, time for several reads of both tables
        assert notes(daemon) == {}
        machine.inside.run("nft", "delete table inet track")
        if flushed:
            machine.inside.run("conntrack", "-F")
        until(lambda: untracked_at_work() == 1, "it is reported")
        assert "1 TCP connection of this host is not tracked" in notes(daemon)["untracked"]
        machine.inside.track()
        until(lambda: untracked_at_work() == 0, "it is counted again")
        assert "untracked" not in notes(daemon)


def test_auto_reports_connections_that_conntrack_misses(machine: Host) -> None:
    machine.exchange(CLIENT, SERVICE, PORT, 100)
    with machine.connection(CLIENT, SERVICE, PORT):
        machine.inside.run("nft", "delete table inet track")
        with machine.daemon(collect=AUTO) as daemon, machine.connection(CLIENT, SERVICE, PORT) as peer:

            def untracked_at_work() -> int:
                peer.sendall(b"x" * 100)
                return untracked(daemon)

            until(lambda: untracked_at_work() == 1, "it is reported")


def test_the_socket_table_confirms_the_client_of_an_idle_connection(machine: Host) -> None:
    with machine.connection(CLIENT, SERVICE, PORT), machine.daemon(collect=AUTO) as daemon:
        flows = "/api/v1/flows"
        until(lambda: [flow["state"] for flow in daemon.json(flows)["flows"]] == ["attributed"], "it is named")
