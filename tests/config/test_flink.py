"""The section flink: clusters, logins, and which combinations are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from flowmap.config import FlinkClusterConfig, FlinkConfig

CLUSTER = {"name": "prod", "urls": ["http://10.0.0.1:8081"]}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"urls": []}, "give at least one"),
        ({"urls": ["http://a:1", "http://a:1"]}, "given more than once"),
        ({"urls": ["10.0.0.1:8081"]}, "urls"),
        ({"name": ".."}, "is not a namespace"),
        ({"tls": {"cert_file": "c"}}, "cert_file and key_file go together"),
        ({"tls": {"key_file": "k"}}, "cert_file and key_file go together"),
        (
            {"bearer_token_file": "t", "basic_auth": {"username": "u", "password_file": "p"}},
            "give bearer_token_file or basic_auth, not both",
        ),
        ({"path_prefix": "proxy"}, "path_prefix"),
        ({"path_prefix": "/a?b"}, "path_prefix"),
    ],
)
def test_clusters_that_cannot_be(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        FlinkClusterConfig.model_validate(CLUSTER | given)


@pytest.mark.parametrize(
    ("given", "enabled"),
    [({}, False), ({"clusters": [CLUSTER]}, True), ({"kubernetes": {"enabled": True}}, True), ({"poll": "5s"}, False)],
)
def test_enabled(given: dict[str, Any], enabled: bool) -> None:
    assert FlinkConfig.model_validate(given).enabled is enabled


def test_names_of_clusters_differ() -> None:
    with pytest.raises(ValidationError, match="more than once"):
        FlinkConfig.model_validate({"clusters": [CLUSTER, CLUSTER]})
