"""The page with many series, against prometheus-client's ``generate_latest`` on an equal collector.

``python -m tests.bench.bench_scrape [--series 100000]``. "Series" are lines, as Prometheus counts them: the first table
is a page with that many; the second a ledger with that many rows, each of which is six lines.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flowmap.export.exposition import Exposition, compress
from flowmap.export.metrics.definitions import HEALTH, METRICS
from flowmap.export.negotiation import Format
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.export.series_table import SeriesKey, SeriesTable
from flowmap.export.snapshot import Snapshot
from flowmap.model.deployment import Owner

LABELS = ("namespace", "deployment_id", "deployment", "peer", "protocol")
LINES_A_ROW = 6
U64 = np.uint64


def key(number: int) -> SeriesKey:
    deployment = number % 500
    owner = Owner("w", "default-namespace", f"{deployment:08x}-0000-4000-8000-{deployment:012x}", f"job-{deployment}")
    peer = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:9092"
    return SeriesKey("deployment", (owner,), "", peer, "tcp")


def filled(rows: int) -> SeriesTable:
    series_table = SeriesTable(labels=LABELS, max_series=rows * 2, idle_after=600)
    ids = np.array([series_table.series(key(number), now=0) for number in range(rows)], np.int32)
    counts = np.random.default_rng(1).integers(0, 1 << 40, rows).astype(U64)
    series_table.credit(ids, counts, counts + U64(7), counts >> U64(9), counts >> U64(8), now=0)
    series_table.opened(ids)
    return series_table


class PrometheusClientPeer(Collector):
    """The same traffic series as families of prometheus-client, from the same arrays."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        series_table = self._snapshot.series_table
        values = [
            (k.owners[0].namespace, k.owners[0].deployment_id, k.owners[0].name, k.peer, k.protocol)
            for k in series_table.keys
            if k is not None
        ]
        for metric in METRICS:
            if metric.origin != "deployment" or metric.name in HEALTH:
                continue
            make = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
            family = make(metric.family, metric.help, labels=LABELS)
            for labels, value in zip(values, getattr(series_table, metric.column).tolist(), strict=True):
                family.add_metric(labels, value)
            yield family


def best(build: Callable[[], object], times: int) -> float:
    spans = []
    for _ in range(times):
        begun = time.perf_counter()
        build()
        spans.append(time.perf_counter() - begun)
    return min(spans)


def measure(rows: int, *, peer: bool) -> None:
    series_table = filled(rows)
    snapshot = Snapshot(source="conntrack", series_table=series_table.freeze())
    page_of = Exposition(SelfMetrics("bench")).page
    page = page_of(snapshot, Format.TEXT)
    lines = sum(line.startswith(b"flowmap_deployment_") for line in page.splitlines())
    print(f"{rows:,} label sets, {lines:,} series, page {len(page) / 1e6:.1f} MB")
    own = best(lambda: page_of(snapshot, Format.TEXT), 5)
    print(f"  flowmap, text           {own:8.3f} s   {own / lines * 1e6:.2f} µs a series")
    print(f"  flowmap, OpenMetrics    {best(lambda: page_of(snapshot, Format.OPENMETRICS), 3):8.3f} s")
    print(f"  gzip level 1            {best(lambda: compress(page), 2):8.3f} s")
    print(f"  freeze (writer)         {best(series_table.freeze, 20) * 1000:8.2f} ms")
    if peer:
        their = PrometheusClientPeer(snapshot)
        theirs = best(lambda: generate_latest(their), 2)
        ours = {line for line in page.splitlines() if line.startswith(b"flowmap_deployment_")}
        both = sum(line.startswith(b"flowmap_deployment_") for line in generate_latest(their).splitlines())
        print(f"  prometheus_client       {theirs:8.3f} s   ({both:,} series; ratio 1/{theirs / own:.1f})")
        assert both == len(ours), "the peer's page has the same series"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=100_000)
    series = parser.parse_args(arguments).series
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measure(series // LINES_A_ROW, peer=True)
    measure(series, peer=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"RSS: {rss / 1024:.0f} MiB at start, {peak / 1024:.0f} MiB peak of all of the above")


if __name__ == "__main__":
    main(sys.argv[1:])
