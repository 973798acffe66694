"""flowmap replay of quiet captures, whose cost must follow packets and not time, with tshark on the same files.

python -m tests.bench.bench_replay_sparse
"""

from __future__ import annotations

import json
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FLOWS = 50
ROUNDS = 3
FILES = {"dense": (36_000, 0.00001), "66 minutes": (36_000, 0.11), "24 hours": (86_400, 1.0)}
"""Packets, and seconds between them."""


def make(path: Path, packets: int, gap: float) -> None:
    """Raw IP packets of FLOWS connections, of which the first of each is a SYN."""
    rng = np.random.default_rng(1)
    flows = np.concatenate((np.arange(FLOWS), rng.integers(0, FLOWS, packets - FLOWS)))
    forth, began = rng.random(packets) < 0.5, 1_700_000_000.0
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
        for number, flow in enumerate(flows.tolist()):
            opens = number < FLOWS
            client, server = (0x0A000001 + flow % 10, 40_000 + flow), (0x0A010001 + flow % 5, 9092)
            (source, sport), (target, dport) = (client, server) if opens or forth[number] else (server, client)
            head = struct.pack("!BBHHHBBHII", 0x45, 0, 40, number & 0xFFFF, 0x4000, 64, 6, 0, source, target)
            head += struct.pack("!HHIIBBHHH", sport, dport, number + 1, 0, 0x50, 2 if opens else 16, 512, 0, 0)
            at = round((began + number * gap) * 1e6)
            file.write(struct.pack("<IIII", at // 1_000_000, at % 1_000_000, 40, 40) + head)


def seconds(command: list[str]) -> str:
    """Wall and CPU seconds with start-up, each the best of some runs."""
    walls, cpus = [], []
    for _ in range(ROUNDS):
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - began)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return f"{min(walls):.2f} ({min(cpus):.2f})"


def main() -> None:
    owner = {"id": "d", "name": "d", "addresses": ["10.0.0.1"], "reads": ["10.1.0.1:9092"]}
    replay = [sys.executable, "-m", "flowmap", "replay", "-o", "json"]
    with tempfile.TemporaryDirectory() as directory:
        catalog = Path(directory) / "catalog.json"
        catalog.write_text(json.dumps({"workspace": "w", "deployments": [owner]}))
        print(f"wall (CPU) seconds, best of {ROUNDS}")
        print(f"{'file':12}{'packets':>9}{'flowmap':>15}{'--catalog':>15}{'tshark':>15}")
        for name, (packets, gap) in FILES.items():
            path = Path(directory) / "made.pcap"
            make(path, packets, gap)
            ours = seconds([*replay, str(path)])
            named = seconds([*replay, str(path), "--catalog", str(catalog)])
            theirs = seconds(["tshark", "-q", "-z", "conv,tcp", "-r", str(path)]) if shutil.which("tshark") else "-"
            print(f"{name:12}{packets:>9,}{ours:>15}{named:>15}{theirs:>15}", flush=True)


if __name__ == "__main__":
    main()
