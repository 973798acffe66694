"""Pauses between failed questions about both endpoints of a connection."""

from __future__ import annotations

import pytest

from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import Owner
from tests.support.attribution import AttributionRun
from tests.support.records import Record

X, Y = (Owner("w", "ns", name, name) for name in "xy")
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT), counters=(100, 10, 1, 1))
BOTH = (Shape.LINK, Shape.EXACT)
SETTINGS = AttributionSettings(namespaces=("ns",), semantics="connection", tie_wait=1e6, give_up_after=1e6)


def link_of(accounting: AttributionRun) -> Question | None:
    """Answer questions about one endpoint with two owners; the question about both endpoints, if it is due."""
    asked = accounting.ask()
    for question in asked:
        if question.shape not in BOTH:
            accounting.answer(question, X, Y)
    accounting.decide()
    return next((question for question in asked if question.shape is Shape.LINK), None)


def failures(accounting: AttributionRun, count: int) -> list[float]:
    """Seconds from each of ``count`` failures to the next question."""
    pauses: list[float] = []
    failed_at = accounting.now
    for _ in range(1000):  # each look takes a second of the accounting's clock
        link = link_of(accounting)
        if link is None:
            continue
        pauses.append(accounting.now - failed_at)
        failed_at = accounting.now
        accounting.attribution.fail(link, "timeout", now=accounting.now)
        if len(pauses) == count:
            break
    return pauses[1:]


def test_each_failure_doubles_the_pause() -> None:
    accounting = AttributionRun(SETTINGS)
    accounting.observe(FLOW)
    pauses = failures(accounting, 8)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60], abs=1.5)
    assert pauses[0] < pauses[1] < pauses[2]


def test_an_answer_ends_the_pauses() -> None:
    accounting = AttributionRun(SETTINGS)
    accounting.observe(FLOW)
    failures(accounting, 5)
    link = next(link for _ in range(100) if (link := link_of(accounting)))
    accounting.answer(link, X, Y)
    accounting.decide()
    accounting.now += 100
    accounting.observe(Record(RecordKind.OPENED, client_port=2, id=2, flags=int(Flag.PRESENT)))
    assert failures(accounting, 2) == pytest.approx([1], abs=1.5)
