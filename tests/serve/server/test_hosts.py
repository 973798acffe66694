"""Which names in the Host header are served."""

from __future__ import annotations

import pytest

from tests.support.http_api import ask

HOST_ROWS = [
    ("127.0.0.1:10817", True),
    ("[::1]:10817", True),
    ("192.0.2.7", True),
    ("localhost:1", True),
    ("LOCALHOST.", True),
    ("flowmap.example:10817", True),
    ("a.b.internal", True),
    ("internal", False),
    ("evil.example", False),
    ("localhost.evil.example", False),
    ("127.0.0.1.evil.example", False),
    ("evil.example:127.0.0.1", False),
    ("", False),
]


@pytest.mark.parametrize(("host", "served"), HOST_ROWS)
def test_hosts(host: str, served: bool) -> None:
    response = ask("/api/v1/peers", headers={"host": host}, allowed=("Flowmap.example", "*.internal"))
    assert response.status_code == (200 if served else 403)
    if not served:
        assert "10.0.0.9" not in response.text
        assert response.headers["content-type"] == "application/problem+json"


def test_every_host() -> None:
    assert ask("/api/v1/peers", headers={"host": "evil.example"}, allowed=("*",)).status_code == 200
