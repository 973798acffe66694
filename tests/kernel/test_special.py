"""Discovery traffic (mDNS, SSDP, NetBIOS, DHCP) past the real daemon: counted, decided, never asked about."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import host, total_of
from tests.support.netns import needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

OURS, HOST = "10.9.1.2", "10.9.1.3"
LAN = ("224.0.0.251", "239.255.255.250", "10.9.1.255", "255.255.255.255", "169.254.169.254")
"""Where programs on a local network send what no deployment answers."""


def send(destination: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(OURS))
        sending.bind((OURS, 0))
        sending.sendto(bytes(100), (destination, port))


@pytest.mark.parametrize("source", ["conntrack", "capture"])
def test_only_hosts_are_asked_about(source: str, tmp_path: Path) -> None:
    with host(tmp_path, [], []) as machine:
        inside = machine.inside
        inside.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "wire")
        inside.address("lan", f"{OURS}/24")
        inside.run("ip", "link", "set", "wire", "up")
        inside.run("ip", "route", "add", "default", "dev", "lan")
        for address in (HOST, "169.254.169.254"):  # sent to without waiting for an answer to ARP
            inside.run("ip", "neigh", "replace", address, "lladdr", "02:00:00:00:00:01", "dev", "lan")
        with machine.daemon(collect={"source": source, "exclude": []}) as daemon:
            with inside.entered():
                for number, address in enumerate(LAN):
                    send(address, 5000 + number)

            def special() -> int:
                return total_of(daemon.samples(), "flowmap_unattributed_transmit_bytes_total", reason="special_address")

            def unknown() -> set[str]:
                flows = daemon.json("/api/v1/flows?limit=100")["flows"]
                return {flow["server"]["ip"] for flow in flows if flow["state"] == "unknown"}

            until(lambda: unknown() >= set(LAN), "all of it is decided")
            until(lambda: special() >= 128 * len(LAN), "every byte of it is counted")
            assert asked(machine.sandbox.recorded) <= {""}
            with inside.entered():
                send(HOST, 5999)
            until(lambda: OURS in asked(machine.sandbox.recorded), "a host is asked about")
            assert asked(machine.sandbox.recorded) <= {"", OURS, HOST}
            query = f"/api/v1/attribution?srcIp={OURS}&dstIp={LAN[0]}&dstPort=1&protocol=udp"
            assert daemon.json(query)["state"] == "unknown"
            assert daemon.stop() == 0


def asked(recorded: Any) -> set[str]:
    """Every address that was asked about; empty text for a question about none."""
    found = set()
    for one in recorded:
        parameters = dict(one.parameters)
        found |= {parameters.get("srcIp", ""), parameters.get("dstIp", "")}
    return found
