"""Preflight: what is essential, and what is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from flowmap.cli import command
from flowmap.cli.check import command as check
from flowmap.cli.check import host as check_host
from flowmap.config import ControlPlaneConfig, load
from flowmap.control.alibaba.http.refusals import HttpReply
from flowmap.daemon.clients import credentials_provider
from flowmap.errors import AuthError
from flowmap.sandbox.verify import ACCESS_KEY_ID, ACCESS_KEY_SECRET
from flowmap.sources import choice, kinds
from flowmap.sources.base import Finding
from tests.support.control_clients import script
from tests.support.shell import CATALOG, Shell

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
    assert [one.level for one in found] == levels


def test_a_bad_configuration_is_the_only_thing_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text("log: {levle: info}\nhttp: {port: 1}\n")
    assert command.main(["check", "-c", str(file), "-o", "table"]) == 1
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["failed", "config"]] * 2


def test_a_control_plane_that_is_not_there_fails(
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


def asked(shell: Shell, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit status, and level and message of each finding about the control plane."""
    monkeypatch.setattr(check, "sources", lambda _: [])
    monkeypatch.setattr(check_host, "look", lambda *_: [])  # see tests/kernel/test_check.py
    status = shell.run("check", "-o", "json", settings=settings)
    findings = json.loads(shell.out)["findings"]
    found = {one["name"].removeprefix("control_plane."): (one["level"], one["message"]) for one in findings}
    del found["config"]
    return status, found


def test_every_operation_is_called_once(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    blink = {"enabled": True, "endpoint": shell.sandbox.url, "projects": ["legacy", "other"]}
    status, found = asked(shell, monkeypatch, blink=blink)
    assert status == 0
    assert {level for level, _ in found.values()} == {"ok"}
    operations = ("GetDeploymentsByIp", "GetDeploymentsByLabel", "ListDeployments", "ListJobs")
    assert list(found) == [
        "credentials",
        *(f"orders.{operation}" for operation in operations),
        *(f"risk.{operation}" for operation in operations),
        "clock",
        "blink.GetRefPackageJob",
    ]
    assert found["credentials"] == ("ok", "from config")
    assert found["orders.ListDeployments"][1].endswith(" ms, 2 deployments")
    assert found["orders.ListJobs"][1].endswith(" ms, 2 jobs of name-d1")
    assert found["blink.GetRefPackageJob"][1].endswith(" ms for project legacy")
    assert shell.asked() == dict.fromkeys(operations, 2) | {"GetRefPackageJob": 1}


def test_without_a_deployment_there_is_nobody_to_ask_jobs_for(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.sandbox.set_catalog(CATALOG | {"deployments": []})
    status, found = asked(shell, monkeypatch, blink={"enabled": True})
    assert status == 0
    assert found["risk.ListJobs"] == ("ok", "not checked: no deployment was listed")
    assert found["blink.GetRefPackageJob"] == ("ok", "not checked: control_plane.blink.projects is empty")
    assert "ListJobs" not in shell.asked()


COSTLY = [
    ("GetDeploymentsByIp", "failed", 1, "no connection can be named"),
    ("GetDeploymentsByLabel", "degraded", 0, "`flowmap deployments by-label` do not work"),
    ("ListDeployments", "degraded", 0, "`flowmap deployments list` do not work"),
    ("ListJobs", "degraded", 0, "jobs and the packages they use are unknown"),
]


@pytest.mark.parametrize(("operation", "level", "status", "cost"), COSTLY)
def test_an_operation_that_is_refused_says_what_it_costs(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, operation: str, level: str, status: int, cost: str
) -> None:
    shell.sandbox.set_faults([{"kind": "gateway", "operation": operation}])
    told, found = asked(shell, monkeypatch, namespaces=["orders"])
    assert told == status
    assert found[f"orders.{operation}"][0] == level
    assert "Forbidden.RAM" in found[f"orders.{operation}"][1]
    assert cost in found[f"orders.{operation}"][1]
    assert [name for name, (given, _) in found.items() if given != "ok"] == [f"orders.{operation}"]


def test_a_clock_that_is_off_is_told(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.sandbox.set_faults([{"kind": "clock", "seconds": 3600}])
    _, found = asked(shell, monkeypatch, namespaces=["orders"])
    assert found["orders.GetDeploymentsByIp"][0] == "ok"  # the client goes by the server's clock
    assert found["clock"][0] == "degraded"
    assert found["clock"][1] in (
        "the control plane's clock is 3600 s ahead",
        "the control plane's clock is 3599 s ahead",
    )


def test_a_part_that_fails_costs_none_of_the_others(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_family(*_: object) -> None:
        raise OSError(97, "Address family not supported by protocol")

    def defective(*_: object) -> None:
        raise ZeroDivisionError("oops")

    before = asked(shell, monkeypatch)[1].keys()
    monkeypatch.setattr(check_host, "look", no_family)
    monkeypatch.setattr(check, "sources", defective)
    assert shell.run("check", "-o", "json") == 1
    found = {one["name"].removeprefix("control_plane."): one["message"] for one in json.loads(shell.out)["findings"]}
    assert found.keys() == before | {"config", "host", "collect"}
    assert found["host"] == "Address family not supported by protocol"
    assert found["collect"].startswith("defect of flowmap")


NO_KEY: dict[str, None] = {"access_key_id": None}


def test_keys_of_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    status, found = asked(shell, monkeypatch, credentials=NO_KEY)
    assert status == 1
    assert list(found) == ["credentials"]
    assert found["credentials"][0] == "failed"
    assert found["credentials"][1].startswith("no credentials: set control_plane.credentials")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET)
    status, found = asked(shell, monkeypatch, credentials=NO_KEY)
    assert status == 0
    assert found["credentials"] == ("ok", "from environment")


def test_keys_of_a_profile(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".alibabacloud" / "credentials.ini"
    file.parent.mkdir()
    file.write_text(f"[default]\naccess_key_id={ACCESS_KEY_ID}\naccess_key_secret={ACCESS_KEY_SECRET}\n")
    status, found = asked(shell, monkeypatch, credentials=NO_KEY)
    assert status == 0
    assert found["credentials"] == ("ok", f"from {file}, profile default")
    assert ACCESS_KEY_SECRET not in shell.out + shell.err


def test_a_token_file_is_read_again_when_it_was_replaced(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s\n")
    (tmp_path / "token").write_text("first\n")
    given = {
        "access_key_id": "i",
        "access_key_secret_file": f"{tmp_path}/secret",
        "security_token_file": f"{tmp_path}/token",
    }
    provider = credentials_provider(ControlPlaneConfig.model_validate({"credentials": given}), script())
    before = asyncio.run(provider.get())
    (tmp_path / "token").write_text("second\n")
    assert (before.security_token, before.origin) == ("first", "config")
    assert provider.reject(before)
    assert asyncio.run(provider.get()).security_token == "second"


@pytest.mark.parametrize("switched_on", [False, True])
def test_the_instance_is_asked_only_where_switched_on(
    switched_on: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED")  # the transport is a script: nothing leaves this process
    transport = script(*[HttpReply(404, {}, b"")] * 3)
    settings = ControlPlaneConfig.model_validate({"credentials": {"ecs_ram_role": switched_on}})
    with pytest.raises(AuthError):
        asyncio.run(credentials_provider(settings, transport).get())
    assert [url for url in transport.urls if "100.100.100.200" not in url] == []
    assert bool(transport.urls) is switched_on
