"""The first view of the page on a big host, in a real Chromium; and what following flows costs the engine.

``python -m tests.bench.bench_page [--deployments 1000 --peers 5000 --flows 100000]``. The first view is from the start
of the navigation to the first link on the map: in a new browser, then the median of later ones. Its peer is the answer
that a page without the daemon's map would load: ``/api/v1/deployments``. The peer of following is reading a page
of 1,000 flows, as ``flows --follow`` did before.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from typing import Any

import httpx
import numpy as np

from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.export.series_table import SeriesKey, SeriesTable
from flowmap.export.snapshot import Snapshot
from flowmap.flows.records.batch import RecordKind
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.traffic_map import MapQuery, TrafficMap
from flowmap.model.views import DeploymentView, FlowFilter
from flowmap.query.live import LiveQueries
from flowmap.query.map.building import LiveMap
from flowmap.query.traffic import deployment_views
from tests.support.accounting import accounting_for
from tests.support.browser import browser
from tests.support.fake_backend import FakeBackend
from tests.support.records import Record, batch_of, replace
from tests.support.served import served
from tests.support.whole_daemon import in_thread

RUNS = 5
DRAWN = """
const done = arguments[0];
const look = () => document.querySelector("[data-kind=link]") ? done(performance.now()) : requestAnimationFrame(look);
look();
"""
LOADED = """
const parts = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
return parts.map((part) => [part.name, part.transferSize, part.responseEnd]);
"""


def snapshot(deployments: int, peers: int) -> tuple[SeriesTable, tuple[DeploymentInfo, ...]]:
    """Two peers at least for each deployment, as many series as peers or more."""
    owners = [Owner("", f"ns-{one % 5}", f"id-{one:06}", f"deployment-{one}") for one in range(deployments)]
    table = SeriesTable(
        labels=["namespace", "deployment_id", "deployment", "peer", "protocol"], max_series=10 * peers, idle_after=600
    )
    for number in range(2 * peers):
        peer = f"10.1.{number % peers // 250}.{number % peers % 250}:9092"
        table.series(SeriesKey("deployment", (owners[number * 7 % deployments],), "", peer, "tcp"), now=0)
    return table, tuple(DeploymentInfo(owner, labels={"team": "orders"}) for owner in owners)


class BigBackend(FakeBackend):
    """The map and the deployments of a big host."""

    def __init__(self, deployments: int, peers: int) -> None:
        super().__init__()
        self.live = LiveMap()
        table, infos = snapshot(deployments, peers)
        random = np.random.default_rng(1)
        for second in (0, 15):
            used = np.arange(table.used, dtype=np.int32)
            counts = random.integers(0, 1 << 20, table.used).astype(np.uint64)
            table.credit(used, counts, counts, counts, counts, now=0)
            self.big = Snapshot(taken_at=1_700_000_000.0 + second, series_table=table.freeze(), deployments=infos)
            self.live.sample(self.big)

    async def traffic_map(self, query: MapQuery, *_: Any, **__: Any) -> TrafficMap:
        return await asyncio.to_thread(self.live.build, self.big, query)

    async def deployments(self) -> tuple[DeploymentView, ...]:
        return await asyncio.to_thread(
            lambda: tuple(deployment_views(self.big.series_table, self.big.deployments, health=False))
        )


def first_view(deployments: int, peers: int) -> None:
    """Print the times and sizes of the first view, and of its peer."""
    backend = BigBackend(deployments, peers)
    with in_thread(lambda: served(backend=backend)) as made, browser() as tab:
        times, sizes = [], []
        for _ in range(RUNS + 1):
            tab.open(made.server.url)
            times.append(float(tab.driver.execute_async_script(DRAWN)))
            sizes.append(sum(size for _, size, _ in tab.run(LOADED)))
        with httpx.Client(base_url=made.server.url, timeout=60) as client:
            size = len(client.get("/api/v1/map").content)
            begun = time.monotonic()
            for _ in range(RUNS):
                client.get("/api/v1/map")
            one = (time.monotonic() - begun) / RUNS
            begun = time.monotonic()
            whole = len(client.get("/api/v1/deployments").content)
            peer = time.monotonic() - begun
    again = statistics.median(times[1:])
    print(f"{deployments:,} deployments, {peers:,} peers, {2 * peers:,} series")
    print(
        f"  first view: {times[0]:.0f} ms at first, median {again:.0f} ms; {sizes[0]:,} bytes of files, {size:,} of map"
    )
    print(f"  the map alone: {one * 1000:.0f} ms")
    print(f"  peer, /api/v1/deployments alone: {peer * 1000:.0f} ms, {whole:,} bytes; ratio {again / 1000 / peer:.2f}")


def following(flows: int) -> None:
    """Print what a look at the flow table takes of the engine's thread."""
    accounting = accounting_for(AttributionSettings(namespaces=("ns",)), max_flows=2 * flows)
    first = Record(RecordKind.OPENED, counters=(500, 70, 5, 1))
    for start in range(0, flows, 10_000):
        made = [
            replace(first, client=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", id=number + 1)
            for number in range(start, min(flows, start + 10_000))
        ]
        accounting.apply(TakeStep(batch_of(*made), 1000.0, 999.0))
    queries = LiveQueries(accounting, source="test", epoch=0.0)
    marks = queries.changes(FlowFilter(), 100, None).marks
    changed, page = [], []
    for _ in range(RUNS):
        begun = time.perf_counter()
        marks = queries.changes(FlowFilter(), 100, marks).marks
        changed.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        queries.flows(FlowFilter(), 1000, None)
        page.append(time.perf_counter() - begun)
    new, old = statistics.median(changed) * 1000, statistics.median(page) * 1000
    print(f"{flows:,} flows: a look for changes {new:.1f} ms")
    print(f"  peer, a page of 1,000 flows: {old:.1f} ms; ratio {new / old:.2f}")


def main() -> int:
    """Measure both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--peers", type=int, default=5000)
    parser.add_argument("--flows", type=int, default=100_000)
    arguments = parser.parse_args()
    first_view(arguments.deployments, arguments.peers)
    following(arguments.flows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
