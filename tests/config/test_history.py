"""The store of all hosts in the configuration."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from flowmap.config import HistoryConfig

PATH = "/var/lib/flowmap/history.db"


@pytest.mark.parametrize(
    "url", ["https://clickhouse.example:8443", "http://127.0.0.1:8123", "http://[::1]:8123", "http://localhost:8123"]
)
def test_urls(url: str) -> None:
    settings = HistoryConfig.model_validate({"path": PATH, "clickhouse": {"url": url}})
    assert settings.clickhouse.url == url


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"path": PATH, "clickhouse": {"url": "http://10.0.0.1:8123"}}, "use https://, or insecure: true"),
        ({"path": PATH, "clickhouse": {"url": "https://user:secret@host"}}, "is not http://host"),
        ({"path": PATH, "clickhouse": {"url": "host:8123"}}, "is not http://host"),
        ({"clickhouse": {"url": "https://host"}}, "path: is missing"),
        ({"path": PATH, "clickhouse": {"url": "http://[::1]", "tls": {"ca_file": "ca"}}}, "needs a url with https://"),
        ({"path": PATH, "clickhouse": {"url": "https://host", "database": "a b"}}, "database"),
        ({"path": PATH, "clickhouse": {"url": "https://host", "local_networks": ["10.0.0.0/33"]}}, "10.0.0.0/33"),
        ({"path": PATH, "clickhouse": {"url": "https://host", "network": "a@b"}}, "network"),
    ],
)
def test_refused(section: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HistoryConfig.model_validate(section)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)
