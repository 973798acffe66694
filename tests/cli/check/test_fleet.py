"""check: the fleet's server, its clock and the rights there, with a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flowmap.cli.check import fleet as check_fleet
from flowmap.cli.command import main
from flowmap.config import Config, load
from tests.support.fleet import settled
from tests.support.valkey import free_port, running

PLANE = """control_plane:
  endpoint: https://control-plane.example
  workspace: ws
  credentials: {{access_key_id: id, access_key_secret: secret{token}}}
"""


def file_of(directory: Path, url: str, *, token: str = "", more: str = "") -> Path:
    (directory / "key").write_text("k" * 32)
    file = directory / "flowmap.yaml"
    text = PLANE.format(token=token and f", security_token: {token}")
    file.write_text(f"{text}fleet: {{url: '{url}', size: 3, key_file: {directory / 'key'}{more}}}\n")
    return file


def config_of(directory: Path, url: str, *, token: str = "", more: str = "") -> Config:
    return load(str(file_of(directory, url, token=token, more=more)), {})


def found(config: Config) -> dict[str, tuple[str, str, str]]:
    return {one.name: (one.level, one.message, one.remedy) for one in asyncio.run(check_fleet.look(config))}


def test_without_a_fleet() -> None:
    assert asyncio.run(check_fleet.look(load(None, {}))) == []


def test_a_server_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path) as server:
        findings = found(config_of(tmp_path, server.url))
        assert {name: level for name, (level, _, _) in findings.items()} == {
            "fleet.server": "ok",
            "fleet.clock": "ok",
            "fleet.messages": "ok",
        }
        assert not server.command("KEYS", "*"), "a look leaves nothing"
        assert main(["fleet", "check", "-c", str(file_of(tmp_path, server.url))]) == 0
        assert "fleet.server" in capsys.readouterr().out


def test_a_user_without_the_right_to_subscribe(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.command("ACL", "SETUSER", "default", "-subscribe")
        findings = found(config_of(tmp_path, server.url))
        assert findings["fleet.server"][0] == "ok"
        level, message, remedy = findings["fleet.messages"]
        assert level == "degraded" and "every two seconds" in message and "&flowmap:*" in remedy


@pytest.mark.parametrize(
    ("option", "finding"),
    [
        (("maxmemory-policy", "allkeys-lru"), ("fleet.memory", "degraded", "set maxmemory-policy noeviction")),
        (("maxmemory", "1"), ("fleet.server", "degraded", "give the server more memory")),
        (("requirepass", "secret"), ("fleet.server", "degraded", "see the user in fleet.url, and fleet.password_file")),
    ],
)
def test_what_is_wrong_with_a_server(tmp_path: Path, option: tuple[str, str], finding: tuple[str, str, str]) -> None:
    with running(tmp_path) as server:
        server.command("CONFIG", "SET", *option)
        level, _, remedy = found(config_of(tmp_path, server.url))[finding[0]]
        assert (level, remedy) == finding[1:]


def test_hosts_of_another_version(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        config = config_of(tmp_path, server.url)
        scope = asyncio.run(check_fleet.scope_of(config))
        settled(server, scope)
        server.command("HSET", scope.keys()[0], "version", "99")
        assert found(config)["fleet.server"][2] == "upgrade all hosts"


@pytest.mark.parametrize(("more", "works"), [("", False), (", scope: readers", True)])
def test_temporary_keys_need_a_name(tmp_path: Path, more: str, works: bool) -> None:
    with running(tmp_path) as server:
        level, message, remedy = found(config_of(tmp_path, server.url, token="token", more=more))["fleet.server"]
        assert (level == "ok") is works
        assert works or ("temporary" in message and remedy == "set fleet.scope")


def test_a_server_that_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    level, message, _ = found(config_of(tmp_path, url))["fleet.server"]
    assert level == "degraded" and "rate / size" in message
    assert main(["fleet", "check", "-c", str(file_of(tmp_path, url)), "-o", "json"]) == 1


def test_a_clock_that_is_apart() -> None:
    assert check_fleet.clock_finding(100.0, 99.0, 0.01, 2.0).level == "ok"
    finding = check_fleet.clock_finding(100.0, 90.0, 0.01, 2.0)
    assert finding.level == "degraded" and "9.9" in finding.message and "ahead" in finding.message
