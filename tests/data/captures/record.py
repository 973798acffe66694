"""Makes the captures beside this file anew: ``python -m tests.data.captures.record`` (root; tools: see README.md)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.netns import Namespace, connect, namespace
from tests.support.scapy_layers import l2

HERE = Path(__file__).parent
LEFT, RIGHT = "10.9.0.1", "10.9.0.2"
LEFT6, RIGHT6 = "2001:db8:9::1", "2001:db8:9::2"
LEFT_INSIDE, RIGHT_INSIDE = "10.77.0.1", "10.77.0.2"

Traffic = Callable[[Namespace, Namespace], None]


@contextmanager
def running(where: Namespace, *command: str, ready: float = 1.0, end: bool = True) -> Iterator[None]:
    """``command`` in the background of a namespace, ended by its own process id."""
    with where.entered():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(ready)
    try:
        yield
    finally:
        if end:
            process.terminate()
        process.wait(10)


def http(left: Namespace, right: Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page").write_bytes(os.urandom(4000))
        server = (sys.executable, "-m", "http.server", "-d", folder, "-b", "::", "8000")
        with running(right, *server):
            for host in (RIGHT, RIGHT, f"[{RIGHT6}]"):
                left.run("curl", "-s", "-o", "/dev/null", f"http://{host}:8000/page")


def redis_and_dns(left: Namespace, right: Namespace) -> None:
    redis = ("redis-server", "--port", "6379", "--save", "", "--protected-mode", "no", "--bind", RIGHT)
    with running(right, *redis):
        for command in (("set", "orders", "x" * 300), ("get", "orders"), ("incr", "n")):
            left.run("redis-cli", "-h", RIGHT, *command)
    dnsmasq = ("dnsmasq", "-k", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root", "--pid-file")
    with running(right, *dnsmasq, "--address=/orders.test/10.1.2.3"):
        for server in (RIGHT, RIGHT, RIGHT6):
            left.run("dig", f"@{server}", "+tries=1", "orders.test")


def iperf(left: Namespace, right: Namespace) -> None:
    with running(right, "iperf3", "-s"):
        left.run("iperf3", "-c", RIGHT, "-n", "2M")
        left.run("iperf3", "-c", RIGHT6, "-n", "200K", "-R")
        left.run("iperf3", "-c", RIGHT, "-u", "-l", "1000", "-n", "30K", "-b", "5M")


def fragments(left: Namespace, right: Namespace) -> None:
    with running(right, "iperf3", "-s"):
        left.run("iperf3", "-c", RIGHT, "-u", "-l", "5000", "-n", "20K", "-b", "5M")
    left.run("ping", "-c", "2", "-i", "0.2", "-s", "4000", RIGHT6)


def vxlan(left: Namespace, right: Namespace) -> None:
    for where, own, other, inside in ((left, LEFT, RIGHT, LEFT_INSIDE), (right, RIGHT, LEFT, RIGHT_INSIDE)):
        where.run(*f"ip link add vx type vxlan id 7 local {own} remote {other} dstport 4789".split())
        where.run(*["ip", "link", "set", "vx", "mtu", "1400"])
        where.address("vx", f"{inside}/24")
    server = (sys.executable, "-m", "http.server", "-d", str(HERE), "-b", RIGHT_INSIDE, "8000")
    with running(right, *server):
        left.run("curl", "-s", "-o", "/dev/null", f"http://{RIGHT_INSIDE}:8000/record.py")
    left.run("ping", "-c", "2", "-i", "0.2", RIGHT_INSIDE)


def record(name: str, traffic: Traffic, *capture: str) -> None:
    with namespace() as left, namespace() as right:
        connect(left, right, "v0", "v1")
        left.address("v0", f"{LEFT}/24", f"{LEFT6}/64")
        right.address("v1", f"{RIGHT}/24", f"{RIGHT6}/64")
        with running(left, *capture, str(HERE / name)):
            traffic(left, right)
            time.sleep(2)


def rewritten(name: str, tags: list[tuple[int, int]]) -> None:
    """http.pcap with VLAN tags: ethertype and number of each."""
    data = (HERE / "http.pcap").read_bytes()
    made, at = data[:24], 24
    while at < len(data):
        size = int.from_bytes(data[at + 8 : at + 12], "little")
        frame = l2.Ether(data[at + 16 : at + 16 + size])
        inside, kind = frame.payload, frame.type
        for number, (ethertype, vlan) in enumerate(reversed(tags)):
            layer = (l2.Dot1AD if ethertype == 0x88A8 else l2.Dot1Q)(vlan=vlan, type=kind)
            inside, kind = layer / inside, tags[len(tags) - 1 - number][0]
        frame.remove_payload()
        frame.type = kind
        changed = bytes(frame / inside)
        made += data[at : at + 8] + len(changed).to_bytes(4, "little") * 2 + changed
        at += 16 + size
    (HERE / name).write_bytes(made)


def main() -> None:
    """Record all, or those named on the command line."""
    tcpdump = ("tcpdump", "-U", "--immediate-mode", "-Z", "root", "-i", "v0")
    made: dict[str, Callable[[str], None]] = {
        "http.pcap": lambda name: record(name, http, *tcpdump, "-w"),
        "redis-dns.pcapng": lambda name: record(name, redis_and_dns, "dumpcap", "-q", "-i", "v0", "-w"),
        "iperf3.pcap": lambda name: record(name, iperf, *tcpdump, "-s96", "--time-stamp-precision=nano", "-w"),
        "fragments.pcap": lambda name: record(name, fragments, *tcpdump, "-s96", "-w"),
        "vxlan.pcap": lambda name: record(name, vxlan, *tcpdump, "-w"),
        "any.pcap": lambda name: record(name, http, *tcpdump[:-1], "any", "-w"),
        "vlan.pcap": lambda name: rewritten(name, [(0x8100, 5)]),
        "qinq.pcap": lambda name: rewritten(name, [(0x88A8, 100), (0x8100, 5)]),
    }
    for name in sys.argv[1:] or made:
        made[name](name)
        (HERE / name).chmod(0o644)


if __name__ == "__main__":
    main()
