"""Requests to the API over httpx, without a socket."""

from __future__ import annotations

import asyncio

import httpx

from flowmap.config import HttpConfig
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from flowmap.serve.api.backend import Backend
from flowmap.serve.server.web import Web
from tests.support.fake_backend import FakeBackend

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


TEXT = "text/plain; version=0.0.4; charset=utf-8"


def ask(
    path: str,
    *,
    backend: FakeBackend | None = None,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    allowed: tuple[str, ...] = (),
    content: str | bytes | None = None,
) -> httpx.Response:
    used: Backend = backend or FakeBackend()
    app = build_app(used, Exposition(SelfMetrics("test")), Web(HttpConfig(allowed_hosts=allowed)))

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:10817") as client:
            head = {"accept-encoding": "identity"} | (headers or {})
            return await client.request(method, path, headers=head, content=content)

    return asyncio.run(request())


def fields(response: httpx.Response) -> list[str]:
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    return [error["field"] for error in response.json()["errors"]]


ADDRESSES = "srcIp=10.0.0.1&dstIp=10.0.0.9"
