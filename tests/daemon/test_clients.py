"""Clients of the control plane, made from the configuration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flowmap.config import Config, ControlPlaneConfig
from flowmap.control.port import ControlPlane
from flowmap.daemon.clients import (
    catalog_label,
    configured_control,
    control_client,
    control_route,
    endpoint_url,
    query_timeout,
)
from flowmap.errors import ConfigError
from flowmap.model.deployment import FLINK

PLANE = {
    "endpoint": "http://127.0.0.1:9",
    "workspace": "w",
    "credentials": {"access_key_id": "id", "access_key_secret": "s"},
}
CLUSTER = {"name": "prod", "urls": ["http://127.0.0.1:8081"]}


async def admit(question: bool, exchange: int) -> Any:
    raise AssertionError("no call is made")


def closed(plane: ControlPlane) -> None:
    asyncio.run(plane.aclose())


def section(**given: Any) -> ControlPlaneConfig:
    return ControlPlaneConfig.model_validate(given)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"endpoint": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
        ({"region": "cn-hangzhou"}, "https://ververica.cn-hangzhou.aliyuncs.com"),
        ({"region": "cn-hangzhou", "endpoint": "https://example.com"}, "https://example.com"),
    ],
)
def test_endpoint(given: dict[str, str], url: str) -> None:
    assert endpoint_url(section(**given)) == url


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"control_plane.region \(or endpoint\) is missing"):
        endpoint_url(section())
    with pytest.raises(ConfigError, match="control_plane.workspace is missing"):
        control_client(section(**{key: value for key, value in PLANE.items() if key != "workspace"}))


@pytest.mark.parametrize(
    ("given", "environ", "proxy"),
    [
        ({}, {"HTTPS_PROXY": "http://env:1"}, None),
        ({"proxy_from_environment": True}, {"HTTPS_PROXY": "http://env:1"}, "http://env:1"),
        ({"proxy_from_environment": True}, {}, None),
        ({"proxy_url": "http://configured:1"}, {"HTTPS_PROXY": "http://env:1"}, "http://configured:1"),
    ],
)
def test_the_proxy_of_the_environment_is_used_only_if_asked_for(
    given: dict[str, Any], environ: dict[str, str], proxy: str | None
) -> None:
    found = control_route(section(**given), environ).proxy
    assert (None if found is None else str(found)) == proxy


def test_a_file_of_authorities_that_is_missing(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=missing):
        control_route(section(tls={"ca_file": missing}), {})


@pytest.mark.parametrize(
    ("given", "workspace", "endpoint", "scopes"),
    [
        ({"control_plane": PLANE}, "w", "http://127.0.0.1:9", set()),
        ({"flink": {"clusters": [CLUSTER]}}, FLINK, "http://127.0.0.1:8081", {(FLINK, "prod")}),
        (
            {"control_plane": PLANE, "flink": {"clusters": [CLUSTER]}},
            "w",
            "http://127.0.0.1:9, http://127.0.0.1:8081",
            {(FLINK, "prod")},
        ),
    ],
    ids=["alibaba", "flink", "both"],
)
def test_the_control_planes_of_a_configuration(
    given: dict[str, Any], workspace: str, endpoint: str, scopes: set[tuple[str, str]]
) -> None:
    control = configured_control(Config.model_validate(given), admit=admit)
    assert (control.plane.workspace, control.plane.endpoint) == (workspace, endpoint)
    assert {tuple(scope) for scope in control.scopes()} == scopes
    closed(control.plane)


def test_settings_that_cannot_be_used_change_nothing() -> None:
    control = configured_control(Config.model_validate({"control_plane": PLANE}), admit=admit)
    old = section(**PLANE)
    with pytest.raises(ConfigError, match="catalog.label"):
        control.prepare(old, section(**PLANE, catalog={"label": "team=,"}))
    control.prepare(old, section(**PLANE, timeout="3s"))()
    closed(control.plane)


@pytest.mark.parametrize(("label", "named"), [(None, None), ("team=a,b", "team")])
def test_the_label_of_the_catalog(label: str | None, named: str | None) -> None:
    found = catalog_label(section(catalog={"label": label}))
    assert (None if found is None else found.key) == named


def test_a_query_may_take_as_long_as_a_call_and_a_second() -> None:
    assert query_timeout(Config.model_validate({"control_plane": {"timeout": "4s"}})) == 5.0
