"""flowmap replay of a pcap made on the fly, beside scapy's PcapReader, tcpdump and tshark on slices of the same file.

python -m tests.bench.bench_replay [packets]
"""

from __future__ import annotations

import itertools
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flowmap.catalog_file.catalog import CatalogFile
from flowmap.catalog_file.matching import Index
from flowmap.config import Config
from flowmap.replay.capture import CaptureReplay
from flowmap.replay.capture_file import CaptureFile
from flowmap.replay.capture_owners import catalog_changes, from_catalog, with_catalog

PACKETS, FLOWS, CHUNK = 2_000_000, 5_000, 20_000
MICROSECONDS = 4  # between two packets: 250,000 a second
ROUNDS = 3
SCAPY, TSHARK = 20_000, 200_000  # packets of their slices


def chunk(rng: random.Random, first: bool) -> tuple[np.ndarray, np.ndarray]:
    """Records of CHUNK packets of 450 bytes in the mean, and where they begin; the first opens every flow."""
    made, starts, at = [], [], 0
    for number in range(CHUNK):
        flow = number if first and number < FLOWS else rng.randrange(FLOWS)
        opens = first and number < FLOWS
        size = 0 if opens else rng.randrange(0, 792)
        client, server = (0x0A000001 + flow % 250, 32_768 + flow), (0x0A010001 + flow % 20, 9092)
        source, target = (client, server) if opens or rng.random() < 0.5 else (server, client)
        head = struct.pack("!BBHHHBBHII", 0x45, 0, 40 + size, number & 0xFFFF, 0x4000, 64, 6, 0, source[0], target[0])
        head += struct.pack("!HHIIBBHHH", source[1], target[1], number, 0, 0x50, 2 if opens else 16, 512, 0, 0)
        frame = b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + head + bytes(size)
        starts.append(at)
        made.append(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
        at += len(made[-1])
    return np.frombuffer(b"".join(made), np.uint8).copy(), np.array(starts)


def make(path: Path, packets: int) -> None:
    rng, began = random.Random(1), 1_700_000_000 * 1_000_000
    first, later = chunk(rng, True), chunk(rng, False)
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number in range(packets // CHUNK):
            data, starts = later if number else first
            times = began + (number * CHUNK + np.arange(CHUNK)) * MICROSECONDS
            stamps = np.stack((times // 1_000_000, times % 1_000_000), axis=1).astype("<u4").view(np.uint8)
            for place in range(8):
                data[starts + place] = stamps[:, place]
            file.write(data.tobytes())


def ours(path: Path) -> tuple[float, float, int]:
    """Wall and CPU seconds after start-up, and packets."""
    entries = [
        {"id": f"d{n}", "name": f"d{n}", "addresses": [f"10.0.0.{n}"], "reads": ["10.1.0.1:9092"]} for n in range(1, 9)
    ]
    catalog, grace = CatalogFile.model_validate({"deployments": entries}), Config().attribute.grace
    config, owners = with_catalog(Config(), catalog), from_catalog(Index(catalog), grace=grace)
    with CaptureFile(path) as file:
        changes = catalog_changes(catalog, grace=grace)
        replay = CaptureReplay(file, config, owners, origin="catalog", changes=changes)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in replay.run():
            pass
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert replay.snapshot().conserved()
        assert not replay.findings()
        return wall, cpu, replay.steps.packets


def scapys(path: Path) -> tuple[float, float]:
    """Wall and CPU seconds a packet of reading with dissection."""
    from scapy.all import PcapReader  # as users import it: with all layers

    wall, cpu = time.perf_counter(), time.process_time()
    with PcapReader(str(path)) as reader:
        number = sum(1 for _ in itertools.islice(reader, SCAPY))
    return (time.perf_counter() - wall) / number, (time.process_time() - cpu) / number


def tools(path: Path, packets: int) -> Iterator[tuple[str, float]]:
    """Wall seconds a packet of other programs."""
    for name, number, command in (
        ("tcpdump -n > /dev/null", packets, ["tcpdump", "-nr", str(path)]),
        ("tshark -q -z conv,tcp", TSHARK, ["tshark", "-c", str(TSHARK), "-q", "-z", "conv,tcp", "-r", str(path)]),
    ):
        if shutil.which(command[0]) is None:
            print(f"{command[0]} is not installed: not compared")
            continue
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        yield name, (time.perf_counter() - began) / min(number, packets)


def main() -> None:
    packets = int(sys.argv[1]) // CHUNK * CHUNK if len(sys.argv) > 1 else PACKETS
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "made.pcap"
        make(path, packets)
        print(f"{packets:,} packets, {FLOWS:,} flows, {path.stat().st_size >> 20} MiB; best of {ROUNDS}")
        rounds = [ours(path) for _ in range(ROUNDS)]
        wall, cpu = min(row[0] for row in rounds), min(row[1] for row in rounds)
        assert rounds[0][2] == packets
        rate, each = packets / wall / 1e6, cpu / packets * 1e6
        print(f"flowmap replay     {rate:6.2f} million packets/s, {each:.2f} µs CPU a packet")
        rates = [scapys(path) for _ in range(ROUNDS)]
        peer, peer_cpu = min(row[0] for row in rates), min(row[1] for row in rates)
        print(
            f"scapy PcapReader   {peer * 1e6:6.1f} µs a packet (of {SCAPY:,}); "
            f"times {peer / (wall / packets):.0f}, CPU times {peer_cpu / (cpu / packets):.0f}"
        )
        for name, each in tools(path, packets):
            print(f"{name:24} {each * 1e6:6.2f} µs a packet; times {each / (wall / packets):.1f}")


if __name__ == "__main__":
    main()
