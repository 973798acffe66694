"""A full read of 10,000 loopback sockets through the sockets source, beside the bare read of the same dump and ``ss``.

python -m tests.bench.bench_sockets [sockets]
"""

from __future__ import annotations

import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from flowmap.flows.records.batch import FlowBatch
from flowmap.sources.netlink_socket import NETLINK_SOCK_DIAG, NetlinkSocket
from flowmap.sources.sockets.payload import CONNECTED
from flowmap.sources.sockets.source import SocketsSource
from flowmap.wire.netlink.inet_diag import FAMILIES, encode_dump
from flowmap.wire.netlink.messages import Control, decode_messages

ROUNDS = 15


def connections(number: int) -> list[socket.socket]:
    """``number`` sockets: half of them clients', half of them servers'."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, number + 200), hard))
    held: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    held.append(listener)
    while len(held) <= number:
        client = socket.create_connection(listener.getsockname(), source_address=(f"127.0.1.{len(held) % 200 + 1}", 0))
        server, _ = listener.accept()
        client.sendall(b"x" * 100)
        server.recv(100)
        held += [client, server]
    return held


def bare_read() -> int:
    """Receive both dumps and look at nothing but where they end."""
    reader, size = NetlinkSocket(NETLINK_SOCK_DIAG, receive_buffer=1 << 20), 0
    for family in FAMILIES:
        reader.send(encode_dump(family, CONNECTED))
        done = False
        while not done:
            received = reader.receive(wait=1.0)
            size += len(received.data)
            last = received.data[received.starts[-1] :]
            done = len(last) < 64 and any(message.type == Control.DONE for message in decode_messages(last))
    reader.close()
    return size


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Median and least wall time in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times), min(times)


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    held = connections(number)
    source = SocketsSource(interval=0.0)
    source.open()
    longest: list[float] = []

    def read() -> int:
        flows, before, worst = 0, time.perf_counter(), 0.0
        for step in source.poll():
            now = time.perf_counter()
            worst, before = max(worst, now - before), now
            flows += len(step) if isinstance(step, FlowBatch) else 0
        longest.append(worst * 1e3)
        return flows

    began = time.perf_counter()
    flows = read()
    first = (time.perf_counter() - began) * 1e3
    cpu = time.process_time()
    again, least = timed(read)
    cpu = (time.process_time() - cpu) / ROUNDS * 1e3
    bare, bare_least = timed(bare_read)
    print(f"{number} sockets, {flows} flows; median (least) of {ROUNDS}")
    print(f"source, first read   {first:8.1f} ms")
    worst = statistics.median(longest)
    print(f"source, later reads  {again:8.1f} ({least:.1f}) ms   CPU {cpu:.1f} ms, longest step {worst:.1f} ms")
    print(
        f"bare read            {bare:8.1f} ({bare_least:.1f}) ms   ratio {again / bare:.2f} ({least / bare_least:.2f})"
    )
    if shutil.which("ss"):
        ss, ss_least = timed(lambda: subprocess.run(["ss", "-tniH"], stdout=subprocess.DEVNULL, check=True))
        print(f"ss -tni >/dev/null   {ss:8.1f} ({ss_least:.1f}) ms   ratio {again / ss:.2f} ({least / ss_least:.2f})")
    try:
        from pyroute2 import DiagSocket
    except ImportError:
        print("pyroute2 is not installed: not compared")
    else:
        with DiagSocket() as diag:
            diag.bind()
            states = CONNECTED
            began = time.perf_counter()
            rows = [list(diag.get_sock_stats(family=family, states=states, extensions=2)) for family in FAMILIES]
            pyroute = (time.perf_counter() - began) * 1e3
            print(f"pyroute2 DiagSocket  {pyroute:8.1f} ms   ratio {again / pyroute:.3f}")
            assert sum(map(len, rows)) >= number
    source.close()
    for each in held:
        each.close()


if __name__ == "__main__":
    main()
