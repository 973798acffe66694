"""History: bursts of closed flows, and questions over millions of them.

``python -m tests.bench.bench_history [--flows 10000000] [--seconds 5]``. First 50,000 flows a second leave a real flow
table in bursts of 5,000: what the writer's thread pays, what history's thread pays, and how long beside it the same
rows take with ``executemany``, a row a flow with the index that a question by tuple needs. Then a file with ``--flows``
of them is made by the same code, and asked.
"""

from __future__ import annotations

import argparse
import os
import resource
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flowmap.attribute.decisions import CODE, Decision
from flowmap.flows.columns import Row
from flowmap.flows.table import FlowTable
from flowmap.history.closed_flows import MICROSECONDS, ClosedFlows, convert, copy_flows
from flowmap.history.file import Limits
from flowmap.history.reader import HistoryReader
from flowmap.history.store import HistoryStore
from flowmap.history.writer import HistoryWriter
from flowmap.model.address import Address
from flowmap.model.deployment import Owner, State
from flowmap.model.views import Connection, FlowFilter

BURST, A_SECOND, DEPLOYMENTS, CLIENTS, SERVICES = 5_000, 50_000, 200, 2_000, 50
DAY = 86_400.0


def filled(rows: int, seed: int, born: float, spread: float) -> tuple[FlowTable, dict[int, Decision]]:
    """A table whose rows are over and decided: clients of deployments talking to some services, a few for days."""
    rng, table = np.random.default_rng(seed), FlowTable(rows)
    columns = table.columns
    client = rng.integers(0, CLIENTS, rows)
    service = rng.integers(0, SERVICES, rows)
    columns.flags[:] = Row.USED | Row.ENDED
    columns.client_low[:] = np.uint64(0xFFFF_0A00_0000) + client.astype(np.uint64)
    columns.server_low[:] = np.uint64(0xFFFF_0A01_0000) + service.astype(np.uint64)
    port = rng.integers(32_768, 60_999, rows).astype(np.uint64)
    columns.ports[:] = port << np.uint64(48) | np.uint64(9092 << 32 | 6)
    ended = born + np.sort(rng.random(rows)) * spread
    life = np.where(rng.random(rows) < 0.002, rng.random(rows) * 3 * DAY, rng.exponential(5.0, rows))
    columns.ended_by[:] = np.round(ended, 1)  # a batch is read ten times a second, and shares its instants
    columns.ended_after[:] = columns.ended_by - 0.1
    columns.born_by[:] = np.round(ended - life, 1)
    columns.born_after[:] = columns.born_by - 0.1
    sent = rng.lognormal(8, 2, rows).astype(np.uint64)
    columns.last[:] = np.stack((sent, sent * np.uint64(7), sent >> np.uint64(10), sent >> np.uint64(9)), axis=1)
    columns.state[:] = CODE[State.ATTRIBUTED]
    columns.verdict[:] = client % DEPLOYMENTS
    owners = [
        Owner("w", "default-namespace", f"{n:08x}-0000-4000-8000-{n:012x}", f"job-{n}") for n in range(DEPLOYMENTS)
    ]
    decisions = {n: Decision(State.ATTRIBUTED, frozenset({owner}), {}, 0.0) for n, owner in enumerate(owners)}
    return table, decisions


def copied(table: FlowTable, count: int, decisions: dict[int, Decision]) -> ClosedFlows:
    """The first ``count`` flows as history stores them."""
    rows = np.arange(count, dtype=np.int32)
    return convert(copy_flows(table, rows, decisions, epoch=0.0, source="bench"))


def cpu_of(thread: threading.Thread) -> float:
    """CPU seconds of one thread of this process."""
    assert thread.native_id is not None
    fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bursts(directory: Path, seconds: int) -> float:
    """CPU seconds that history's thread takes for a second of bursts."""
    table, decisions = filled(BURST, 1, 0.0, 0.1)
    rows = np.arange(BURST, dtype=np.int32)
    history_writer = HistoryWriter(str(directory / "bursts.db"), Limits(7 * DAY, 1 << 30), source="bench")
    history_writer.open()
    history_writer.start()
    spans, late, begun = [], 0.0, time.perf_counter()
    for n in range(seconds * A_SECOND // BURST):
        due = begun + n * BURST / A_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        at = time.perf_counter()
        late = max(late, at - due)
        history_writer.left(table, rows, decisions)
        spans.append(time.perf_counter() - at)
    queued = history_writer.figures.queued
    history_writer.flush().result(60)
    own = cpu_of(history_writer) / seconds
    figures = history_writer.figures
    history_writer.stop()
    history_writer.join()
    print(f"{A_SECOND:,} flows/s in bursts of {BURST:,} for {seconds} s")
    print(
        f"  writer's thread: {np.median(spans) * 1e3:.2f} ms a burst (most {max(spans) * 1e3:.1f}), at most "
        f"{late * 1e3:.1f} ms late"
    )
    print(
        f"  history's thread: {own * 1e3:.0f} ms of CPU a second; {queued:,} flows waited at the end, lost "
        f"{sum(figures.lost.values())}; {figures.size / max(1, figures.flows):.1f} bytes a flow"
    )
    return own


def executemany(directory: Path, own: float) -> None:
    """The peer: a row a flow."""
    columns, decisions = filled(A_SECOND, 1, 1.7e9, 1.0)
    kept = copied(columns, A_SECOND, decisions)
    database = sqlite3.connect(directory / "peer.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    names = list(kept.columns)
    database.execute(f"CREATE TABLE flow ({', '.join(f'{name} INTEGER' for name in names)})")
    database.execute("CREATE INDEX ends ON flow (client_low, server_low, ports)")
    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_THREAD)
        arrays = [column.astype(np.int64).tolist() for column in kept.columns.values()]
        database.execute("BEGIN")
        database.executemany(f"INSERT INTO flow VALUES ({', '.join('?' * len(names))})", zip(*arrays, strict=True))
        database.execute("COMMIT")
        after = resource.getrusage(resource.RUSAGE_THREAD)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    (size,) = database.execute("SELECT page_count * 4096.0 FROM pragma_page_count").fetchone()
    database.close()
    print(f"  executemany, same rows with an index: {best * 1e3:.0f} ms of CPU; {size / 3 / A_SECOND:.0f} bytes a flow")
    print(f"  ratio {own / best:.2f}")


def build(path: str, flows: int) -> ClosedFlows:
    """A file of so many flows, a week of them; returns the last part."""
    limits = Limits(365 * DAY, 8 << 30)
    store, part = HistoryStore(path, limits), 200 * limits.block_flows
    store.open()
    begun, done, now = time.perf_counter(), 0, 1.7e9
    while done < flows:
        count = min(part, flows - done)
        columns, decisions = filled(count, done, now - 7 * DAY * (flows - done) / flows, 7 * DAY * count / flows)
        kept = copied(columns, count, decisions)
        for at in range(0, count, limits.block_flows):
            store.write(kept.take(slice(at, at + limits.block_flows)), (), now=now)
        done += count
    seconds = time.perf_counter() - begun
    print(
        f"{store.flows:,} flows in {store.size() / 1e6:.0f} MB, {store.size() / store.flows:.1f} bytes a flow; "
        f"made in {seconds:.0f} s"
    )
    store.close()
    return kept


def best_of(times: int, ask: Callable[[int], object]) -> str:
    spans = []
    for n in range(times):
        begun = time.perf_counter()
        ask(n)
        spans.append((time.perf_counter() - begun) * 1e3)
    return f"median {np.median(spans):7.1f} ms, most {max(spans):7.1f} ms"


def questions(path: str, kept: ClosedFlows) -> None:
    history_reader = HistoryReader(path, peer_name=lambda end: str(end.address), translated_ends=True, seconds=60.0)
    some = np.random.default_rng(5).integers(0, len(kept), 20)

    def ends(n: int) -> tuple[Address, int, Address, int]:
        row = int(some[n])
        ports = int(kept.columns["ports"][row])
        client, server = (Address(0, int(kept.columns[f"{end}_low"][row])) for end in ("client", "server"))
        return client, ports >> 48, server, ports >> 32 & 0xFFFF

    def moment(n: int) -> float:
        row = int(some[n])
        return float(kept.columns["born_by"][row] + kept.columns["ended_by"][row]) / 2 / MICROSECONDS

    def whole(n: int) -> None:
        assert history_reader.at(Connection(*ends(n), 6), moment(n)), "it is there"

    def without_port(n: int) -> None:
        client, _, server, port = ends(n)
        assert history_reader.at(Connection(client, None, server, port, 6), moment(n)), "it is there"

    def long_ago(n: int) -> None:
        history_reader.at(Connection(*ends(n), 6), 1.7e9 - (n + 1) * DAY / 4)

    print(f"  by tuple and time             {best_of(20, whole)}")
    print(f"  the same, some days before    {best_of(20, long_ago)}")
    print(f"  without the client's port     {best_of(20, without_port)}")
    day = FlowFilter(since=1.7e9 - DAY, until=1.7e9, deployment="job-7")
    print(f"  a page of a deployment's day  {best_of(3, lambda _: history_reader.flows(day, 100))}")
    print(f"  its peers of that day         {best_of(3, lambda _: history_reader.peers('job-7', 1.7e9 - DAY, 1.7e9))}")
    print(f"  its peers of the week         {best_of(1, lambda _: history_reader.peers('job-7', 0.0, 1.7e9))}")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        executemany(Path(directory), bursts(Path(directory), options.seconds))
        path = str(Path(directory) / "history.db")
        questions(path, build(path, options.flows))


if __name__ == "__main__":
    main(sys.argv[1:])
