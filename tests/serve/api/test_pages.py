"""The metrics page: formats, compression, and builds that requests share."""

from __future__ import annotations

import asyncio
import gzip

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from tests.support.fake_backend import FakeBackend
from tests.support.http_api import OPENMETRICS, TEXT, ask

METRIC_ROWS = [
    ({}, TEXT),
    ({"accept": "application/openmetrics-text"}, OPENMETRICS),
    ({"accept": ";;;,q=,application/openmetrics-text;q=x;version="}, TEXT),
]


@pytest.mark.parametrize(("headers", "expected"), METRIC_ROWS)
def test_metrics_format(headers: dict[str, str], expected: str) -> None:
    response = ask("/metrics", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == expected
    families = list((parse_openmetrics if expected == OPENMETRICS else parse_text)(response.text))
    assert "flowmap_series" in [family.name for family in families]


def test_metrics_gzip() -> None:
    plain = ask("/metrics")
    packed = ask("/metrics", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    wanted = [line for line in plain.text.splitlines() if line.startswith("flowmap_deployment")]
    assert [line for line in packed.text.splitlines() if line.startswith("flowmap_deployment")] == wanted
    assert gzip.compress(b"") != plain.content


def test_scrapes_at_once_share_a_build() -> None:
    backend = FakeBackend()
    app = build_app(backend, Exposition(SelfMetrics("test")))

    async def scrape() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            plain = {"accept-encoding": "identity"}
            first = await asyncio.gather(*(client.get("/metrics", headers=plain) for _ in range(20)))
            return [*first, await client.get("/metrics", headers=plain)]

    responses = asyncio.run(scrape())
    assert {response.status_code for response in responses} == {200}
    assert backend.snapshots == 2
