"""Real traffic of known size between namespaces, and what Debian's conntrack tool says about it."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from flowmap.sources.netlink_socket import NETLINK_NETFILTER, NetlinkSocket
from flowmap.wire.netlink.conntrack import CtAttribute, CtMessage
from flowmap.wire.netlink.messages import MessageFlag, encode_attribute
from tests.support.conntrack_messages import encode_entry
from tests.support.netns import Namespace, connect, namespace


class Routed(NamedTuple):
    """client — router — server; the router is where conntrack is looked at."""

    client: Namespace
    router: Namespace
    server: Namespace


CLIENT, SERVER = "10.1.0.2", "10.2.0.2"
CLIENT6, SERVER6 = "2001:db8:1::2", "2001:db8:2::2"
ALIAS, PUBLIC = "10.1.0.1", "10.2.0.1"
"""The router's addresses towards the client and the server; NAT in tests uses them."""
OPTIONS = ("tcp_sack", "tcp_timestamps")
"""Off in the client and the server, so that only a SYN has TCP options and byte counts are exact."""
SYN_OPTIONS = 4 + 1 + 3
"""MSS, a no-operation and the window scale: options of each SYN."""


@contextmanager
def routed() -> Iterator[Routed]:
    """Three namespaces with routes in both families; tracking is on in the router."""
    with namespace() as client, namespace() as router, namespace() as server:
        connect(client, router, "near", "left")
        connect(server, router, "near", "right")
        client.address("near", f"{CLIENT}/24", f"{CLIENT6}/64")
        router.address("left", f"{ALIAS}/24", "2001:db8:1::1/64")
        router.address("right", f"{PUBLIC}/24", "2001:db8:2::1/64")
        server.address("near", f"{SERVER}/24", f"{SERVER6}/64")
        for space, side in ((client, "1"), (server, "2")):
            space.run("ip", "route", "add", "default", "via", f"10.{side}.0.1")
            for option in OPTIONS:
                space.sysctl(f"net.ipv4.{option}", 0)
            space.run("ip", "-6", "route", "add", "default", "via", f"2001:db8:{side}::1")
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.netfilter.nf_conntrack_acct"):
            router.sysctl(name, 1)
        router.track()
        yield Routed(client, router, server)


def listen(space: Namespace, address: str, port: int = 0) -> socket.socket:
    """A listening TCP socket in ``space``."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with space.entered():
        listener = socket.create_server((address, port), family=family, backlog=256)
    listener.settimeout(5)
    return listener


def exchange(space: Namespace, target: tuple[str, int], listener: socket.socket, up: int, down: int) -> int:
    """One whole TCP connection, opened and closed by the client; returns the client's port."""
    with space.entered():
        client = socket.create_connection(target, timeout=5)
    server, _ = listener.accept()
    server.settimeout(5)
    with client, server:
        port: int = client.getsockname()[1]
        for sender, receiver, size in ((client, server, up), (server, client, down)):
            pusher = threading.Thread(target=sender.sendall, args=(bytes(size),))
            pusher.start()
            left = size
            while left:
                left -= len(receiver.recv(left))
            pusher.join()
    return port


def datagrams(client: Namespace, server: Namespace, address: str, port: int, sizes: tuple[int, int]) -> int:
    """A UDP datagram there and one back; returns the client's port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with server.entered():
        there = socket.socket(family, socket.SOCK_DGRAM)
    with client.entered():
        here = socket.socket(family, socket.SOCK_DGRAM)
    with there, here:
        there.settimeout(5)
        here.settimeout(5)
        there.bind((address, port))
        here.connect((address, port))
        here.send(bytes(sizes[0]))
        _, peer = there.recvfrom(65536)
        there.sendto(bytes(sizes[1]), peer)
        here.recv(65536)
        return int(here.getsockname()[1])


def ping(space: Namespace, address: str, identifier: int) -> None:
    """One echo request with ``identifier``, and its answer awaited."""
    v6 = ":" in address
    with space.entered():
        raw = (
            socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            if v6
            else socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        )
    with raw:
        raw.settimeout(5)
        request, reply = (128, 129) if v6 else (8, 0)
        head = struct.pack("!BBHHH", request, 0, 0, identifier, 1)
        if not v6:
            total = sum(struct.unpack("!4H", head))
            head = struct.pack("!BBHHH", request, 0, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF, identifier, 1)
        raw.sendto(head, (address, 0))
        while True:
            got = raw.recv(4096)[0 if v6 else 20 :]
            if got[0] == reply and struct.unpack_from("!H", got, 4)[0] == identifier:
                return


class Listed(NamedTuple):
    """One line of ``conntrack -L -o extended,id``."""

    protocol: int
    original: tuple[str, int, str, int]
    reply: tuple[str, int, str, int]
    packets: tuple[int, int]
    bytes: tuple[int, int]
    id: int


def listed(space: Namespace, *families: str) -> list[Listed]:
    """The table as the conntrack tool prints it; only protocols with ports."""
    entries = []
    for family in families or ("ipv4", "ipv6"):
        for line in space.run("conntrack", "-L", "-f", family, "-o", "extended,id").splitlines():
            fields = re.findall(r"(\w+)=(\S+)", line)
            if not any(name == "sport" for name, _ in fields):
                continue
            entries.append(_listed(int(line.split()[3]), fields))
    return entries


def _listed(protocol: int, fields: list[tuple[str, str]]) -> Listed:
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)

    def numbers(name: str) -> list[int]:
        return [int(value) for value in values.get(name, ["0", "0"])]

    tuples = list(zip(values["src"], numbers("sport"), values["dst"], numbers("dport"), strict=True))
    packets, octets = numbers("packets"), numbers("bytes")
    return Listed(
        protocol, tuples[0], tuples[1], (packets[0], packets[1]), (octets[0], octets[1]), int(values["id"][0])
    )


def insert(space: Namespace, n: int, *, first: int = 0, status: int = 0xE, timeout: int = 600) -> None:
    """Make ``n`` UDP entries of as many clients (11.0.0.0 and on, beginning with number ``first``) as fast as the
    kernel takes them. Status 8 instead of 0xE: unanswered."""
    seconds = encode_attribute(CtAttribute.TIMEOUT, timeout.to_bytes(4, "big"))
    values = {"status": status, "original_protocol": 17, "reply_protocol": 17}
    values |= {"original_destination_port": 9, "reply_source_port": 9}
    values |= {"original_v4_destination": 0x0A000001, "reply_v4_source": 0x0A000001}
    with space.entered():
        channel = NetlinkSocket(NETLINK_NETFILTER)
    flags = MessageFlag.REQUEST | MessageFlag.CREATE | MessageFlag.EXCL
    for start in range(first, first + n, 100):
        part = []
        for number in range(start, min(start + 100, first + n)):
            client = {"original_v4_source": 0x0B000000 + number, "reply_v4_destination": 0x0B000000 + number}
            ports = {"original_source_port": 5, "reply_destination_port": 5}
            part.append(encode_entry(CtMessage.NEW, flags, values | client | ports, extra=seconds))
        channel.send(b"".join(part))
    channel.close()
