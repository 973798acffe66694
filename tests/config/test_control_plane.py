"""The section control_plane: keys that exclude or need each other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from flowmap.config import ControlPlaneConfig, CredentialsConfig

KEY = {"access_key_id": "id", "access_key_secret": "s"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (KEY, None),
        ({}, None),
        ({"access_key_id": "id", "access_key_secret_file": "f"}, None),
        (KEY | {"security_token": "t"}, None),
        (KEY | {"access_key_secret_file": "f"}, "give access_key_secret or access_key_secret_file, not both"),
        (KEY | {"security_token": "t", "security_token_file": "f"}, "give security_token or security_token_file"),
        ({"access_key_id": "id"}, "go together"),
        ({"access_key_secret": "s"}, "go together"),
        ({"security_token": "t"}, "security_token needs access_key_id"),
        (KEY | {"ecs_ram_role": True}, "give ecs_ram_role or access_key_id, not both"),
        ({"access_key_id": ""}, "at least 1 character"),
    ],
)
def test_credentials(given: dict[str, Any], problem: str | None) -> None:
    if problem is None:
        assert CredentialsConfig.model_validate(given)
    else:
        with pytest.raises(ValidationError, match=problem):
            CredentialsConfig.model_validate(given)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"proxy_url": "http://p:1", "proxy_from_environment": True}, "give proxy_url or proxy_from_environment"),
        ({"workspace": "w", "workspaces": [{"workspace": "w"}]}, "given more than once: w"),
        ({"workspaces": [{"workspace": "v"}, {"workspace": "v"}]}, "given more than once: v"),
        ({"blink": {"enabled": True}}, "blink.enabled needs region"),
        ({"namespaces": ["a", "a"]}, "given more than once: a"),
        ({"namespaces": []}, "give at least one"),
        ({"namespaces": [".."]}, "is not a namespace"),
        ({"rate": 0}, "greater than 0"),
        ({"catalog": {"label": "team"}}, "String should match"),
        ({"endpoint": "http://example.com"}, "http"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ControlPlaneConfig.model_validate(given)


@pytest.mark.parametrize(
    ("given", "enabled"),
    [
        ({}, False),
        ({"rate": 5}, False),
        ({"region": "cn-hangzhou"}, True),
        ({"endpoint": "http://127.0.0.1:1"}, True),
        ({"workspace": "w"}, True),
    ],
)
def test_enabled(given: dict[str, Any], enabled: bool) -> None:
    assert ControlPlaneConfig.model_validate(given).enabled is enabled
