"""What the plan costs: a few minutes of the benchmark's hour."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowmap.attribute.questions import Semantics
from flowmap.attribute.settings import AttributionSettings
from tests.bench.bench_questions import Traffic, allowed, run

SHORT = Traffic(clients=10, services=6, flows=600, seconds=200.0)


@pytest.mark.parametrize("semantics", ["connection", "both"])
def test_calls_grow_with_endpoints_not_connections(semantics: Semantics) -> None:
    settings = AttributionSettings(namespaces=("ns",), semantics=semantics, recheck=60.0)
    result = run(SHORT, settings)
    assert result.narrowing == 0
    assert result.total <= allowed(SHORT, settings)
    assert (result.pending, result.attributed > 0.9 * SHORT.flows) == (0, True)


def test_narrowing_calls_are_few() -> None:
    traffic, settings = (
        replace(SHORT, shared=2),
        AttributionSettings(namespaces=("ns",), semantics="connection", recheck=60.0),
    )
    result = run(traffic, settings)
    assert 0 < result.narrowing <= 2 * 6 * (2 + 320 / settings.positive_ttl)
    assert result.total - result.narrowing <= allowed(traffic, settings)
    assert result.pending == 0
