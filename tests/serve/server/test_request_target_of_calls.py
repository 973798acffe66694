"""No request chooses whom flowmap calls, or which file it reads: every parameter of every path, and headers."""

from __future__ import annotations

import asyncio
import itertools
from urllib.parse import quote, urlsplit

import httpx
import pytest

from flowmap.serve.api.app import PAGES
from flowmap.serve.api.endpoints import ENDPOINTS
from tests.support.whole_daemon import ENDPOINT, house

TARGETS = [
    "http://127.0.0.1:1/",
    "https://evil.example/x?y#z",
    "//evil.example/",
    "evil.example",
    "user@evil.example:80",
    "169.254.169.254",
    "100.100.100.200",
    "[::ffff:169.254.169.254]:80",
    "file:///etc/passwd",
    "../../../etc/passwd",
    "10.0.0.1\r\nHost: evil.example",
    "10.0.0.1#@evil.example",
    "%2e%2e/evil",
    "evil.example\0",
]

HEADERS = {
    "x-forwarded-host": "evil.example",
    "x-forwarded-for": "127.0.0.1",
    "forwarded": "host=evil.example;for=127.0.0.1",
    "x-original-url": "http://evil.example/",
    "x-rewrite-url": "/-/healthy",
    "referer": "http://evil.example/",
    "origin": "http://evil.example",
}


def questions() -> list[str]:
    """Every path with every parameter replaced by every target, the others as they should be."""
    usual = {"srcIp": "10.0.0.1", "dstIp": "10.0.0.2", "dstPort": "9092"}
    asked = []
    pages: list[tuple[str, list[str]]] = [(page.path, []) for page in PAGES]
    for path, names in (*pages, *((endpoint.path, endpoint.names()) for endpoint in ENDPOINTS)):
        given = {name: value for name, value in usual.items() if name in names}
        if "{" in path:
            asked += [path.split("{")[0] + quote(target, safe="") for target in TARGETS]
        for name, target in itertools.product([*names, "target", "url", "name[]"], TARGETS):
            query = "&".join(f"{key}={quote(value, safe='')}" for key, value in {**given, name: target}.items())
            asked.append(f"{path}?{query}")
    return asked


def test_no_request_chooses_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with house(monkeypatch) as (pipeline, called):
            async with httpx.AsyncClient(base_url=pipeline.server.url, trust_env=False, headers=HEADERS) as client:
                asked = questions()
                assert len(asked) > 300
                for path in asked:
                    answer = await client.get(path)
                    assert answer.status_code in (200, 400, 404, 405, 502), path  # 405: the batch takes POST only
                    assert "location" not in answer.headers
                    assert not [name for name in answer.headers if name.startswith("access-control-")]
                    assert "root:" not in answer.text
            assert called.urls  # some were questions to the control plane
            for url in called.urls:
                parts = urlsplit(url)
                assert f"{parts.scheme}://{parts.netloc}" == ENDPOINT
                assert parts.path.startswith("/api/"), url
                assert "evil" not in url and ".." not in url

    asyncio.run(run())
