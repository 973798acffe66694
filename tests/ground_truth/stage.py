"""Where a run takes place: clients — router — services, with NAT both ways, and nftables as a witness of bytes."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flowmap.model.address import format_endpoint
from tests.ground_truth.modes import MODES, Network
from tests.ground_truth.plan import Plan
from tests.support.netns import Namespace, connect, namespace

STORM_NET = "10.3.0.0/16"
"""Where storms come from; left out by the daemon's configuration."""
STORM_CLIENT = "10.3.0.2"
ADDRESSES = 1024
"""Most client addresses the witness can count."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The three namespaces."""

    clients: Namespace
    router: Namespace
    services: Namespace
    network: Network
    host: Namespace
    """The one with the daemon and the control plane: the router, or the clients' if the socket table is the source."""
    lingers: int
    """Seconds the router keeps entries of ended connections, and of UDP that is silent."""

    def witness(self) -> None:
        """Count from now on, apart from conntrack's accounting, what the router forwards for each client address."""
        family, kind = self.network.nft, self.network.nft_type
        storm = f"    ip saddr {STORM_NET} return; ip daddr {STORM_NET} return;\n" if family == "ip" else ""
        self.router.nft(
            f"table {family} witness {{\n"
            f"  set up {{ type {kind}; flags dynamic; size {ADDRESSES}; }}\n"
            f"  set down {{ type {kind}; flags dynamic; size {ADDRESSES}; }}\n"
            "  chain count { type filter hook forward priority 10;\n"
            f"{storm}    ct state invalid return;\n"
            # Conntrack lets a SYN on an open connection's tuple pass, and does not count it.
            "    tcp flags & (syn | ack) == syn ct state established return;\n"
            f"    ct direction original update @up {{ ct original {family} saddr counter }}\n"
            f"    ct direction reply update @down {{ ct original {family} saddr counter }}\n"
            "  }\n"
            "}\n"
        )

    def witnessed(self) -> dict[str, tuple[int, int]]:
        """Bytes to and from the services so far, by client address as it was before NAT."""
        up, down = self._counted("up"), self._counted("down")
        return {address: (up.get(address, 0), down.get(address, 0)) for address in up.keys() | down.keys()}

    def silence(self) -> None:
        """Let nothing pass any more, not even what kernels repeat for clients that vanished."""
        for inside in (self.clients, self.services):
            inside.nft(
                'table inet silence {\n  chain out { type filter hook output priority 0; oifname "near" drop; }\n}\n'
            )

    def storm(self, datagrams: int) -> None:
        """So many UDP connections at once to a closed port."""
        with self.clients.entered():
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        source, destination = socket.inet_aton(STORM_CLIENT), socket.inet_aton("10.2.0.10")
        with raw:
            for n in range(datagrams):
                udp = struct.pack("!4H", 1024 + n % 60_000, 6000 + n // 60_000, 8, 0)
                head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, n & 0xFFFF, 0, 64, 17, 0, source, destination)
                raw.sendto(head + udp, ("10.2.0.10", 0))

    def _counted(self, name: str) -> dict[str, int]:
        listing = json.loads(self.router.run("nft", "-j", "list", "set", self.network.nft, "witness", name))["nftables"]
        found: dict[str, int] = {}
        for entry in listing:
            for element in entry.get("set", {}).get("elem", ()):
                found[element["elem"]["val"]] = element["elem"]["counter"]["bytes"]
        return found


@contextmanager
def stage(plan: Plan, *, lingers: int) -> Iterator[Stage]:
    """The namespaces of a run. Half of the clients are behind source NAT, half of the services behind DNAT.

    ``lingers``: seconds the router keeps entries of ended connections: short, so that they end within a run.
    """
    mode = MODES[plan.mode]
    network = mode.network
    with namespace() as clients, namespace() as router, namespace() as services:
        for inside in (clients, router, services):
            inside.sysctl("net.ipv6.conf.default.dad_transmits", 0)  # link-local addresses are usable at once
        connect(clients, router, "near", "left")
        connect(services, router, "near", "right")
        storms = (STORM_CLIENT, "10.3.0.1") if mode.trouble == "overrun" else ()
        clients.address("near", *_on_link(network, network.own(0), *plan.addresses, *storms[:1]))
        router.address("left", *_on_link(network, network.gateway(0), network.gateway(2), *storms[1:]))
        router.address("right", *_on_link(network, network.gateway(1)))
        ends = dict.fromkeys(service.end[0] for service in plan.services)
        services.address("near", *_on_link(network, network.own(1), *ends))
        clients.run("ip", "route", "add", "default", "via", network.gateway(0))
        services.run("ip", "route", "add", "default", "via", network.gateway(1))
        router.sysctl("net.ipv4.ip_forward", 1)
        router.sysctl("net.ipv6.conf.all.forwarding", 1)
        for name in ("acct", "events"):
            router.sysctl(f"net.netfilter.nf_conntrack_{name}", 1)
        for name in ("tcp_timeout_time_wait", "tcp_timeout_close", "udp_timeout"):
            router.sysctl(f"net.netfilter.nf_conntrack_{name}", lingers)
        router.sysctl("net.netfilter.nf_conntrack_udp_timeout_stream", lingers * 3 // 2)
        router.track()
        router.nft(_nat(plan, network))
        # Errors for each datagram of a storm are rate limited and not needed.
        services.nft(
            f"table ip quiet {{\n  chain in {{ type filter hook input priority 0; ip saddr {STORM_NET} drop; }}\n}}\n"
        )
        yield Stage(clients, router, services, network, router if mode.source == "conntrack" else clients, lingers)


def _on_link(network: Network, *addresses: str) -> list[str]:
    return [f"{address}/{network.bits}" for address in addresses]


def _nat(plan: Plan, network: Network) -> str:
    family = network.nft
    rules = [
        f"    {family} daddr {service.called[0]} meta l4proto {{ tcp, udp }} th dport {service.called[1]}"
        f" dnat to {format_endpoint(*service.end)}"
        for service in plan.services
        if service.called != service.end
    ]
    return "\n".join(
        [
            f"table {family} nat {{",
            "  chain in { type nat hook prerouting priority -100;",
            *rules,
            "  }",
            "  chain out { type nat hook postrouting priority 100;",
            f"    {family} saddr {network.translated} {family} daddr {network.prefix(1)} snat to {network.gateway(1)}",
            "  }",
            "}",
            "",
        ]
    )
