"""Packets of 5,000 flows, 450 bytes in the mean, as fast as tcpreplay gives them: CPU time a packet and losses of the
capture source with the flow table behind it, beside softflowd, tcpdump to /dev/null and scapy's sniff. Needs root.

python -m tests.bench.bench_capture [packets]
"""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.support.netns import Namespace, connect, namespace

FLOWS = 5_000
LENGTHS = (40, 60, 120, 576, 1454)
"""Of IP packets, equally often; 450 in the mean."""
FILE_PACKETS = 200_000


class Result(NamedTuple):
    """What one reader did."""

    packets: int
    """Read."""
    lost: int
    """Dropped by the kernel, as the reader says."""
    seconds: float
    """CPU time."""


def write_capture(path: Path) -> None:
    """A pcap file with :data:`FILE_PACKETS` packets."""
    random = Random(1)
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for n in range(FILE_PACKETS):
            flow, length = random.randrange(FLOWS), random.choice(LENGTHS)
            ends = [(0x0A000000 + flow % 250, 20_000 + flow), (0x0A010000 + flow % 40, 9092)]
            if random.random() < 0.5:
                ends.reverse()
            (source, source_port), (destination, destination_port) = ends
            packet = struct.pack(
                "!6s6sHBBHHHBBHIIHHIIBBHHH",
                *(b"\x02" * 6, b"\x02" * 6, 0x0800),
                *(0x45, 0, length, n & 0xFFFF, 0, 64, 6, 0, source, destination),
                *(source_port, destination_port, n, 0, 0x50, 0x10, 1000, 0, 0),
            )
            file.write(struct.pack("<IIII", n // 100_000, n % 100_000 * 10, length + 14, length + 14))
            file.write(packet.ljust(length + 14, b"\0"))


def play(sender: Namespace, path: Path, packets: int) -> tuple[int, float]:
    """Packets that were sent, and how many a second."""
    loops = max(packets // FILE_PACKETS, 1)
    told = sender.run("tcpreplay", "-i", "far", "--topspeed", "-K", "--loop", str(loops), str(path))
    rate = re.search(r"([\d.]+) pps", told)
    return loops * FILE_PACKETS, float(rate[1]) if rate else 0.0


def measured(inside: Namespace, command: list[str], traffic: Callable[[], object], *, end: int) -> tuple[str, float]:
    """Output and CPU seconds of a reader that runs while the traffic does."""
    with inside.entered(), tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        time.sleep(3.0)
        before = cpu(process.pid)
        traffic()
        time.sleep(1.5)
        seconds = cpu(process.pid) - before
        process.send_signal(end)
        process.wait(20)
        out.seek(0)
        return out.read(), seconds


def cpu(pid: int) -> float:
    """CPU seconds of a process so far, its threads' too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_ours(interface: str) -> None:
    """The capture source as the engine polls it, with the flow table, until SIGINT."""
    from flowmap.engine.engine import GATHER, select_readable
    from flowmap.flows.records.batch import FlowBatch
    from flowmap.flows.table import FlowTable
    from flowmap.sources.capture.source import CaptureSource

    source, table, polled, stopped = CaptureSource(interfaces=[interface]), FlowTable(100_000), 0.0, []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    source.open()
    while not stopped:
        time.sleep(max(0.0, polled + GATHER - time.monotonic()))
        select_readable([source.fileno()], 1.0)
        for step in source.poll():
            if isinstance(step, FlowBatch):
                now = time.monotonic()
                table.apply(step, now=now, read_at=now)
        polled = time.monotonic()
    print(f"read {source.stats.records} lost {sum(source.stats.lost.values())} flows {len(table)}")


def read_scapy(interface: str) -> None:
    """scapy's sniff with dissection, until SIGINT."""
    from scapy.sendrecv import sniff

    seen: list[int] = [0]

    def count(_: object) -> None:
        seen[0] += 1

    sniff(iface=interface, store=False, prn=count)
    print(f"read {seen[0]} lost 0")


def numbers(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else -1


def run(name: str, inside: Namespace, traffic: Callable[[], tuple[int, float]]) -> None:
    """One reader; a line of what it did."""
    sent: list[tuple[int, float]] = []
    itself = [sys.executable, "-m", "tests.bench.bench_capture"]
    control = Path(tempfile.mkdtemp()) / "control"
    commands: dict[str, tuple[list[str], str, str]] = {
        "flowmap": ([*itself, "--ours"], r"read (\d+)", r"lost (\d+)"),
        "softflowd": (
            ["softflowd", "-d", "-i", "near", "-c", str(control), "-p", str(control) + ".pid", "-m", "100000"],
            r"Packets processed: (\d+)",
            r"Packets dropped by libpcap: (\d+)",
        ),
        "tcpdump": (
            ["tcpdump", "-i", "near", "-n", "-s", "128", "-w", "/dev/null"],
            r"(\d+) packets captured",
            r"(\d+) packets dropped by kernel",
        ),
        "scapy": ([*itself, "--scapy"], r"read (\d+)", r"lost (\d+)"),
    }
    command, read, lost = commands[name]
    statistics = ""

    def work() -> None:
        nonlocal statistics
        sent.append(traffic())
        if name == "softflowd":
            time.sleep(0.5)
            statistics = inside.run("softflowctl", "-c", str(control), "statistics")

    out, seconds = measured(inside, command, work, end=signal.SIGINT)
    (packets, rate), told = sent[0], out + statistics
    seen, dropped = numbers(read, told), numbers(lost, told)
    part = 100 * (1 - seen / packets)
    print(f"{name:<10} sent {packets:,} at {rate:,.0f}/s, read {seen:,} ({part:.2f} % missed; says {dropped:,})")
    print(f"{'':<10} CPU {seconds:.2f} s, {1e6 * seconds / max(seen, 1):.3f} µs a packet", flush=True)


def main() -> None:
    packets = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    # A background job of a shell ignores SIGINT, and so would the readers that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with namespace() as near, namespace() as far, tempfile.TemporaryDirectory() as directory:
        connect(near, far, "near", "far")
        for inside, device in ((near, "near"), (far, "far")):
            inside.sysctl(f"net.ipv6.conf.{device}.disable_ipv6", 1)
            inside.run("ip", "link", "set", device, "up")
        path = Path(directory) / "packets.pcap"
        write_capture(path)
        for name in ("flowmap", "softflowd", "tcpdump", "scapy"):
            run(name, near, lambda: play(far, path, packets))


if __name__ == "__main__":
    if "--ours" in sys.argv:
        read_ours("near")
    elif "--scapy" in sys.argv:
        read_scapy("near")
    else:
        main()
