"""A real daemon while the kernel gets a million entries, as root: ``python -m tests.bench.bench_flood [ENTRIES]``.

Memory of the whole process and time of real scrapes, while the entries come, while they are read in full, and after.
The peer: what ``conntrack -L`` takes for the same table.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from tests.support.host import Daemon, host, total_of

REACH_MIB = 450
FILL = """
from contextlib import nullcontext
from types import SimpleNamespace
from tests.kernel.traffic import insert
insert(SimpleNamespace(entered=nullcontext), {}, status=8, timeout=3600)
"""
"""Every entry has a client of its own and is unanswered."""
MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")


def memory(daemon: Daemon, name: str) -> float:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith(name)).split()[1]) / 1024


def scrape(daemon: Daemon) -> float:
    began = time.perf_counter()
    try:
        daemon.get("/metrics")
    except (TimeoutError, urllib.error.URLError):
        return float("inf")
    return time.perf_counter() - began


def run(entries: int) -> None:
    with tempfile.TemporaryDirectory() as directory, host(Path(directory), [], []) as machine:
        settings = {"exclude": [], "max_flows": entries, "conntrack": {"resync": "30s"}}
        with machine.daemon(collect=settings) as daemon:
            idle, began = memory(daemon, "VmRSS"), time.perf_counter()
            fill = FILL.format(entries)
            with machine.inside.entered():
                filling = subprocess.Popen([sys.executable, "-c", fill])
            filled = watch(daemon, lambda: filling.poll() is not None)
            took = time.perf_counter() - began
            print(f"{entries:,} entries in {took:.0f} s; scrapes meanwhile (reach ≤ 1 s): {words(filled)}", flush=True)
            assert filling.returncode == 0
            before = reads(daemon)
            after = watch(daemon, lambda: reads(daemon) >= before + 2)
            samples = daemon.samples()
            tracked = total_of(samples, "flowmap_open_flows")
            print(f"{tracked:,} tracked; scrapes during two full reads: {words(after)}")
            now, most = memory(daemon, "VmRSS"), memory(daemon, "VmHWM")
            print(f"memory {now:.0f} MiB, at most {most:.0f} (reach ≤ {REACH_MIB}), idle {idle:.0f}")
        began = time.perf_counter()
        machine.inside.run("sh", "-c", "conntrack -L -o extended > /dev/null 2>&1")
        print(f"conntrack -L -o extended: {time.perf_counter() - began:.1f} s")


def reads(daemon: Daemon) -> int:
    return total_of(daemon.samples(), "flowmap_source_resyncs_total")


def watch(daemon: Daemon, over: Callable[[], bool]) -> list[float]:
    took = []
    end = time.monotonic() + 400
    while not over() and time.monotonic() < end:
        took.append(scrape(daemon))
        time.sleep(0.5)
    return took


def words(took: list[float]) -> str:
    ordered = sorted(took)
    return f"{len(took)}, median {ordered[len(took) // 2]:.3f} s, longest {ordered[-1]:.3f} s"


def main() -> None:
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    limit = MAX.read_text()
    try:
        MAX.write_text(str(max(int(limit), entries + entries // 5)))
        run(entries)
    finally:
        MAX.write_text(limit)


if __name__ == "__main__":
    main()
