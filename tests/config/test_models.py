"""The sections of the configuration: what goes together, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from flowmap.config import CaptureConfig, Config, HttpConfig
from tests.support.config_files import BCRYPT


@pytest.mark.parametrize(
    ("given", "interfaces", "kept"),
    [
        ({}, (), 128),
        ({"interfaces": ["eth0", "eth1"]}, ("eth0", "eth1"), 128),
        ({"interfaces": ["eth0", "any"]}, (), 128),
        ({"snap": 512}, (), 512),
        ({"tunnels": "inner"}, (), 256),
        ({"tunnels": "inner", "snap": 300}, (), 300),
    ],
)
def test_what_is_captured(given: dict[str, Any], interfaces: tuple[str, ...], kept: int) -> None:
    capture = CaptureConfig.model_validate(given)
    assert (capture.listened_on, capture.kept) == (interfaces, kept)


@pytest.mark.parametrize(
    ("given", "excluded"),
    [
        ({}, ["127.0.0.0/8:10817", "[::1]:10817"]),
        (
            {"collect": {"exclude": ["tcp/22"]}, "http": {"listen": "127.0.0.1:80"}},
            ["tcp/22", "127.0.0.0/8:80", "[::1]:80"],
        ),
        (
            {"control_plane": {"endpoint": "http://127.0.0.1:99"}, "http": {"listen": "127.0.0.1:0"}},
            ["127.0.0.0/8:99", "[::1]:99"],
        ),
        ({"control_plane": {"endpoint": "https://example.com"}, "http": {"listen": "127.0.0.1:0"}}, []),
        (
            {
                "flink": {"clusters": [{"name": "a", "urls": ["http://127.0.0.1:8081", "http://10.0.0.1:8081"]}]},
                "http": {"listen": "127.0.0.1:0"},
            },
            ["127.0.0.0/8:8081", "[::1]:8081"],
        ),
    ],
)
def test_flowmap_s_own_connections_do_not_count(given: dict[str, Any], excluded: list[str]) -> None:
    assert list(Config.model_validate(given).excluded) == excluded


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"listen": "0.0.0.0:80"}, "other hosts could see every connection"),
        ({"listen": "[::]:80"}, "other hosts could see every connection"),
        ({"web_config": "w.yml", "users": {"ann": BCRYPT}}, "give web_config, or tls and users, not both"),
        ({"users": {}}, "give at least one"),
        ({"users": {"ann": BCRYPT}, "access": {"query": ["eve"]}}, "access: no user 'eve' in users"),
    ],
)
def test_a_server_that_would_be_open_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        HttpConfig.model_validate(given)


@pytest.mark.parametrize(
    "given",
    [
        {"listen": "127.0.0.1:80"},
        {"listen": "[::1]:80"},
        {"listen": "0.0.0.0:80", "insecure": True},
        {"listen": "0.0.0.0:80", "users": {"ann": BCRYPT}},
        {"listen": "0.0.0.0:80", "web_config": "read-later.yml"},
    ],
)
def test_a_guarded_server(given: dict[str, Any]) -> None:
    assert str(HttpConfig.model_validate(given).listen) == given["listen"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("collect", {"source": "pcap"}),
        ("collect", {"max_flows": 0}),
        ("attribute", {"semantics": "guess"}),
        ("log", {"level": "loud"}),
        ("export", {"labels": ["team"]}),
        ("nothing", {}),
    ],
)
def test_unknown_values_and_keys(key: str, value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({key: value})
