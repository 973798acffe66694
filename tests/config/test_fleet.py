"""The section fleet: what it needs, and what would be unsafe."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from flowmap.config import load
from flowmap.config.fleet import FleetConfig
from flowmap.config.values import ValkeyUrl, split_valkey
from flowmap.errors import ConfigError

GOOD: dict[str, object] = {"url": "rediss://valkey.example", "size": 3, "key_file": "key"}


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("redis://localhost", ValkeyUrl(False, None, "localhost", 6379, 0)),
        ("rediss://user@host:1/2", ValkeyUrl(True, "user", "host", 1, 2)),
        ("redis://[::1]:7/", ValkeyUrl(False, None, "::1", 7, 0)),
        ("redis://user:password@host", None),
        ("http://host", None),
        ("redis://", None),
        ("redis://host:0", None),
        ("redis://host:x", None),
        ("redis://host/name", None),
        ("redis://host?db=1", None),
        ("redis://ho st\n", None),
    ],
)
def test_urls(url: str, parts: ValkeyUrl | None) -> None:
    if parts is not None:
        assert split_valkey(url) == parts
        return
    with pytest.raises(ValueError) as refused:
        split_valkey(url)
    assert "password@" not in str(refused.value) and "user:" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"url": "redis://127.0.0.1"}, None),
        ({"url": "redis://[::1]"}, None),
        ({"url": "redis://10.0.0.1", "insecure": True}, None),
        ({"trust": "own", "key_file": None}, None),
        ({"tls": {"ca_file": "ca.pem"}}, None),
        ({"url": "redis://10.0.0.1"}, "use rediss://"),
        ({"url": "redis://localhost", "tls": {"ca_file": "ca.pem"}}, "needs a url with rediss://"),
        ({"tls": {"cert_file": "c.pem"}}, "go together"),
        ({"size": None}, "size: is missing"),
        ({"size": 0}, "size"),
        ({"key_file": None}, "key_file: is missing"),
        ({"scope": "a b"}, "scope"),
        ({"trust": "some"}, "trust"),
    ],
)
def test_what_it_needs(change: dict[str, object], problem: str | None) -> None:
    if problem is None:
        assert FleetConfig.model_validate(GOOD | change).url is not None
        return
    with pytest.raises(ValidationError, match=problem):
        FleetConfig.model_validate(GOOD | change)


@pytest.mark.parametrize(
    ("plane", "key", "problem"),
    [
        ("control_plane: {region: r, workspace: w}", "k" * 32, None),
        ("control_plane: {region: r, workspace: w}", "k" * 32 + "\n" + "o" * 40 + "\n", None),
        ("control_plane: {region: r, workspace: w}", "short", "fleet.key_file: .*shorter than 32"),
        ("control_plane: {region: r, workspace: w}", "k" * 32 + "\nshort", "fleet.key_file: .*shorter than 32"),
        ("control_plane: {region: r, workspace: w}", "", "fleet.key_file: .*shorter than 32"),
        ("control_plane: {region: r, workspace: w}", None, "fleet.key_file: .*cannot be read"),
        ("flink: {kubernetes: {enabled: true}}", "k" * 32, "fleet.url: there is nothing to share"),
    ],
)
def test_its_files(tmp_path: Path, plane: str, key: str | None, problem: str | None) -> None:
    if key is not None:
        (tmp_path / "key").write_text(key)
    file = tmp_path / "flowmap.yaml"
    file.write_text(f"{plane}\nfleet: {{url: rediss://v, size: 3, key_file: {tmp_path / 'key'}}}\n")
    if problem is None:
        assert load(str(file), {}).fleet.size == 3
        return
    with pytest.raises(ConfigError, match=problem):
        load(str(file), {})
