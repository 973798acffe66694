"""How late the event loop gets while the writer reads 200,000 entries: ``python -m tests.bench.bench_loop_lag`` (root).

The peer is the same loop while a thread decodes the dump one message at a time, as a reader without columns would.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from flowmap.attribute.attribution import Attribution
from flowmap.attribute.calls.budget import CallBudget
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.engine import Engine
from flowmap.export.series_table import SeriesTable
from flowmap.export.snapshot import Snapshot
from flowmap.flows.table import FlowTable
from flowmap.sources.conntrack.dump import Dump
from flowmap.sources.conntrack.source import ConntrackSource
from flowmap.system.workers import Workers
from flowmap.wire.netlink.conntrack import decode
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder
from tests.bench.bench_conntrack import fill
from tests.support.netns import namespace

ENTRIES = 200_000
TICK = 0.002
REACH = 0.05


async def worst_lag(done: Callable[[], bool]) -> float:
    """Longest delay of a timer beyond its time, until ``done``."""
    worst = 0.0
    while not done():
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        worst = max(worst, time.perf_counter() - due)
    return worst


def engine() -> Engine:
    table = FlowTable(1_000_000)
    labels = ("namespace", "deployment_id", "deployment", "peer", "protocol")
    accounting = FlowAccounting(
        table,
        Attribution(AttributionSettings(namespaces=("default-namespace",)), table),
        SeriesTable(labels=labels, max_series=10_000, idle_after=600),
        announces_births=True,
    )
    source = ConntrackSource(resync=0.5)
    source.open()
    budget = CallBudget(rate=2, burst=5, max_in_flight=2)
    return Engine(
        accounting, source, budget, ask=lambda question, deliver: None, take_snapshot=lambda accounting: Snapshot()
    )


def lag_of_engine() -> tuple[float, float]:
    """Worst lag and seconds of the first three full reads."""
    running = engine()
    running.start()
    began = time.perf_counter()
    worst = asyncio.run(worst_lag(lambda: running.accounting.complete_reads >= 3))
    seconds = time.perf_counter() - began
    running.stop()
    running.join()
    assert running.failure is None
    return worst, seconds


class GeneralDecoder(ColumnDecoder):
    """The general decoder in the columnar one's place."""

    decode = staticmethod(decode)


def lag_of_peer() -> float:
    dump = Dump(GeneralDecoder(), Workers("dump", 1))
    thread = threading.Thread(target=lambda: [len(batch) for batch in dump.batches()])
    thread.start()
    return asyncio.run(worst_lag(lambda: not thread.is_alive()))


def main() -> None:
    with namespace() as space, space.entered():
        fill(ENTRIES)
        (ours, seconds), peer = lag_of_engine(), lag_of_peer()
    print(f"{ENTRIES:,} entries, three full reads in {seconds:.1f} s: worst loop lag {ours * 1e3:.0f} ms", end=" ")
    print(f"(reach < {REACH * 1e3:.0f}); decoding message by message {peer * 1e3:.0f} ms; ratio {ours / peer:.2f}")


if __name__ == "__main__":
    main()
