"""Made-up clients by the hundred: what they cost in calls, and that they keep nobody else waiting."""

from __future__ import annotations

from flowmap.attribute.calls.schedule import FAIR
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.sources.base import ReadFinished, ReadStarted
from tests.support.attribution import AttributionRun
from tests.support.records import Record

FLOOD = 400
REAL = 5


def flooded() -> AttributionRun:
    """A table of 500 in which 400 flows that nobody answered came before five that carry bytes."""
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection"), max_flows=500)
    run.observe(*(Record(RecordKind.OPENED, client=f"11.0.{n // 200}.{n % 200}", id=n + 1) for n in range(FLOOD)))
    real = [Record(RecordKind.OPENED, client=f"10.0.0.{n}", id=1000 + n, flags=int(Flag.ASSURED)) for n in range(REAL)]
    run.observe(*real)
    seen = [
        Record(RecordKind.DUMPED, client=one.client, id=one.id, counters=(500, 500, 5, 5), flags=one.flags)
        for one in real
    ]
    run.observe(*seen)
    return run


def test_largest_traffic_is_asked_about_first() -> None:
    run = flooded()
    asked: list[str] = []
    while len(asked) < 2 * REAL * FAIR // (FAIR - 1):
        asked += [str(one.source.address) for one in run.ask(limit=1) if one.source is not None]
    assert {f"10.0.0.{n}" for n in range(REAL)} <= set(asked)


def test_unanswered_flows_are_not_judged_again() -> None:
    run = flooded()
    run.decide()
    run.accounting.apply(TakeStep(ReadStarted("timer"), run.now, run.now))
    run.accounting.apply(TakeStep(ReadFinished(False), run.now, run.now))
    run.attribution.judge_again()
    assert not run.attribution.has_news
