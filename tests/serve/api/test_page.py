"""The landing page."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from flowmap.model.views import Traffic
from flowmap.serve.api.page import human_bytes, landing_page
from tests.support.fake_backend import FakeBackend
from tests.support.http_api import ask


def test_landing_page_escapes() -> None:
    response = ask("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "<script" not in response.text
    assert "&lt;script&gt;alert(1)" in response.text
    assert "orders &lt;b&gt;&amp;&quot;&#x27;" in response.text
    assert "4.8 MiB" in response.text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 40, "5.0 TiB"),
        (1 << 60, "1.0 EiB"),
        (3 << 70, "3072.0 EiB"),
    ],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("ready", "conserved", "shown"),
    [(True, True, []), (False, True, ["Not ready"]), (True, False, ["Bytes do not add up"])],
)
def test_what_is_wrong_is_on_the_page(ready: bool, conserved: bool, shown: list[str]) -> None:
    status = replace(FakeBackend().status(), ready=ready, conserved=conserved)
    page = landing_page(status, (), [("/metrics", "for Prometheus")])
    assert [text for text in ("Not ready", "Bytes do not add up") if text in page] == shown
    assert '<a href="/metrics">/metrics</a>: for Prometheus' in page
    assert "None seen yet." in page


def test_the_largest_deployments_are_shown() -> None:
    (view, *_) = asyncio.run(FakeBackend().deployments())
    views = [
        replace(view, info=replace(view.info, owner=view.info.owner._replace(name=f"job-{n:02}")), traffic=Traffic(n))
        for n in range(25)
    ]
    page = landing_page(FakeBackend().status(), views, [])
    assert [f"job-{n:02}" for n in range(25) if f"job-{n:02}" in page] == [f"job-{n:02}" for n in range(5, 25)]
    assert "… and 5 more." in page
