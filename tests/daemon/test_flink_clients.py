"""Clients of open-source Flink clusters, made from the configuration. No cluster is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flowmap.config import FlinkConfig
from flowmap.daemon.flink_clients import flink_control_plane
from flowmap.errors import ConfigError

CLUSTER = {"name": "prod", "urls": ["http://127.0.0.1:8081", "http://127.0.0.1:8082"], "path_prefix": "/flink"}


def section(**given: Any) -> FlinkConfig:
    return FlinkConfig.model_validate(given)


@pytest.mark.parametrize("host", ["auto", "off"])
@pytest.mark.parametrize(
    "clusters",
    [
        [],
        [CLUSTER],
        [CLUSTER, {"name": "test", "urls": ["http://127.0.0.1:8083"]}],
    ],
    ids=len,
)
def test_every_configured_cluster_gets_a_client(clusters: list[dict[str, Any]], host: str) -> None:
    plane = flink_control_plane(section(clusters=clusters, host=host))
    assert list(plane.clusters) == [one["name"] for one in clusters]
    asyncio.run(plane.aclose())


def test_a_file_of_authorities_that_is_missing(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")
    cluster = {"name": "prod", "urls": ["https://127.0.0.1:8081"], "tls": {"ca_file": missing}}
    with pytest.raises(ConfigError, match=missing):
        flink_control_plane(section(clusters=[cluster]))
