"""What attribution reports of its answers: look-ups by result, and the text of a contradiction."""

from __future__ import annotations

from typing import Literal

import pytest

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner
from tests.support.attribution import AttributionRun
from tests.support.records import Record, replace

X, Y = (Owner("w", "ns", name, name) for name in "xy")
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT))


@pytest.mark.parametrize("confirm", ["strict", "fast"])
@pytest.mark.parametrize(("owners", "result", "other"), [((X,), "hit", "negative"), ((), "negative", "hit")])
def test_lookups_are_counted_by_result(
    confirm: Literal["strict", "fast"], owners: tuple[Owner, ...], result: str, other: str
) -> None:
    accounting = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection", confirm=confirm))
    accounting.observe(FLOW)
    (client,) = accounting.ask(limit=1)
    accounting.answer(client, *owners)
    accounting.decide()
    accounting.observe(replace(FLOW, client_port=2, id=2))
    accounting.decide()
    lookups = accounting.attribution.lookups
    assert lookups["client", result] > 0
    assert lookups["client", other] == 0


@pytest.mark.parametrize(
    ("shape", "source", "destination", "text"),
    [
        (Shape.CLIENT, ("10.0.0.1", 0), None, "client 10.0.0.1"),
        (Shape.SINK, None, ("10.1.0.1", 9092), "sink 10.1.0.1:9092"),
        (Shape.LINK, ("10.0.0.1", 0), ("10.1.0.1", 9092), "link 10.0.0.1 10.1.0.1:9092"),
    ],
)
def test_a_contradiction_names_its_endpoints(
    shape: Shape, source: tuple[str, int] | None, destination: tuple[str, int] | None, text: str
) -> None:
    first, second = (Endpoint(Address.parse(end[0]), end[1]) if end else None for end in (source, destination))
    contradictions = AttributionRun().attribution.contradictions
    contradictions.deny(Question("ns", shape, first, second), Answer(1.0, 2.0, frozenset({X})), frozenset({Y}))
    assert [contradiction.question for contradiction in contradictions.latest()] == [text]
