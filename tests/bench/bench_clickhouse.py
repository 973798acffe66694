"""ClickHouse: what sending a history costs, what rows take on disk, and how long both ends of a day take to join.

``python -m tests.bench.bench_clickhouse [--flows 1000000] [--rows 1 3 10]``. A history file is sent to chDB in another
process, over HTTP through the stand-in of the tests. Peers in the same run: reading the same blocks without
sending them, and the engine's own insert of the same rows as one body. Then each of ``--rows`` million rows (both ends
of half as many connections of one day, 2,000 deployments) are made by the engine, in another process each, and joined.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from flowmap.clickhouse import bodies
from flowmap.clickhouse.compression import compress
from flowmap.clickhouse.reader import StoreReader
from flowmap.clickhouse.sender import Sender
from flowmap.clickhouse.server import Server, ServerAddress
from flowmap.history.block import Block
from flowmap.history.file import Limits
from flowmap.history.spool import Part, Spool
from flowmap.history.store import HistoryStore
from flowmap.model.views import Connection, FlowFilter
from tests.bench.bench_history import copied, filled

DAY = (
    "since = toDateTime64('2026-11-29 00:00:00', 6, 'UTC'), "
    "until = toDateTime64('2026-11-29 23:59:59.999999', 6, 'UTC')"
)
DAY_BEGAN = datetime(2026, 11, 29, tzinfo=UTC).timestamp()
DEPLOYMENTS, SERVICES = 2_000, 20


@contextmanager
def server() -> Iterator[tuple[Server, int]]:
    """The engine in another process, with all tables, and the id of the process."""
    command = [sys.executable, "-m", "tests.clickhouse.stand_in"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        url, database = process.stdout.readline().split()
        made = Server(ServerAddress(url, database))
        try:
            yield made, process.pid
        finally:
            made.close()
            process.stdin.close()


def history_of(path: Path, flows: int) -> None:
    """A history file with so many flows of an hour."""
    store = HistoryStore(str(path), Limits(retain=1e9, max_size=4 << 30))
    store.open()
    size = store.limits.block_flows
    for n, first in enumerate(range(0, flows, size)):
        table, decisions = filled(min(size, flows - first), n, time.time() - 3600 + n * 3600 * size / flows, 10.0)
        store.write(copied(table, min(size, flows - first), decisions), (), now=time.time())
    store.close()


def send(flows: int) -> None:
    origin = bodies.Origin("bench", local_networks=())
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "history.db"
        history_of(path, flows)
        spool = Spool(str(path))
        began, cpu = time.perf_counter(), time.process_time()
        position = spool.position()
        stored = 0
        blocks: list[Block] = []
        for part in spool.parts(1, flows):
            part.block.flows()
            blocks.append(part.block)
            stored += len(part)
        reading, reading_cpu = time.perf_counter() - began, time.process_time() - cpu
        assert stored == flows
        print(f"read without sending  {reading:6.2f} s  {reading_cpu:5.2f} s of CPU")
        with server() as (there, _):
            sender = Sender(spool, there, origin)
            began, cpu, usage = time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF)
            while sender.figures.sent < flows:
                sender.turn()
                assert sender.figures.problem is None, sender.figures.problem
            took, used = time.perf_counter() - began, time.process_time() - cpu
            system = resource.getrusage(resource.RUSAGE_SELF).ru_stime - usage.ru_stime
            print(f"send                  {took:6.2f} s  {used:5.2f} s of CPU ({system:.2f} s of it in the kernel)")
            there.run("OPTIMIZE TABLE ends_1 FINAL", seconds=600)
            size = "SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'ends_1'"
            ((rows, disk),) = there.rows(size)
            print(
                f"on disk               {int(disk) / int(rows):6.1f} bytes a row of {rows:,}; "
                f"in the history {path.stat().st_size / flows:.1f}"
            )
            parts = [Part(1 + n * len(blocks[0]), 0, block) for n, block in enumerate(blocks)]
            rows_again = b"".join(bodies.encode(part, position.file + 1, origin) for part in parts)
            body = compress(rows_again)
            into = f"INSERT INTO ends_1 ({', '.join(bodies.COLUMNS)}) FORMAT Native"
            began = time.perf_counter()
            there.insert(into, body.data, encoding=body.encoding)
            took = time.perf_counter() - began
            print(f"one insert of them    {took:6.2f} s, a body of {len(body.data) / flows:.1f} bytes a row")


def made_rows(rows: int) -> str:
    """Both ends of connections of one day."""
    half = rows // 2
    return f"""
INSERT INTO ends_1 (
    host, spool, number, protocol, low, low_port, high, high_port, swapped, started, ended,
    transmit_bytes, receive_bytes, transmit_packets, receive_packets, bytes, state, deployments, rule
)
SELECT
    arrayJoin([concat('host-', toString(deployment % 1000)), concat('server-', toString(service))]),
    1, number, 6,
    toIPv6(IPv4NumToString(toUInt32(0x0A000000 + deployment * 2 + hash % 2))),
    32768 + cityHash64(number) % 28000,
    toIPv6(IPv4NumToString(toUInt32(0x0AC80000 + service))), 9092, 0,
    toDateTime64('2026-11-29 00:00:00', 6, 'UTC')
        + toIntervalMicrosecond(toUInt64(number * (86390000000 / {half}))) AS at,
    at + toIntervalMicrosecond(hash % 5000000), hash % 100000, intDiv(hash, 7) % 1000000, hash % 100000 / 700 + 1,
    intDiv(hash, 7) % 1000000 / 1000 + 1, 'ip', 'attributed', [concat('ws/ns/', toString(deployment))], 'inside'
FROM (
    SELECT
        number, cityHash64(number, 1) AS hash, cityHash64(number, 2) % {DEPLOYMENTS} AS deployment,
        cityHash64(number, 3) % {SERVICES} AS service
    FROM numbers({half})
)
"""


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pid: int) -> float:
    """The largest size of a process since `forget_peak`, in GB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def join(rows: int) -> None:
    with server() as (there, pid):
        began = time.perf_counter()
        there.run(made_rows(rows), seconds=3000)
        parts = "SELECT count(), sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'ends_1'"
        ((count, disk),) = there.rows(parts)
        made = time.perf_counter() - began
        print(f"{rows:,} rows, made in {made:.1f} s: {count} parts, {disk / rows:.1f} bytes a row", flush=True)
        days = []
        for deployment in (7, 77, 777):
            began = time.perf_counter()
            there.rows(
                "SELECT peer, count(), sum(transmit_bytes) "
                f"FROM connections_of({DAY}, deployment = 'ws/ns/{deployment}') GROUP BY peer",
                seconds=600,
            )
            days.append(time.perf_counter() - began)
        print(f"  a deployment's day    {sorted(days)[1]:7.2f} s", flush=True)
        newest, one, peers = read(there)
        print(
            f"  read by flowmap: the newest 1,000 in {newest:.2f} s, one at a moment in {one:.2f} s, "
            f"a deployment's peers of the day in {peers:.2f} s",
            flush=True,
        )
        began = time.perf_counter()
        ((plain,),) = there.rows("SELECT sum(transmit_bytes) FROM ends_1 FINAL", seconds=600)
        print(f"  summed                {time.perf_counter() - began:7.2f} s", flush=True)
        began = time.perf_counter()
        forget_peak(pid)
        ((connections, joined),) = there.rows(
            f"SELECT count(), sum(transmit_bytes) FROM connections({DAY})", seconds=3000
        )
        both = time.perf_counter() - began
        assert (connections, 2 * joined) == (rows // 2, plain), "each connection once"
        print(f"  joined                {both:7.2f} s, {rows / both / 1e6:.2f} M/s, at most {peak(pid):.1f} GB")


def read(there: Server) -> tuple[float, float, float]:
    """Seconds for what the page, `who` and `peers` read."""
    there.run("INSERT INTO deployment_names_1 VALUES ('ws/ns/77', 'ws', 'ns', '77', 'orders', now64(6))")
    reader = StoreReader(there, translated_ends=False, clock=lambda: DAY_BEGAN + 86400.0)
    began = time.perf_counter()
    newest, _ = reader.flows(FlowFilter(since=DAY_BEGAN, until=DAY_BEGAN + 86400.0), 1000, None)
    listed = time.perf_counter()
    assert len(newest) == 1000
    flow = newest[500].view
    wanted = Connection(flow.client.address, flow.client.port, flow.server.address, flow.server.port, 6)
    assert flow.ended_at is not None
    found = reader.at(wanted, flow.ended_at - 0.001)
    looked_up = time.perf_counter()
    assert len(found) == 1
    assert reader.peers("orders", DAY_BEGAN, DAY_BEGAN + 86400.0).peers
    return listed - began, looked_up - listed, time.perf_counter() - looked_up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=1_000_000)
    parser.add_argument("--rows", type=float, nargs="*", default=[1, 3, 10], help="million rows")
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} at the start")
    if arguments.flows:
        send(arguments.flows)
    for millions in arguments.rows:
        join(round(millions * 1_000_000))
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
