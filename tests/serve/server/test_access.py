"""Who is let in to what, and what guessing costs."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.config import HttpConfig
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from flowmap.serve.server import passwords
from flowmap.serve.server.access import client_network, is_loopback, read_login
from flowmap.serve.server.web import Web
from tests.support.certificates import HASH, PASSWORD
from tests.support.fake_backend import FakeBackend

USERS = {"prometheus": HASH, "ann": HASH}

# What is configured; then who asks (user, address); then the statuses of a scrape, a query and a health check.
MATRIX: list[tuple[dict[str, Any], str | None, str, tuple[int, int, int]]] = [
    ({}, None, "127.0.0.1", (200, 200, 200)),
    ({}, None, "10.0.0.1", (200, 200, 200)),  # insecure, or reached through TLS without users
    ({"access": {"query": ["loopback"]}}, None, "127.0.0.1", (200, 200, 200)),
    ({"access": {"query": ["loopback"]}}, None, "::1", (200, 200, 200)),
    ({"access": {"query": ["loopback"]}}, None, "::ffff:127.0.0.1", (200, 200, 200)),
    ({"access": {"query": ["loopback"]}}, None, "10.0.0.1", (200, 403, 200)),
    ({"access": {"query": []}}, None, "127.0.0.1", (200, 403, 200)),
    ({"users": USERS}, None, "127.0.0.1", (401, 401, 200)),
    ({"users": USERS}, "ann", "10.0.0.1", (200, 200, 200)),
    ({"users": USERS}, "eve", "10.0.0.1", (401, 401, 200)),
    ({"users": USERS, "access": {"scrape": ["prometheus"], "query": ["ann"]}}, "ann", "10.0.0.1", (403, 200, 200)),
    ({"users": USERS, "access": {"scrape": ["prometheus"], "query": ["ann"]}}, "prometheus", "::1", (200, 403, 200)),
    ({"users": USERS, "access": {"scrape": ["anonymous"]}}, None, "10.0.0.1", (200, 401, 200)),
    ({"users": USERS, "access": {"query": ["loopback", "ann"]}}, None, "127.0.0.1", (401, 200, 200)),
    ({"users": USERS, "access": {"query": ["loopback", "ann"]}}, "prometheus", "10.0.0.1", (200, 403, 200)),
    ({"users": USERS, "access": {"health": ["prometheus"]}}, None, "127.0.0.1", (401, 401, 401)),
    ({"users": USERS, "access": {"health": ["prometheus"]}}, "prometheus", "127.0.0.1", (200, 200, 200)),
]

SCRAPES = ("/metrics",)
QUERIES = ("/", "/api/v1/status", "/api/v1/flows", "/api/v1/deployments/id-1", "/api/v1/peers", "/openapi.json")
HEALTH = ("/-/healthy", "/-/ready")


@pytest.mark.parametrize(("http", "user", "address", "expected"), MATRIX)
def test_who_may_do_what(
    http: dict[str, Any],
    user: str | None,
    address: str,
    expected: tuple[int, int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passwords, "BURST", 1000)

    async def run() -> None:
        web = Web(HttpConfig.model_validate(http))
        app = build_app(FakeBackend(), Exposition(SelfMetrics("test")), web)
        transport = httpx.ASGITransport(app, client=(address, 4))
        login = None if user is None else (user, PASSWORD)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", auth=login) as client:
            for paths, status in zip((SCRAPES, QUERIES, HEALTH), expected, strict=True):
                for path in paths:
                    for method in ("GET", "HEAD"):
                        assert (await client.request(method, path)).status_code == status, path
            # What is not there tells nobody more than what is.
            for path in ("/metrics/", "//metrics", "/METRICS", "/-/healthy/..", "/%6detrics", "/api/v1/nothing"):
                status = (await client.get(httpx.URL("http://localhost").copy_with(raw_path=path.encode()))).status_code
                assert status in {404 if expected[1] == 200 else expected[1], expected[0]}, path
                assert status == expected[0] or path != "/%6detrics"

    asyncio.run(run())


def basic(text: str | bytes) -> str:
    return "Basic " + base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


LOGINS: list[tuple[list[str], tuple[str, str] | None]] = [
    ([basic("ann:secret")], ("ann", "secret")),
    ([basic("ann:a:b:")], ("ann", "a:b:")),
    ([basic(":")], ("", "")),
    ([basic("änn:pä\u202ess")], ("änn", "pä\u202ess")),
    (["basic " + basic("a:b")[6:]], ("a", "b")),
    ([], None),
    ([basic("a:b"), basic("a:b")], None),
    ([basic("no colon")], None),
    ([basic(b"\xff\xfe:x")], None),
    (["Basic"], None),
    (["Basic !!!"], None),
    (["Bearer " + basic("a:b")[6:]], None),
    (["Basic " + "A" * 5000], None),
]


@pytest.mark.parametrize(("headers", "expected"), LOGINS)
def test_logins(headers: list[str], expected: tuple[str, str] | None) -> None:
    assert read_login(headers) == expected


@given(st.lists(st.text(), max_size=2))
def test_any_login_is_read_or_not(headers: list[str]) -> None:
    assert read_login(headers) is None or len(headers) == 1


NETWORKS = [
    ("10.0.0.1", "10.0.0.1"),
    ("::ffff:10.0.0.1", "10.0.0.1"),
    ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
    ("", ""),
    ("unix", "unix"),
]


@pytest.mark.parametrize(("address", "network"), NETWORKS)
def test_what_counts_as_one_client(address: str, network: str) -> None:
    assert client_network(address) == network
    assert not is_loopback(address)
