"""The real HTTP server with its streams, over a backend with known answers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from flowmap.config import HttpConfig
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from flowmap.serve.server.server import HttpServer
from flowmap.serve.server.web import Web
from flowmap.serve.stream.streams import Streams
from tests.support.certificates import HASH
from tests.support.fake_backend import FakeBackend


@dataclass
class Served:
    backend: FakeBackend
    streams: Streams
    server: HttpServer
    client: httpx.AsyncClient
    metrics: SelfMetrics
    web: Web
    access: list[str]
    """Its length stands for the users and passwords in force."""

    def sign_out(self) -> None:
        """Remove the users, as a change of the file with them does."""
        assert self.web.passwords is not None, "there are users"
        self.web.passwords.replace({"another": HASH})
        self.access.append("changed")


@contextlib.asynccontextmanager
async def served(*, port: int = 0, backend: FakeBackend | None = None, **http: Any) -> AsyncIterator[Served]:
    backend, metrics, web = backend or FakeBackend(), SelfMetrics("test"), Web(HttpConfig.model_validate(http))
    access: list[str] = []
    streams = Streams(
        backend, refused=metrics.http_refused, missed=metrics.stream_missed, access_changed=lambda: len(access)
    )
    app = build_app(backend, Exposition(metrics), web, streams=streams)
    server = HttpServer(app, "127.0.0.1", port, web=web, refused=metrics.http_refused, beside=streams.run)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
            yield Served(backend, streams, server, client, metrics, web, access)
    finally:
        await server.stop()
