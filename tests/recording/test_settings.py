"""The recorded part of a configuration: complete for a replay, without secrets, and readable by other versions."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.config import Config
from flowmap.errors import DecodeError
from flowmap.recording.settings import kept_settings, read_settings

SECRET = "very-secret"


def configured(endpoint: str | None = None) -> Config:
    control = {"region": "cn-hangzhou", "workspace": "w", "namespaces": ["n"], "endpoint": endpoint}
    credentials = {"access_key_id": "LTAI", "access_key_secret": SECRET}
    return Config.model_validate({"control_plane": {**control, "credentials": credentials}, "attribute": {"grace": 9}})


def test_what_is_kept_comes_back_and_holds_no_secret() -> None:
    kept = kept_settings(configured())
    assert SECRET not in str(kept) and "LTAI" not in str(kept)
    read = read_settings(kept)
    assert (read.config.attribute, read.config.export, read.unknown) == (configured().attribute, Config().export, ())
    assert read.config.control_plane.workspace == "w"


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        (None, None),
        ("https://ververica.cn-hangzhou.aliyuncs.com", None),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_only_loopback_endpoints_are_kept(endpoint: str | None, kept: str | None) -> None:
    assert kept_settings(configured(endpoint))["control_plane"]["endpoint"] == kept


@pytest.mark.parametrize(
    ("kept", "unknown"),
    [
        ({}, ()),
        ({"attribute": {"grace": 9}}, ()),
        ({"attribute": {"grace": 9, "future": 1}}, ("attribute.future",)),
        ({"later": {"key": 1}, "attribute": {"grace": 9}}, ("later",)),
    ],
)
def test_unknown_keys_are_named_and_ignored(kept: dict[str, Any], unknown: tuple[str, ...]) -> None:
    read = read_settings(kept)
    assert read.unknown == unknown
    assert read.config.attribute.grace == (9 if kept else Config().attribute.grace)


@pytest.mark.parametrize("kept", [{"attribute": {"grace": "long"}}, {"attribute": 1}, 1, None])
def test_settings_that_cannot_be_used(kept: Any) -> None:
    with pytest.raises(DecodeError, match="the settings of the recording cannot be used"):
        read_settings(kept)
