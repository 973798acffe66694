"""Makes the recordings beside this file anew: ``python -m tests.data.conntrack.record`` (root, conntrack, nft)."""

from __future__ import annotations

import struct
import time
from pathlib import Path

from flowmap.sources.netlink_socket import NETLINK_NETFILTER, NetlinkSocket
from flowmap.wire.netlink.conntrack import Group, encode_dump_request
from tests.support import kernel_traffic as traffic
from tests.support.kernel_traffic import SERVER, SERVER6, Routed

HERE = Path(__file__).parent
LENGTH = struct.Struct("<I")

NAT = f"""
table ip nat {{
  chain in {{ type nat hook prerouting priority -100; ip daddr {traffic.ALIAS} tcp dport 80 dnat to {SERVER}:8080; }}
  chain out {{ type nat hook postrouting priority 100; tcp dport 8080 snat to {traffic.PUBLIC}; }}
}}
table inet zones {{
  chain in {{ type filter hook prerouting priority -300; udp dport 7001 ct zone set 7; udp sport 7001 ct zone set 7; }}
}}
"""


def drain(channel: NetlinkSocket) -> list[bytes]:
    received = channel.receive(wait=0.2)
    bounds = [*received.starts, len(received.data)]
    return [bytes(received.data[start:stop]) for start, stop in zip(bounds, bounds[1:], strict=False)]


def write(name: str, datagrams: list[bytes]) -> None:
    """Each datagram after its length (32 bits, little-endian)."""
    (HERE / name).write_bytes(b"".join(LENGTH.pack(len(datagram)) + datagram for datagram in datagrams))
    print(f"{name}: {len(datagrams)} datagrams")  # noqa: T201


def make_traffic(net: Routed) -> None:
    for target in (SERVER, SERVER6):
        with traffic.listen(net.server, target, 8080) as listener:
            for n in range(3):
                traffic.exchange(net.client, (target, 8080), listener, 1000 * n, 10)
        for port in (5353, 7001):
            traffic.datagrams(net.client, net.server, target, port, (100, 20))
        traffic.ping(net.client, target, 7)
    with traffic.listen(net.server, SERVER, 8080) as listener:
        traffic.exchange(net.client, (traffic.ALIAS, 80), listener, 10, 10)


def record(net: Routed, name: str, *, accounting: int, timestamps: int) -> None:
    net.router.run("conntrack", "-F")
    net.router.sysctl("net.netfilter.nf_conntrack_acct", accounting)
    net.router.sysctl("net.netfilter.nf_conntrack_timestamp", timestamps)
    with net.router.entered():
        events = NetlinkSocket(NETLINK_NETFILTER, groups=Group)
        dump = NetlinkSocket(NETLINK_NETFILTER)
    make_traffic(net)
    time.sleep(0.1)
    dump.send(encode_dump_request(0x5EED_5EED))
    write(f"dump-{name}.nlmsg", drain(dump))
    net.router.run("conntrack", "-F")
    time.sleep(0.1)
    write(f"events-{name}.nlmsg", drain(events))


def main() -> None:
    with traffic.routed() as net:
        net.router.nft(NAT)
        record(net, "plain", accounting=0, timestamps=0)
        record(net, "counted", accounting=1, timestamps=0)
        record(net, "stamped", accounting=1, timestamps=1)


if __name__ == "__main__":
    main()
