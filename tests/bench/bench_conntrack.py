"""The conntrack path against its peers, in a network namespace of its own (needs root).

    python -m tests.bench.bench_conntrack [--entries 200000] [--seconds 10] [--rate 40000]

Full read: recv of the same dump without decoding, and ``conntrack -L -o extended``. Events: made by another process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from flowmap.flows.records.batch import FlowBatch
from flowmap.flows.table import FlowTable
from flowmap.sources.base import Lost
from flowmap.sources.conntrack.dump import CHUNK, Dump
from flowmap.sources.conntrack.source import ConntrackSource
from flowmap.sources.netlink_socket import NETLINK_NETFILTER, NetlinkSocket
from flowmap.system.workers import Workers
from flowmap.wire.netlink.conntrack import CtAttribute, CtMessage, encode_dump_request
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder
from flowmap.wire.netlink.messages import Control, MessageFlag, decode_messages, decode_status, encode_attribute
from tests.support.conntrack_messages import encode_entry
from tests.support.netns import Namespace, enter, namespace

SEQUENCE = 0x5EED_5EED
Apply = Callable[[FlowBatch, float], None]


def entry(number: int) -> dict[str, int]:
    """One connection; every fifth is UDP, every seventh IPv6, as a mixed host has them."""
    v6 = number % 7 == 0
    prefix = 0x2001_0DB8 << 96 if v6 else 0
    client, server = prefix | 10 << 24 | number // 50_000, prefix | 10 << 24 | 200 << 16 | number % 16
    family, protocol = ("v6" if v6 else "v4"), (17 if number % 5 == 0 else 6)
    values = {"status": 0xE}
    if protocol == 6:
        values["tcp_state"] = 3
    for side, source, destination in (("original", client, server), ("reply", server, client)):
        values[f"{side}_{family}_source"], values[f"{side}_{family}_destination"] = source, destination
        values[f"{side}_protocol"] = protocol
    values["original_source_port"] = values["reply_destination_port"] = 1024 + number % 50_000
    values["original_destination_port"] = values["reply_source_port"] = 9092
    return values


def requests(numbers: range, operation: CtMessage, size: int = 100) -> Iterator[bytes]:
    """Requests to create or delete entries, many in a datagram; only the last of each asks for an answer."""
    timeout = encode_attribute(CtAttribute.TIMEOUT, (3600).to_bytes(4, "big"))
    flags = MessageFlag.REQUEST | (MessageFlag.CREATE | MessageFlag.EXCL if operation is CtMessage.NEW else 0)
    for start in range(numbers.start, numbers.stop, size):
        part = [
            encode_entry(operation, flags, entry(number), extra=timeout)
            for number in range(start, min(start + size, numbers.stop) - 1)
        ]
        last = min(start + size, numbers.stop) - 1
        part.append(encode_entry(operation, flags | MessageFlag.ACK, entry(last), extra=timeout))
        yield b"".join(part)


def submit(channel: NetlinkSocket, request: bytes) -> None:
    channel.send(request)
    for message in decode_messages(channel.receive(wait=5).data):
        if message.type == Control.ERROR and decode_status(message).errno:
            raise RuntimeError(f"kernel: {decode_status(message)}")


def fill(entries: int) -> None:
    channel = NetlinkSocket(NETLINK_NETFILTER)
    for request in requests(range(entries), CtMessage.NEW):
        submit(channel, request)
    channel.close()


@contextmanager
def measured(label: str, n: int) -> Iterator[dict[str, float]]:
    result: dict[str, float] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield result
    result["wall"], result["cpu"] = time.perf_counter() - wall, time.process_time() - cpu
    if label:
        per = result["cpu"] / n * 1e6
        print(f"  {label:<34} {result['wall']:7.3f} s wall {result['cpu']:7.3f} s CPU {per:7.2f} µs CPU an entry")


def bare_receive() -> int:
    """Receive a dump in the same slices and only look for its end."""
    channel = NetlinkSocket(NETLINK_NETFILTER, chunk=CHUNK)
    channel.send(encode_dump_request(SEQUENCE))
    size = 0
    while True:
        received = channel.receive(wait=5)
        size += len(received.data)
        if received.drained:
            channel.close()
            return size


def read_and_decode(apply: Apply) -> int:
    dump, n = Dump(ColumnDecoder(), Workers("dump", 1)), 0
    for batch in dump.batches():
        apply(batch, time.monotonic())
        n += len(batch)
    assert dump.complete
    return n


def table(entries: int) -> Apply:
    flows = FlowTable(max_flows=entries * 2)

    def apply(batch: FlowBatch, now: float) -> None:
        flows.apply(batch, now=now, read_at=now)

    return apply


class FullReads:
    """A flow table that full reads are applied to."""

    def __init__(self, entries: int, *, growing: bool = False) -> None:
        """``growing``: each entry has sent more at each read."""
        self._flows, self._growing, self._reads = FlowTable(max_flows=entries * 2), growing, 0

    def __call__(self) -> None:
        self._reads += 1
        self._flows.begin_read()
        read_and_decode(self._apply)
        self._flows.end_read(complete=True, now=time.monotonic())

    def _apply(self, batch: FlowBatch, now: float) -> None:
        if self._growing:
            batch.transmit_bytes += np.uint64(self._reads)
        self._flows.apply(batch, now=now, read_at=now)


def bench_full_read(entries: int, rounds: int = 3) -> None:
    """The best of ``rounds`` each, taken in turns, as the machine may be busy."""
    print(f"full read of {entries} entries")
    best: dict[str, float] = {}
    cpu: dict[str, float] = {}
    steady, growing = FullReads(entries), FullReads(entries, growing=True)
    peers: dict[str, Callable[[], object]] = {
        "bare recv": bare_receive,
        "recv and decode": lambda: read_and_decode(lambda batch, now: None),
        "recv, decode, apply to empty table": lambda: FullReads(entries)(),
        "recv, decode, apply again": steady,
        "the same, every entry has grown": growing,
        "conntrack -L -o extended": lambda: subprocess.run(
            ["conntrack", "-L", "-o", "extended"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
        ),
    }
    steady()
    growing()
    for _ in range(rounds):
        for label, run in peers.items():
            with measured(label, entries) as result:
                run()
            best[label] = min(best.get(label, 1e9), result["wall"])
            cpu[label] = min(cpu.get(label, 1e9), result["cpu"])
    for label in list(peers)[1:5]:
        bare, tool = best[label] / best["bare recv"], best[label] / best["conntrack -L -o extended"]
        print(f"  {label}: {bare:.2f} × bare recv (reach ≤ 1.3), {tool:.2f} × conntrack -L (reach ≤ 0.65)", end="; ")
        print(f"CPU {cpu[label] / cpu['bare recv']:.2f} × bare recv")


def bench_decode(rounds: int = 5) -> None:
    """Decode alone, from memory, slice by slice as they were received."""
    channel = NetlinkSocket(NETLINK_NETFILTER, chunk=CHUNK)
    channel.send(encode_dump_request(SEQUENCE))
    slices, drained = [], False
    while not drained:
        received = channel.receive(wait=5)
        slices.append((bytes(received.data), received.starts))
        drained = received.drained
    channel.close()
    decoder, best, n = ColumnDecoder(), 1e9, 0
    for _ in range(rounds):
        with measured("", 1) as result:
            n = sum(len(decoder.decode(data, starts).batch) for data, starts in slices)
        best = min(best, result["cpu"])
    size = sum(len(data) for data, _ in slices) / n
    print(f"decode alone: {best / n * 1e6:.2f} µs CPU an entry of {size:.0f} bytes (reach ≤ 1)")


def generate(path: str, pairs: int, rate: float, ready: object) -> None:
    """Create and delete entries at ``rate`` events a second, in the namespace at ``path``."""
    with open(path) as file:
        enter(file.fileno())
    channel = NetlinkSocket(NETLINK_NETFILTER)
    batches = [
        request
        for start in range(0, 4000, 500)
        for operation in (CtMessage.NEW, CtMessage.DELETE)
        for request in requests(range(start, start + 500), operation)
    ]
    ready.wait()  # type: ignore[attr-defined]
    began, sent, turn = time.monotonic(), 0, 0
    while sent < 2 * pairs:
        submit(channel, batches[turn % len(batches)])
        turn, sent = turn + 1, sent + 100
        ahead = sent / rate - (time.monotonic() - began)
        if ahead > 0.005:
            time.sleep(ahead)
    print(f"  generator: {sent} events at {sent / (time.monotonic() - began):,.0f}/s")


def bench_events(space: Namespace, rate: float, seconds: float) -> None:
    """What the source delivers, decoded and applied, while another process makes and deletes entries."""
    pairs = int(rate * seconds / 2)
    print(f"events: {2 * pairs} offered at {rate:,.0f}/s, 64 MiB receive buffer")
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    child = context.Process(target=generate, args=(space.path, pairs, rate, ready))
    child.start()
    source = ConntrackSource(receive_buffer=64 << 20, resync=3600)
    source.open()
    apply, n, lost = table(200_000), 0, 0
    for _ in source.poll():
        pass
    time.sleep(1)
    ready.set()
    cpu, end = time.process_time(), time.monotonic() + seconds + 20
    user = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    idle = 0
    while idle < 10 and time.monotonic() < end:
        before = n
        for step in source.poll():
            if isinstance(step, FlowBatch):
                apply(step, time.monotonic())
                n += len(step)
            elif isinstance(step, Lost):
                lost += 1
        idle = idle + 1 if n == before and n else 0
        time.sleep(0.1)
    cpu = time.process_time() - cpu
    user = resource.getrusage(resource.RUSAGE_SELF).ru_utime - user
    child.join()
    source.close()
    print(
        f"  received {n} of {2 * pairs}, losses {lost}; {n / cpu:,.0f} a CPU second (reach ≥ 60,000); user {user:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=40_000)
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root: it makes a network namespace")
    with namespace() as space, space.entered():
        space.track()
        space.sysctl("net.netfilter.nf_conntrack_acct", 1)
        fill(options.entries)
        bench_full_read(options.entries)
        bench_decode()
    with namespace() as space, space.entered():
        space.track()
        space.sysctl("net.netfilter.nf_conntrack_acct", 1)
        bench_events(space, options.rate, options.seconds)


if __name__ == "__main__":
    main()
