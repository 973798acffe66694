"""flowmap check: findings and exit status."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from flowmap.cli import command
from flowmap.cli.check import command as check
from flowmap.cli.check import host as check_host
from flowmap.config import load
from flowmap.sources import choice, kinds
from flowmap.sources.base import Finding

Level = Literal["ok", "degraded", "failed"]


def finding(name: str, level: Level) -> Finding:
    return Finding(name, level, "message", "" if level == "ok" else "remedy")


SOURCES: list[tuple[str, Level, Level, list[Level]]] = [
    # source, conntrack and sockets by themselves: levels told
    ("auto", "ok", "ok", ["ok", "ok"]),
    ("auto", "failed", "ok", ["degraded", "ok"]),
    ("auto", "ok", "failed", ["ok", "degraded"]),
    ("auto", "failed", "failed", ["failed", "failed"]),
    ("auto", "degraded", "failed", ["degraded", "degraded"]),
    ("conntrack", "failed", "ok", ["failed"]),
    ("sockets", "ok", "failed", ["failed"]),
]


@pytest.mark.parametrize(("source", "conntrack", "sockets", "levels"), SOURCES)
def test_one_source_is_enough_for_auto(
    source: str, conntrack: Level, sockets: Level, levels: list[Level], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, level in ((kinds.CONNTRACK, conntrack), (kinds.SOCKETS, sockets)):
        always = partial(lambda found, _: [found], finding(f"{kind.facts.name}.access", level))
        monkeypatch.setitem(kinds.KINDS, kind.facts.name, replace(kind, check=always))
    monkeypatch.setattr(choice, "choose", lambda *_, **__: choice.Choice("sockets", "so it is", costs=True))
    config = load(None, {"FLOWMAP__COLLECT__SOURCE": source})
    found = check.sources(config)
    if source == "auto":
        assert found.pop(0) == Finding("collect.source", "degraded", "auto takes sockets: so it is")
    assert ("sockets.rung" in {one.name for one in found}) == (source == "conntrack"), "sockets has its own"
    assert [one.level for one in found if one.name != "sockets.rung"] == levels


def test_bad_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("log: {levle: info}\nhttp: {port: 1}\n")
    assert command.main(["check", "-c", str(file), "-o", "table"]) == 1
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["failed", "config"]] * 2


def test_unreachable_control_plane(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(check, "sources", lambda _: [finding("conntrack.access", "degraded")])
    monkeypatch.setattr(check_host, "look", lambda *_: [])
    (tmp_path / "secret").write_text("s")
    file = tmp_path / "flowmap.yaml"
    file.write_text(
        "control_plane:\n  endpoint: http://127.0.0.1:9\n  workspace: w\n  timeout: 500ms\n"
        f"  credentials: {{access_key_id: i, access_key_secret_file: {tmp_path}/secret}}\n"
    )
    assert command.main(["check", "-c", str(file), "-o", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [(one["name"], one["level"]) for one in report["findings"]] == [
        ("config", "ok"),
        ("control_plane.credentials", "ok"),
        ("control_plane.default-namespace.GetDeploymentsByIp", "failed"),
        ("conntrack.access", "degraded"),
    ]
    assert command.main(["check", "-c", str(file), "-o", "table"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].split() == ["degraded", "conntrack.access", "message;", "remedy"]
