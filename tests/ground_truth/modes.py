"""The modes of a run: what is special about its addresses, its control plane, its source, and the daemon's settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Scene = Literal["", "dataflow", "hosts", "late", "processes", "udp"]


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses of a run, of one family."""

    nft: str
    """Family and prefix of address expressions in nftables: ``ip`` or ``ip6``."""
    nft_type: str
    bits: int
    """Length of the prefix of each link."""
    masks: tuple[str, str, str]
    """Start of the addresses of clients, services, and clients that are never a deployment's."""
    called: str
    """Address by which clients call services behind NAT."""
    translated: str
    """The clients behind source NAT."""

    def client(self, n: int) -> str:
        """Address of a client; every other one is behind source NAT."""
        return self._of(self.masks[0], n % 2, 10 + n)

    def service(self, n: int) -> str:
        return self._of(self.masks[1], 0, 10 + n)

    def stranger(self, n: int) -> str:
        """A client outside the networks of deployments."""
        return self._of(self.masks[2], 0, 10 + n)

    def gateway(self, side: int) -> str:
        """The router on a link, by its position in ``masks``."""
        return self._of(self.masks[side], 0, 1)

    def own(self, side: int) -> str:
        """The first address of those behind the link."""
        return self._of(self.masks[side], 0, 2)

    def prefix(self, side: int) -> str:
        """The network of a link."""
        return f"{self._of(self.masks[side], 0, 0)}/{self.bits}"

    def _of(self, start: str, group: int, number: int) -> str:
        text = f"{start}{group:x}:{number:x}" if ":" in start else f"{start}{group}.{number}"
        return str(ipaddress.ip_address(text))


V4 = Network("ip", "ipv4_addr", 16, ("10.1.", "10.2.", "10.4."), "10.9.0.1", "10.1.1.0/24")
V6 = Network("ip6", "ipv6_addr", 64, ("fd00:1::", "fd00:2::", "fd00:4::"), "fd00:9::1", "fd00:1::1:0/112")


@dataclass(frozen=True, slots=True)
class Mode:
    """What differs from a run without faults."""

    what: str
    share: float = 99.5
    """Percent of the attributable flows that must have their name at the end."""
    trouble: Literal["", "api", "overrun"] = ""
    scene: Scene = ""
    network: Network = V4
    source: Literal["conntrack", "sockets"] = "conntrack"
    readings: tuple[str, ...] = ("both", "connection")
    """How the control plane may read src and dst; one is drawn."""
    data_age: float = 0.0
    """The control plane answers from data that is up to so many seconds old, now more, now less."""
    attribute: Mapping[str, object] = field(default_factory=dict)
    """The daemon's settings."""
    fleet: bool = False
    """Three daemons share answers and budget through a server with faults."""
    processes: bool = False
    """Each owner of an address has a process of its own, and there are few calls."""

    @property
    def answer_age(self) -> float:
        """``attribute.answer_age`` in seconds."""
        return float(str(self.attribute.get("answer_age", "0s")).rstrip("s"))


MODES: Mapping[str, Mode] = {
    "none": Mode("no fault"),
    "api": Mode("the control plane fails in 17 ways", 99.0, trouble="api"),
    "overrun": Mode("storms overrun the netlink buffer", 99.0, trouble="overrun"),
    "ipv6": Mode("IPv6, with NAT both ways", network=V6),
    "sockets": Mode("the socket table of the clients' host as source", source="sockets"),
    "processes": Mode(
        "processes that are the owners of addresses, come and go, and name what few calls cannot", 0.0,
        source="sockets", scene="processes", processes=True,
    ),
    "udp": Mode("UDP tuples that change hands within the kernel's time-out", scene="udp"),
    "dataflow": Mode(
        "an API that knows only what deployments read from and write to, and strangers outside their networks",
        scene="dataflow", readings=("dataflow",), attribute={"deployment_networks": [V4.prefix(0)]},
    ),
    "hosts": Mode("services on the addresses of TaskManagers, with connections that no job declares", scene="hosts"),
    "late": Mode(
        "owners that the control plane learns of late, and programs that are older than their host's TaskManager",
        scene="late", attribute={"registration_lag": "4s"},
    ),
    # A server that was restarted grants nothing for 5 s, and this one is restarted every 25 s.
    "fleet": Mode("three daemons that share a Valkey, which is stopped, killed and restarted", 50.0, fleet=True),
    "old": Mode("answers of old data", data_age=1.5, attribute={"answer_age": "2.5s"}),
}  # fmt: skip
"""Every mode, by its name on the command line."""
