"""Every form of a request's target (RFC 9112, section 3.2), by raw sockets."""

from __future__ import annotations

import asyncio

import pytest

from flowmap.config import HttpConfig
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from flowmap.serve.server.server import HttpServer
from flowmap.serve.server.web import Web
from tests.support.certificates import HASH
from tests.support.fake_backend import FakeBackend
from tests.support.sandbox import running_sandbox

FORMS = [
    # target, Host, status
    ("/metrics", "localhost", 200),
    ("http://localhost/metrics", "localhost", 200),
    ("HTTP://LOCALHOST:10817/metrics", "localhost", 200),
    ("http://localhost/api/v1/flows?limit=1", "localhost", 200),
    ("http://localhost/api/v1/flows?limit=none", "localhost", 400),
    ("http://127.0.0.1", "localhost", 200),
    ("http://127.0.0.1?x=/metrics", "localhost", 200),
    ("http://[::1]:10817/-/healthy", "localhost", 200),
    ("http://localhost//metrics", "localhost", 404),
    ("http://localhost/http://localhost/metrics", "localhost", 404),
    # The authority of the target counts, for the check against DNS rebinding too.
    ("http://localhost/metrics", "evil.example", 200),
    ("http://evil.example/metrics", "localhost", 403),
    ("http://evil.example/metrics", "evil.example", 403),
    ("http://evil.example", "localhost", 403),
    ("/metrics", "evil.example", 403),
    ("http://localhost@evil.example/metrics", "localhost", 400),
    ("http://evil.example@localhost/metrics", "localhost", 400),
    ("http:///metrics", "localhost", 400),
    ("http://:80/metrics", "localhost", 400),
    ("https://localhost/metrics", "localhost", 421),
    ("ftp://localhost/metrics", "localhost", 400),
    ("localhost/metrics", "localhost", 400),
    ("localhost:80", "localhost", 400),
    ("metrics", "localhost", 400),
    ("?x", "localhost", 400),
    ("*", "localhost", 400),
    ("/metrics#top", "localhost", 400),
    ("/api/v1/flows?limit=1#top", "localhost", 400),
    ("http://localhost/metrics#top", "localhost", 400),
    ("//metrics", "localhost", 404),
    ("//localhost/metrics", "localhost", 404),
    ("/%2fmetrics", "localhost", 404),
    ("/-%2Fhealthy", "localhost", 200),
    ("/metrics%2f", "localhost", 404),
    ("/metrics%23top", "localhost", 404),
]


async def answer(address: str, request: str) -> tuple[int, str]:
    """Status, and the whole answer."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.encode())
    async with asyncio.timeout(20):
        received = (await reader.read(-1)).decode()
    writer.close()
    return int(received.split(" ", 2)[1]), received


def ask(requests: list[tuple[str, str, str]], **http: object) -> list[tuple[int, str]]:
    """What each request line and Host gets, in order, from one server."""

    async def run() -> list[tuple[int, str]]:
        web = Web(HttpConfig.model_validate(http))
        server = HttpServer(build_app(FakeBackend(), Exposition(SelfMetrics("test")), web), "127.0.0.1", 0, web=web)
        await server.start()
        try:
            return [
                await answer(server.address, f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
                for method, target, host in requests
            ]
        finally:
            await server.stop()

    return asyncio.run(run())


def test_every_form_has_its_status() -> None:
    answers = ask([("GET", target, host) for target, host, _ in FORMS])
    found = [(target, host, status) for (target, host, _), (status, _) in zip(FORMS, answers, strict=True)]
    assert found == FORMS
    for status, text in answers:
        assert status == 200 or "application/problem+json" in text


@pytest.mark.parametrize(
    ("method", "target"),
    [("OPTIONS", "*"), ("OPTIONS", "/metrics"), ("OPTIONS", "http://localhost"), ("CONNECT", "localhost:80")],
)
def test_methods_that_are_not_answered(method: str, target: str) -> None:
    ((status, text),) = ask([(method, target, "localhost")])
    assert status == 405
    (allowed,) = [line.removeprefix("allow: ") for line in text.splitlines() if line.startswith("allow: ")]
    assert set(allowed.split(", ")) == {"GET", "HEAD"}


def test_the_absolute_form_opens_nothing_that_the_path_does_not() -> None:
    access = {"query": ["ann"], "scrape": ["anonymous"]}
    paths = ["/metrics", "/api/v1/flows", "/-/ready", "/nothing", "/-/healthy/.."]
    plain = ask([("GET", path, "localhost") for path in paths], users={"ann": HASH}, access=access)
    absolute = ask(
        [("GET", f"http://localhost{path}", "localhost") for path in paths], users={"ann": HASH}, access=access
    )
    assert [status for status, _ in absolute] == [status for status, _ in plain] == [200, 401, 200, 401, 401]


def test_http_1_0_without_a_host_takes_the_authority() -> None:
    async def run() -> list[int]:
        server = HttpServer(build_app(FakeBackend(), Exposition(SelfMetrics("test"))), "127.0.0.1", 0)
        await server.start()
        targets = ("/metrics", "http://localhost/metrics", "http://evil.example/metrics")
        try:
            return [(await answer(server.address, f"GET {target} HTTP/1.0\r\n\r\n"))[0] for target in targets]
        finally:
            await server.stop()

    assert asyncio.run(run()) == [200, 200, 403]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/_sandbox/requests", 200),
        ("http://127.0.0.1/_sandbox/requests", 200),
        ("http://u@127.0.0.1/", 400),
        ("*", 400),
        ("/_sandbox/requests#x", 400),
    ],
)
def test_the_sandbox_takes_the_same_forms(target: str, status: int) -> None:
    with running_sandbox() as sandbox:
        address = sandbox.url.removeprefix("http://")
        request = f"GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        assert asyncio.run(answer(address, request))[0] == status
