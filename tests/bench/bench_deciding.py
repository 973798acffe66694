"""Many flows become decidable at once: ``python -m tests.bench.bench_deciding [FLOWS] [CLIENTS]``.

Each client gets its answer in the same instant, the service endpoints have theirs. Printed: CPU seconds until each flow
is decided, and the longest turn (one Decide command), which is how long queries, scrapes and the source have to wait.
The peer decides without a bound, in one turn. Garbage is collected as in the daemon.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from flowmap.attribute.answers import backlog
from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import Decide, TakeStep
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.model.deployment import Owner
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from flowmap.system import garbage
from tests.support.accounting import accounting_for

SERVICES = 50
REACH_TURN, REACH_CPU = 0.2, 1.3
UNBOUNDED = 1 << 40


def opened(flows: int, clients: int) -> FlowBatch:
    """Flows that begin at once, from each client as many."""
    batch, number = FlowBatch(flows), np.arange(flows)
    batch.kind[:], batch.protocol[:], batch.flags[:] = RecordKind.OPENED, 6, Flag.PRESENT
    batch.id[:] = number + 1
    batch.client_low[:] = 0xFFFF_0A00_0000 + 1 + number % clients
    batch.client_port[:] = 1024 + number // clients
    batch.server_low[:] = 0xFFFF_0A64_0001
    batch.server_port[:] = 1000 + number * 7 % SERVICES
    for name in ("low", "high", "port"):
        for end in ("client", "server"):
            getattr(batch, f"translated_{end}_{name}")[:] = getattr(batch, f"{end}_{name}")
    return batch


def run(flows: int, clients: int) -> tuple[float, float, int]:
    """CPU seconds, those of the longest turn, and turns."""
    settings = AttributionSettings(namespaces=("ns",), semantics="connection", cache_size=2 * clients + 1000)
    accounting = accounting_for(settings, max_flows=flows + 10)
    for step in (ReadStarted("start"), ReadFinished(True), CaughtUp(10.0)):
        accounting.apply(TakeStep(step, 10.0, 10.0))
    accounting.apply(TakeStep(opened(flows, clients), 11.0, 10.9))
    everybody = frozenset(Owner("w", "ns", f"d{n}", f"d{n}") for n in range(20))
    for n, question in enumerate(accounting.attribution.ask(now=12.0, limit=clients + 1000)):
        owners = (
            everybody if question.shape is Shape.SINK else frozenset({Owner("w", "ns", f"d{n % 20}", f"d{n % 20}")})
        )
        accounting.attribution.receive(question, Answer(12.0, 12.1, owners))
    accounting.apply(TakeStep(CaughtUp(13.0), 13.0, 13.0))
    longest, turns, began = 0.0, 0, time.thread_time()
    while accounting.pending_flows:
        before = time.thread_time()
        accounting.apply(Decide(13.0 + turns / 1000))
        longest, turns = max(longest, time.thread_time() - before), turns + 1
        assert turns < 10 * flows
    return time.thread_time() - began, longest, turns


def main() -> None:
    flows, clients = (int(text) for text in (*sys.argv[1:], "300000", "100000")[:2])
    garbage.set_up()
    bounds = backlog.FLOWS_AT_ONCE, backlog.CLIENTS_AT_ONCE
    cpu, longest, turns = run(flows, clients)
    backlog.FLOWS_AT_ONCE = backlog.CLIENTS_AT_ONCE = UNBOUNDED
    peer, at_once, _ = run(flows, clients)
    backlog.FLOWS_AT_ONCE, backlog.CLIENTS_AT_ONCE = bounds
    print(f"{flows:,} flows of {clients:,} clients become decidable at once")
    print(f"bounded    {cpu:6.2f} s CPU in {turns} turns, the longest {longest:.3f} s (reach ≤ {REACH_TURN} s)")
    print(f"unbounded  {peer:6.2f} s CPU in one turn of {at_once:.3f} s")
    print(f"ratio      {cpu / peer:6.2f} (reach ≤ {REACH_CPU})")


if __name__ == "__main__":
    main()
