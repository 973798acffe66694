"""Checks of the host that need no privilege: modes of files, capabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowmap.cli.check import host
from flowmap.config import Config
from flowmap.sources.kinds import CONNTRACK
from flowmap.system.privileges import Capability

SECRET = {"control_plane": {"credentials": {"access_key_id": "i", "access_key_secret": "s"}}}


@pytest.mark.parametrize(
    ("settings", "mode", "level", "words"),
    [
        ({}, 0o644, "ok", "mode 0644"),
        (SECRET, 0o600, "ok", "mode 0600"),
        (SECRET, 0o644, "degraded", "every user may read the secrets"),
        ({}, 0o666, "degraded", "every user may change it"),
    ],
)
def test_mode_of_the_configuration(settings: dict[str, Any], mode: int, level: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("")
    file.chmod(mode)
    (finding,) = host.files(str(file), Config.model_validate(settings))
    assert (finding.name, finding.level) == ("files.config", level)
    assert words in finding.message


NOTHING, ALL = frozenset[Capability](), frozenset(Capability)


@pytest.mark.parametrize(
    ("source", "held", "level", "words"),
    [
        ("auto", NOTHING, "degraded", f"CAP_NET_ADMIN is missing: {CONNTRACK.without}"),
        ("conntrack", NOTHING, "failed", f"CAP_NET_ADMIN is missing: {CONNTRACK.without}"),
        ("capture", NOTHING, "failed", "CAP_NET_RAW is missing: packets cannot be captured"),
        ("sockets", NOTHING, "ok", "all required capabilities (none)"),
        ("capture", ALL, "ok", "all required capabilities (CAP_NET_RAW)"),
    ],
)
def test_capabilities(
    source: str, held: frozenset[Capability], level: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "held", lambda: held)
    (finding,) = host.capabilities(Config.model_validate({"collect": {"source": source}}))
    assert finding.level == level
    assert finding.message.startswith(words)
