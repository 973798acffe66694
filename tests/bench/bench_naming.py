"""Time to a name by endpoints and rate: ``python -m tests.bench.bench_naming [ENDPOINTS ...]``.

Made-up traffic, the same every time; the clock is a number. Of the active endpoints four fifths are clients. Each
client opens a connection every two minutes on average, to one of four services; half of the connections are over within
a second. The control plane answers after 0.1 s.

Printed for each number of endpoints and calls a second: seconds from the first packet to the name (median and 99 %),
the share without a name at the end, and calls a minute. Beside it: ``confirm: fast``, and the naive plan of one
question for each connection, first come first served. The last column is the bound that the rate itself sets: the
time to ask about every endpoint once.
"""

from __future__ import annotations

import argparse
import heapq
import random
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.calls.budget import CallBudget
from flowmap.attribute.decisions import Decision
from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.cli.output.text import table
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Ask, Decide, TakeStep, Tidy
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner, State
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of, replace

STEP, LATENCY = 0.1, 0.1
EVERY = 120.0
WARM_UP, SECONDS = 120.0, 120.0
RATES = (2, 20, 200)
Confirm = Literal["strict", "fast"]


@dataclass
class Result:
    """What came of one run."""

    flows: int = 0
    delays: list[float] = field(default_factory=list)
    calls: int = 0

    def row(self) -> tuple[str, str, str, str]:
        """Median, 99 %, share without a name, calls a minute."""
        delays = np.array(self.delays or [np.nan])
        missing = 100 * (1 - len(self.delays) / max(1, self.flows))
        middle, most = np.quantile(delays, [0.5, 0.99])
        return f"{middle:.1f}", f"{most:.1f}", f"{missing:.1f}", f"{60 * self.calls / SECONDS:.0f}"


def connections(endpoints: int) -> tuple[list[tuple[float, Record]], int, int]:
    """Beginnings and ends in the order of their times, and the numbers of clients and services."""
    draw = random.Random(endpoints)
    clients = max(1, endpoints * 4 // 5)
    services = max(1, endpoints - clients)
    found = []
    for n in range(int(clients * (WARM_UP + SECONDS) / EVERY)):
        began, client = draw.random() * (WARM_UP + SECONDS), draw.randrange(clients)
        lasts = draw.uniform(0.05, 1.0) if draw.random() < 0.5 else draw.uniform(5.0, 60.0)
        service = (client + draw.randrange(4)) % services
        flow = Record(
            RecordKind.OPENED, f"10.{client >> 16}.{client >> 8 & 255}.{client & 255}", 1024 + n % 60_000, "172.16.0.1",
            1000 + service, id=n + 1, flags=int(Flag.PRESENT),
        )  # fmt: skip
        found.append((began, flow))
        found.append((began + lasts, replace(flow, kind=RecordKind.CLOSED, counters=(1000, 9, 9, 9))))
    return sorted(found, key=lambda one: (one[0], one[1].id)), clients, services


def run(endpoints: int, rate: float, confirm: Confirm) -> Result:
    """Play the traffic."""
    waiting, _, _ = connections(endpoints)
    settings = AttributionSettings(namespaces=("ns",), confirm=confirm)
    accounting = accounting_for(settings, max_flows=len(waiting) + 10, max_series=100_000)
    result = Result(sum(at >= WARM_UP and record.kind == RecordKind.OPENED for at, record in waiting))
    _watch(accounting, result)
    for step in (ReadStarted("start"), ReadFinished(True)):
        accounting.apply(TakeStep(step, 0.0, 0.0))
    budget = CallBudget(rate=rate, burst=max(5, int(rate)), max_in_flight=max(5, int(rate)))
    under_way: list[tuple[float, int, float, Question]] = []
    calls, now, place = 0, 0.0, 0
    while now < WARM_UP + SECONDS:
        now += STEP
        due = []
        while place < len(waiting) and waiting[place][0] <= now:
            due.append(waiting[place][1])
            place += 1
        if due:
            accounting.apply(TakeStep(batch_of(*due), now, now - STEP))
        accounting.apply(TakeStep(CaughtUp(now), now, now))
        while under_way and under_way[0][0] <= now:
            arrived, _, asked, question = heapq.heappop(under_way)
            budget.finish()
            accounting.attribution.receive(question, _answer(question, asked, arrived, endpoints))
        accounting.apply(Decide(now))
        while accounting.attribution.has_backlog:
            accounting.apply(Decide(now))
        for question in accounting.apply(Ask(now, budget.available(now))):
            calls += 1
            result.calls += now > WARM_UP
            budget.start(now)
            heapq.heappush(under_way, (now + LATENCY, calls, now, question))
        if now % 30 < STEP:
            accounting.apply(Tidy(now))
    return result


def _watch(accounting: FlowAccounting, result: Result) -> None:
    """Note the delay of each name."""
    decide = accounting.attribution.decide

    def watched(*, now: float) -> list[tuple[Decision, Rows]]:
        decided = decide(now=now)
        for decision, rows in decided:
            born = accounting.table.columns.born_by[rows]
            if decision.state is State.ATTRIBUTED:
                result.delays += (now - born[born > WARM_UP]).tolist()
        return decided

    accounting.attribution.decide = watched  # type: ignore[method-assign]


def _answer(question: Question, asked: float, arrived: float, endpoints: int) -> Answer:
    """Each client has a deployment of its own; those of the clients that use it are named for a service."""
    clients = max(1, endpoints * 4 // 5)
    services = max(1, endpoints - clients)
    if question.shape is Shape.CLIENT:
        assert question.source is not None
        numbers = [question.source.address.low & 0xFFFFFF]
    elif question.shape is Shape.SINK:
        assert question.destination is not None
        service = question.destination.port - 1000
        first = [(service - k) % services for k in range(4)]
        numbers = [client for start in first for client in range(start, clients, services)]
    else:
        numbers = []
    return Answer(asked, arrived, frozenset(Owner("w", "ns", f"d{n}", f"d{n}") for n in numbers))


def naive(endpoints: int, rate: float) -> Result:
    """One question for each connection, first come first served."""
    waiting, _, _ = connections(endpoints)
    result, free = Result(), 0.0
    for at, record in waiting:
        if record.kind == RecordKind.OPENED:
            free = max(free + 1 / rate, at)
            counts = at >= WARM_UP
            result.flows += counts
            if counts and free + LATENCY <= WARM_UP + SECONDS:
                result.delays.append(free + LATENCY - at)
            result.calls += WARM_UP <= free <= WARM_UP + SECONDS
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_naming", description=__doc__)
    parser.add_argument("endpoints", type=int, nargs="*", default=[10, 100, 1000])
    arguments = parser.parse_args()
    header = (
        "ENDPOINTS", "CALLS/S", "PLAN", "NAME median s", "99 %", "WITHOUT %", "CALLS/MIN", "ALL ONCE s",
    )  # fmt: skip
    rows = []
    for endpoints in arguments.endpoints:
        _, clients, services = connections(endpoints)
        for rate in RATES:
            bound = f"{(clients + 2 * services) / rate:.1f}"
            rows.append((endpoints, rate, "flowmap", *run(endpoints, rate, "strict").row(), bound))
            rows.append((endpoints, rate, "confirm: fast", *run(endpoints, rate, "fast").row(), bound))
            rows.append((endpoints, rate, "one a connection", *naive(endpoints, rate).row(), "-"))
    print("\n".join(table(header, rows)))


if __name__ == "__main__":
    main()
