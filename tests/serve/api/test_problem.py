"""Errors as application/problem+json."""

from __future__ import annotations

import pytest

from flowmap.errors import HistoryError, StoreError, Throttled
from tests.support.fake_backend import FakeBackend
from tests.support.http_api import ADDRESSES, ask


def test_a_history_that_cannot_be_read_is_503() -> None:
    backend = FakeBackend()
    backend.error = HistoryError("/secret/path: locked", reason="locked")
    response = ask("/api/v1/flows?from=1h", backend=backend)
    assert (response.status_code, "locked" in response.text, "secret" in response.text) == (503, True, False)


def test_the_store_in_place_of_the_history_is_named() -> None:
    backend = FakeBackend()
    backend.error = StoreError("http://secret:8123: refused", reason="connect")
    response = ask("/api/v1/flows?from=1h", backend=backend)
    assert response.status_code == 503
    assert response.json()["detail"].startswith("ClickHouse, the history of this daemon, cannot be read (connect); run")
    assert "secret" not in response.text


@pytest.mark.parametrize("path", ["/metrics", "/", "/api/v1/flows", "/-/ready", "/openapi.json"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods(path: str, method: str) -> None:
    response = ask(path, method=method)
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path", ["/x", "/metrics/", "/api/v1/deployments/", "/api/v1/deployments/a/b", "/api/v1/%2e%2e"]
)
def test_unknown_paths(path: str) -> None:
    response = ask(path)
    assert response.status_code == 404
    assert response.json()["title"] == "Not Found"


def test_errors_of_the_backend() -> None:
    backend = FakeBackend()
    backend.error = Throttled("slow down, secret-id", retry_after=1)
    response = ask(f"/api/v1/attribution?{ADDRESSES}", backend=backend)
    assert (response.status_code, response.headers["content-type"]) == (502, "application/problem+json")
    assert "throttled" in response.json()["detail"]
    backend.error = RuntimeError("inside of flowmap")
    response = ask(f"/api/v1/attribution?{ADDRESSES}", backend=backend)
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert "inside" not in response.text and "Traceback" not in response.text
