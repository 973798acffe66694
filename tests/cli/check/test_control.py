"""Checks of the control plane: credentials, operations, clock."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from flowmap.cli.check import command as check
from flowmap.cli.check import host as check_host
from flowmap.config import ControlPlaneConfig
from flowmap.control.http.transport_api import HttpReply
from flowmap.daemon.clients import credentials_provider
from flowmap.errors import AuthError
from flowmap.sandbox.verify import ACCESS_KEY_ID, ACCESS_KEY_SECRET
from tests.support.control_clients import script
from tests.support.shell import CATALOG, Shell


def control_findings(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> tuple[int, dict[str, tuple[str, str]]]:
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
    status, found = control_findings(shell, monkeypatch, blink=blink)
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


def test_jobs_without_a_deployment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.sandbox.set_catalog(CATALOG | {"deployments": []})
    status, found = control_findings(shell, monkeypatch, blink={"enabled": True})
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
def test_cost_of_a_refused_operation(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, operation: str, level: str, status: int, cost: str
) -> None:
    shell.sandbox.set_faults([{"kind": "gateway", "operation": operation}])
    told, found = control_findings(shell, monkeypatch, namespaces=["orders"])
    assert told == status
    assert found[f"orders.{operation}"][0] == level
    assert "Forbidden.RAM" in found[f"orders.{operation}"][1]
    assert cost in found[f"orders.{operation}"][1]
    assert [name for name, (given, _) in found.items() if given != "ok"] == [f"orders.{operation}"]


def test_wrong_clock(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.sandbox.set_faults([{"kind": "clock", "seconds": 3600}])
    _, found = control_findings(shell, monkeypatch, namespaces=["orders"])
    assert found["orders.GetDeploymentsByIp"][0] == "ok"  # the client goes by the server's clock
    assert found["clock"][0] == "degraded"
    assert found["clock"][1] in (
        "the control plane's clock is 3600 s ahead",
        "the control plane's clock is 3599 s ahead",
    )


NO_KEY: dict[str, None] = {"access_key_id": None}


def test_keys_of_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    status, found = control_findings(shell, monkeypatch, credentials=NO_KEY)
    assert status == 1
    assert list(found) == ["credentials"]
    assert found["credentials"][0] == "failed"
    assert found["credentials"][1].startswith("no credentials: set control_plane.credentials")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET)
    status, found = control_findings(shell, monkeypatch, credentials=NO_KEY)
    assert status == 0
    assert found["credentials"] == ("ok", "from environment")


def test_keys_of_a_profile(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".alibabacloud" / "credentials.ini"
    file.parent.mkdir()
    file.write_text(f"[default]\naccess_key_id={ACCESS_KEY_ID}\naccess_key_secret={ACCESS_KEY_SECRET}\n")
    status, found = control_findings(shell, monkeypatch, credentials=NO_KEY)
    assert status == 0
    assert found["credentials"] == ("ok", f"from {file}, profile default")
    assert ACCESS_KEY_SECRET not in shell.out + shell.err


def test_replaced_token_file(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("enabled", [False, True])
def test_instance_role_only_if_enabled(enabled: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED")  # the transport is a script: nothing leaves this process
    transport = script(*[HttpReply(404, {}, b"")] * 3)
    settings = ControlPlaneConfig.model_validate({"credentials": {"ecs_ram_role": enabled}})
    with pytest.raises(AuthError):
        asyncio.run(credentials_provider(settings, transport).get())
    assert [url for url in transport.urls if "100.100.100.200" not in url] == []
    assert bool(transport.urls) is enabled


def test_defect_in_one_part(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_family(*_: object) -> None:
        raise OSError(97, "Address family not supported by protocol")

    def defective(*_: object) -> None:
        raise ZeroDivisionError("oops")

    before = control_findings(shell, monkeypatch)[1].keys()
    monkeypatch.setattr(check_host, "look", no_family)
    monkeypatch.setattr(check, "sources", defective)
    assert shell.run("check", "-o", "json") == 1
    found = {one["name"].removeprefix("control_plane."): one["message"] for one in json.loads(shell.out)["findings"]}
    assert found.keys() == before | {"config", "host", "collect"}
    assert found["host"] == "Address family not supported by protocol"
    assert found["collect"].startswith("defect of flowmap")
