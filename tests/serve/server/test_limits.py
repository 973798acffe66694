"""Limits of every request: sizes, versions, queries at one time; and headers of every answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from flowmap.serve.api.problem import SAFE_HEADERS
from flowmap.serve.server.limits import (
    LARGEST_BODY,
    LONGEST_HEAD,
    LONGEST_TARGET,
    MAX_QUERIES,
    SafeHeaders,
    Sizes,
    TargetLimit,
)


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await Response("fine")(scope, receive, send)


def scope_of(path: str = "/", query: bytes = b"", version: str = "1.1", **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "http_version": version,
        "headers": pairs,
    }


async def answered(app: Any, scope: Scope) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("no body is read")

    await app(scope, receive, send)
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize(
    ("scope", "status", "closes", "reason"),
    [
        (scope_of(), 200, False, None),
        (scope_of(version="1.0"), 200, False, None),
        (scope_of(version="2"), 505, True, "malformed"),
        (scope_of(query=b"x" * (LONGEST_TARGET - 1)), 200, False, None),
        (scope_of(query=b"x" * LONGEST_TARGET), 414, True, "too_large"),
        (scope_of(x="y" * (LONGEST_HEAD - 5)), 200, False, None),
        (scope_of(x="y" * LONGEST_HEAD), 431, True, "too_large"),
        (scope_of(content_length="0"), 200, False, None),
        (scope_of(content_length=str(LARGEST_BODY)), 200, True, None),
        (scope_of(content_length=str(LARGEST_BODY + 1)), 413, True, "too_large"),
        (scope_of(content_length="9" * 5000), 413, True, "too_large"),
        (scope_of(content_length="0" * 5000 + "1"), 200, True, None),
        (scope_of(transfer_encoding="chunked"), 413, True, "too_large"),
        (scope_of("/batch", content_length=str(LARGEST_BODY + 1)), 200, True, None),
    ],
)
def test_sizes(scope: Scope, status: int, closes: bool, reason: str | None) -> None:
    refused: list[str] = []
    app = Sizes(fine, refused=refused.append, bodies={"/batch": 1 << 20})
    found, headers = asyncio.run(answered(app, scope))
    assert (found, headers.get("connection") == "close") == (status, closes)
    assert refused == ([] if reason is None else [reason])


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/flows", 503), ("/unknown", 503), ("/metrics", 200), ("/-/healthy", 200)]
)
def test_queries_at_once_leave_room_for_scrapes_and_health_checks(path: str, status: int) -> None:
    async def run() -> tuple[int, dict[str, str]]:
        release = asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["query_string"]:
                await release.wait()
            await fine(scope, receive, send)

        refused: list[str] = []
        areas = {"/metrics": "scrape", "/-/healthy": "health"}
        app = TargetLimit(slow, areas=areas, refused=refused.append)
        queries = [asyncio.create_task(answered(app, scope_of("/api/v1/flows", b"wait"))) for _ in range(MAX_QUERIES)]
        await asyncio.sleep(0)
        found = await answered(app, scope_of(path))
        assert refused == (["queries"] if status == 503 else [])
        release.set()
        assert {status for status, _ in await asyncio.gather(*queries)} == {200}
        assert (await answered(app, scope_of(path)))[0] == 200, "there is room again"
        return found

    found, headers = asyncio.run(run())
    assert (found, headers.get("retry-after")) == (status, "1" if status == 503 else None)


def test_a_query_that_fails_makes_room() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("defect")

    async def run() -> None:
        app = TargetLimit(broken, areas={}, refused=lambda _: None)
        for _ in range(MAX_QUERIES + 1):
            with pytest.raises(RuntimeError):
                await answered(app, scope_of())

    asyncio.run(run())


@pytest.mark.parametrize(
    ("own", "configured", "expected"),
    [
        ({}, {}, SAFE_HEADERS),
        ({"cache-control": "max-age=5"}, {}, {**SAFE_HEADERS, "cache-control": "max-age=5"}),
        ({}, {"x-frame-options": "sameorigin"}, {**SAFE_HEADERS, "x-frame-options": "sameorigin"}),
    ],
)
def test_safe_headers(own: dict[str, str], configured: dict[str, str], expected: dict[str, str]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("", headers=own)(scope, receive, send)

    _, headers = asyncio.run(answered(SafeHeaders(app, chosen=lambda: configured), scope_of()))
    assert {name: headers[name] for name in SAFE_HEADERS} == expected
