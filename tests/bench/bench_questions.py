"""Calls that attribution needs for an hour of traffic: ``python -m tests.bench.bench_questions``.

The hour is made up, and the same every time: deployments at so many addresses open connections to service ends as
schedulers, pools and lookups do: most short, some for the whole hour. Nothing waits: the clock is a number. The peer is
what first comes to mind, one question a connection with both its ends and ports.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.calls.budget import CallBudget
from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.commands import Ask, Decide, TakeStep, Tidy
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of, replace

UnderWay = tuple[float, int, float, Question]
"""When the answer comes, which call it is, when it was asked, and what."""

HOUR = 3600.0
STEP = 0.5


@dataclass(frozen=True)
class Traffic:
    """What the hour holds."""

    clients: int = 40
    services: int = 25
    flows: int = 20_000
    shared: int = 0
    """Addresses that two deployments have."""
    seconds: float = HOUR


@dataclass
class Result:
    """What came of it."""

    flows: int
    calls: Mapping[Shape, int]
    attributed: int
    pending: int

    @property
    def total(self) -> int:
        return sum(self.calls.values())

    @property
    def narrowing(self) -> int:
        return self.calls.get(Shape.LINK, 0) + self.calls.get(Shape.EXACT, 0)


class ControlPlane:
    """Answers at once and truly; the first ``shared`` addresses have two deployments."""

    def __init__(self, traffic: Traffic) -> None:
        self.at = {
            f"10.0.1.{n}": frozenset(
                Owner("w", "ns", name, name) for name in [f"job{n}", f"other{n}"][: 1 + (n < traffic.shared)]
            )
            for n in range(traffic.clients)
        }
        self.everybody = frozenset[Owner]().union(*self.at.values())

    def answer(self, question: Question) -> Owners:
        if question.shape is Shape.SOURCE:
            return frozenset()
        if question.shape is Shape.SINK or question.source is None:
            return self.everybody
        hosted = self.at[str(question.source.address)]
        return frozenset(sorted(hosted)[:1]) if question.shape in (Shape.LINK, Shape.EXACT) else hosted


def records(traffic: Traffic) -> list[tuple[float, Record]]:
    """Openings and ends in the order of their times."""
    chance = random.Random(7)
    found = []
    for n in range(traffic.flows):
        began = chance.random() * traffic.seconds
        lasts = traffic.seconds if chance.random() < 0.05 else chance.expovariate(1 / 5.0)
        client, service = chance.randrange(traffic.clients), chance.randrange(traffic.services)
        flags = int(Flag.PRESENT)
        flow = Record(
            RecordKind.OPENED, f"10.0.1.{client}", 1024 + n % 60_000, "10.1.0.1", 1000 + service, id=n + 1, flags=flags
        )
        found.append((began, flow))
        found.append(
            (began + lasts, replace(flow, kind=RecordKind.CLOSED, counters=(chance.randrange(1 << 20), 9, 9, 9)))
        )
    return sorted(found, key=lambda one: (one[0], one[1].id))


def run(traffic: Traffic, settings: AttributionSettings) -> Result:
    """Play the hour."""
    accounting, plane = accounting_for(settings, max_flows=traffic.flows + 10), ControlPlane(traffic)
    budget = CallBudget(rate=2.0, burst=5, max_in_flight=2)
    for step in (ReadStarted("start"), ReadFinished(True)):
        accounting.apply(TakeStep(step, 0.0, 0.0))
    waiting = records(traffic)[::-1]
    under_way: list[UnderWay] = []
    calls, now = 0, 0.0
    while now < traffic.seconds + 120:
        now += STEP
        due = []
        while waiting and waiting[-1][0] <= now:
            due.append(waiting.pop()[1])
        if due:
            accounting.apply(TakeStep(batch_of(*due), now, now - 0.01))
        accounting.apply(TakeStep(CaughtUp(now), now, now))
        _answer(accounting, plane, budget, under_way, now)
        accounting.apply(Decide(now))
        for question in accounting.apply(Ask(now, budget.available(now))):
            calls += 1
            budget.start(now)
            heapq.heappush(under_way, (now + 0.2, calls, now, question))
        if now % 30 < STEP:
            accounting.apply(Tidy(now))
    named = int(accounting.series_table.connections[accounting.series_table.kinds == 1].sum())
    return Result(traffic.flows, dict(accounting.attribution.asked), named, accounting.pending_flows)


def _answer(
    accounting: FlowAccounting, plane: ControlPlane, budget: CallBudget, under_way: list[UnderWay], now: float
) -> None:
    while under_way and under_way[0][0] <= now:
        arrived, _, asked, question = heapq.heappop(under_way)
        budget.finish()
        accounting.attribution.receive(question, Answer(asked, arrived, plane.answer(question)))


def allowed(traffic: Traffic, settings: AttributionSettings) -> float:
    """Calls that the plan may cost besides those for ties: every end once in a ``positive_ttl``."""
    rounds = 1 + (traffic.seconds + 120) / settings.positive_ttl
    return 1.2 * rounds * (traffic.clients + 2 * traffic.services)


def line(name: str, traffic: Traffic, settings: AttributionSettings) -> str:
    """One line of the table."""
    result = run(traffic, settings)
    bound, narrowing = allowed(traffic, settings), result.narrowing
    per_thousand = 1000 * result.total / result.flows
    return (
        f"{name:34} {result.total:6} {per_thousand:9.1f} {result.total / result.flows:9.3f} {narrowing:6}"
        f" {100 * result.attributed / result.flows:9.2f} % {result.pending:7} {result.total - narrowing <= bound!s:>6}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=20_000)
    flows = parser.parse_args().flows
    plain = Traffic(flows=flows)
    print(f"{'':34} {'calls':>6} {'per 1000':>9} {'of peer':>9} {'ties':>6} {'named':>11} {'pending':>7} {'bound':>6}")
    print(line("both", plain, AttributionSettings(namespaces=("ns",))))
    print(line("connection", plain, AttributionSettings(namespaces=("ns",), semantics="connection")))
    print(
        line(
            "connection, positive_ttl 5m",
            plain,
            AttributionSettings(namespaces=("ns",), semantics="connection", positive_ttl=300.0),
        )
    )
    print(
        line("both, 4 addresses of two jobs", Traffic(flows=flows, shared=4), AttributionSettings(namespaces=("ns",)))
    )
    print(f"{'peer: one question a connection':34} {flows:6} {1000.0:9.1f} {1.0:9.3f}")


if __name__ == "__main__":
    main()
