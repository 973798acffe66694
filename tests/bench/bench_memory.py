"""Memory of a million tracked flows, beside a dict of plain objects: ``python -m tests.bench.bench_memory``."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

FLOWS = 1_000_000
BATCH = 20_000
REACH_MIB = 400


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def books_mib() -> float:
    """A million flows of half a million clients to 20 service endpoints, all pending, read twice."""
    import numpy as np

    from flowmap.attribute.attribution import Attribution
    from flowmap.attribute.settings import AttributionSettings
    from flowmap.engine.accounting import FlowAccounting
    from flowmap.engine.commands import TakeStep
    from flowmap.export.series_table import SeriesTable
    from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
    from flowmap.flows.table import FlowTable
    from flowmap.model.address import V4_MAPPED
    from flowmap.sources.base import ReadFinished, ReadStarted

    def batch(start: int, grown: int) -> FlowBatch:
        made = FlowBatch(BATCH)
        number = np.arange(start, start + BATCH, dtype=np.uint64)
        made.kind[:], made.flags[:], made.protocol[:] = RecordKind.DUMPED, Flag.COUNTERS, 6
        made.id[:] = number + np.uint64(1)
        made.client_low[:] = np.uint64(V4_MAPPED | 0x0A000000) + number // np.uint64(2)
        made.client_port[:] = 1024 + number % np.uint64(50_000)
        made.server_low[:] = np.uint64(V4_MAPPED | 0x0AFF0000) + number % np.uint64(20)
        made.server_port[:] = 9092
        for name in ("client_low", "client_port", "server_low", "server_port"):
            getattr(made, f"translated_{name}")[:] = getattr(made, name)
        made.transmit_bytes[:] = number + np.uint64(grown)
        return made

    table = FlowTable(FLOWS)
    labels = ("namespace", "deployment_id", "deployment", "peer", "protocol")
    series_table = SeriesTable(labels=labels, max_series=10_000, idle_after=600)
    attribution = Attribution(AttributionSettings(namespaces=("default-namespace",)), table)
    accounting = FlowAccounting(table, attribution, series_table, announces_births=True)
    idle = resident_mib()
    for turn in range(2):
        accounting.apply(TakeStep(ReadStarted("start"), turn, turn))
        for start in range(0, FLOWS, BATCH):
            accounting.apply(TakeStep(batch(start, turn), turn, turn))
        accounting.apply(TakeStep(ReadFinished(True), turn, turn))
        accounting.attribution.ask(now=turn, limit=5)
    assert len(table) == FLOWS
    gc.collect()
    return resident_mib() - idle


def peer_mib() -> float:
    """The same flows the usual way: packed tuples as keys of a dict, an object with slots for each."""

    class Flow:
        __slots__ = ("born", "id", "last", "owner", "received", "sent")

        def __init__(self, number: int) -> None:
            self.id, self.born, self.last, self.sent, self.received = number, float(number), 0.0, number + 1000, 0
            self.owner = None

    idle = resident_mib()
    flows = {}
    for number in range(FLOWS):
        key = (0x0A000000 + number // 2).to_bytes(16) + (number % 50_000).to_bytes(4) + number.to_bytes(20)
        flows[key] = Flow(number)
    assert len(flows) == FLOWS
    return resident_mib() - idle


def main() -> None:
    if len(sys.argv) > 1:
        print(books_mib() if sys.argv[1] == "books" else peer_mib())
        return
    ours, peer = (
        float(subprocess.check_output([sys.executable, "-m", "tests.bench.bench_memory", which]))
        for which in ("books", "peer")
    )
    print(f"{FLOWS:,} flows: {ours:.0f} MiB over idle (reach ≤ {REACH_MIB}); dict of objects {peer:.0f} MiB;", end=" ")
    print(f"ratio {ours / peer:.2f}")


if __name__ == "__main__":
    main()
