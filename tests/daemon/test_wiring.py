"""The parts of a daemon, put together over a source without a kernel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowmap.config import Config
from flowmap.daemon.wiring import FLEET_QUESTIONS, limits_of, question_limits
from flowmap.model.findings import ConnectionLimits
from tests.support.whole_daemon import ENDPOINT, house

PLANE = {"region": "cn-hangzhou", "workspace": "ws", "namespaces": ["ns"], "rate": 7, "burst": 9, "max_in_flight": 3}
SHARED = {"url": "redis://127.0.0.1", "scope": "hosts", "size": 5, "trust": "own"}


@pytest.mark.parametrize(
    ("fleet", "expected"),
    [
        ({}, {"rate": 7, "burst": 9, "max_in_flight": 3}),
        (SHARED, dict.fromkeys(("rate", "burst", "max_in_flight"), FLEET_QUESTIONS)),
    ],
)
def test_questions_of_a_fleet_wait_at_its_server(fleet: dict[str, Any], expected: dict[str, float]) -> None:
    assert question_limits(Config.model_validate({"control_plane": PLANE, "fleet": fleet})) == expected


@pytest.mark.parametrize(
    ("expect", "limits"),
    [({}, ConnectionLimits()), ({"connections": 5, "idle": "1h"}, ConnectionLimits(5, 3600.0))],
)
def test_limits_of_connections(expect: dict[str, Any], limits: ConnectionLimits) -> None:
    assert limits_of(Config.model_validate({"expect": expect})) == limits


def test_every_part_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with house(monkeypatch) as (pipeline, _):
            page = pipeline.page().decode()
            status = pipeline.backend.status()
            assert "flowmap_source_up{" in page and "flowmap_flows_limit 1000000" in page
            assert (status.ready, status.conserved, status.control_plane.endpoint) == (True, True, ENDPOINT)
            assert [source.role for source in status.sources] == ["traffic"]
            assert (status.history, status.recording, status.fleet) == (None, None, None)

    asyncio.run(run())
