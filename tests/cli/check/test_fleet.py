"""check: the fleet's server, its clock and the rights there, with a real server."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowmap.fleet.server as server_room
from flowmap.cli.check import fleet as check_fleet
from flowmap.cli.command import main
from flowmap.config import Config, load
from flowmap.fleet.answers import Shared, Signer
from flowmap.fleet.server.clock import Bounds
from tests.support.fleet import settled
from tests.support.valkey import ValkeyServer, free_port, running

PLANE = """control_plane:
  endpoint: https://control-plane.example
  workspace: ws
  credentials: {{access_key_id: id, access_key_secret: secret{token}}}
"""


def file_of(directory: Path, url: str, *, token: str = "", more: str = "", size: int = 3) -> Path:
    key = directory / "key"
    key.write_text("k" * 32)
    key.chmod(0o600)
    file = directory / "flowmap.yaml"
    text = PLANE.format(token=token and f", security_token: {token}")
    file.write_text(f"{text}fleet: {{url: '{url}', size: {size}, key_file: {key}{more}}}\n")
    return file


def config_of(directory: Path, url: str, *, token: str = "", more: str = "", size: int = 3) -> Config:
    return load(str(file_of(directory, url, token=token, more=more, size=size)), {})


def found(config: Config) -> dict[str, tuple[str, str, str]]:
    return {one.name: (one.level, one.message, one.remedy) for one in asyncio.run(check_fleet.look(config))}


@pytest.fixture(scope="module")
def valkeys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str | None, ValkeyServer]]:
    """Servers that word what a user may not do differently."""
    program = shutil.which("redis-server")
    with running(tmp_path_factory.mktemp("one")) as one, contextlib.ExitStack() as stack:
        other = one
        if program is not None:
            other = stack.enter_context(running(tmp_path_factory.mktemp("other"), program=program))
        yield {None: one, "redis-server": other}


def test_without_a_fleet() -> None:
    assert asyncio.run(check_fleet.look(load(None, {}))) == []


def test_a_server_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path) as server:
        findings = found(config_of(tmp_path, server.url))
        assert {name: level for name, (level, _, _) in findings.items()} == {
            "files.fleet.key_file": "ok",
            "fleet.server": "ok",
            "fleet.clock": "ok",
            "fleet.hosts": "ok",
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
        assert server.command("KEYS", "*") == [scope.keys()[0].encode()], "a check is no host"


SCRIPT = (Path(server_room.__file__).parent / "exchange.lua").read_text()
COMMANDS = sorted(set(re.findall(r"call\('([A-Z]+)'", SCRIPT)))


@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "PUBLISH"])
@pytest.mark.parametrize("program", [None, "redis-server"])
def test_a_user_without_a_right(valkeys: dict[str | None, ValkeyServer], program: str | None, command: str) -> None:
    server = valkeys[program]
    with contextlib.ExitStack() as mended:
        server.command("ACL", "SETUSER", "default", f"-{command}")
        mended.callback(server.command, "ACL", "SETUSER", "default", "+@all")
        level, message, remedy = found(config_of(server.directory, server.url))["fleet.server"]
        assert level == "degraded" and f"may not run {command}:" in message and "rights in" in remedy
    assert command in ("DEL", "ZREM", "HDEL") or not server.command("KEYS", "*")


def test_a_user_without_the_right_to_publish(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.command("ACL", "SETUSER", "default", "-publish")
        level, message, _ = found(config_of(tmp_path, server.url))["fleet.messages"]
        assert level == "degraded" and "PUBLISH" in message


@pytest.mark.parametrize(
    ("hosts", "missing", "size", "rate", "name", "level", "words"),
    [
        (3, 0, 3, 2.0, "fleet.hosts", "ok", "each host makes one call every 1.5 s"),
        (2, 2, 3, 2.0, "fleet.hosts", "degraded", "every 1.5 s, together more than"),
        (3, 0, 100, 2.0, "fleet.hosts", "ok", "every 50 s"),
        (0, 0, 1000000, 2.0, "fleet.hosts", "ok", "every 500,000 s"),
        (3, 1, 1000000, 2.0, "fleet.hosts", "degraded", "too seldom"),
        (1, 0, 3, 1.0, "fleet.rate", "degraded", "lowest rate"),
    ],
)
def test_size_and_rate(
    tmp_path: Path, hosts: int, missing: int, size: int, rate: float, name: str, level: str, words: str
) -> None:
    with running(tmp_path) as server:
        config = config_of(tmp_path, server.url, size=size)
        scope = asyncio.run(check_fleet.scope_of(config))
        settled(server, scope)
        server.command("HSET", scope.keys()[0], "rate", str(rate))
        seconds = int(server.command("TIME")[0])
        for number in range(hosts + missing):
            at = seconds if number < hosts else seconds - 60
            server.command("ZADD", scope.keys()[-1], str(at), f"h{number}")
        assert found(config)[name][0] == level and words in found(config)[name][1]


@pytest.mark.parametrize(("key", "level"), [("k" * 32, "ok"), ("x" * 32, "degraded")])
def test_another_key(tmp_path: Path, key: str, level: str) -> None:
    with running(tmp_path) as server:
        config = config_of(tmp_path, server.url)
        scope = asyncio.run(check_fleet.scope_of(config))
        settled(server, scope)
        answer = Signer(scope.identity, [key.encode()]).encode("question", Shared(1.0, 1.0, Bounds(0.0, 0.0)))
        assert answer is not None
        server.command("HSET", scope.answers_key, "question", answer)
        server.command("ZADD", *scope.named("stored"), "1", "question")
        assert found(config)["fleet.key"][0] == level


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
    assert main(["fleet", "check", "-c", str(file_of(tmp_path, url)), "-o", "json"]) == 0, "as flowmap check"


def test_files_that_others_can_read(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    password.chmod(0o644)
    config = config_of(tmp_path, f"redis://127.0.0.1:{free_port()}", more=f", password_file: {password}")
    (tmp_path / "key").chmod(0o644)
    findings = found(config)
    for name in ("key_file", "password_file"):
        level, message, remedy = findings[f"files.fleet.{name}"]
        assert level == "degraded" and "every user may read" in message and "chmod" in remedy


def test_a_key_file_that_is_missing(tmp_path: Path) -> None:
    config = config_of(tmp_path, f"redis://127.0.0.1:{free_port()}")
    (tmp_path / "key").unlink()
    level, message, _ = found(config)["fleet.key_file"]
    assert level == "failed" and "No such file" in message


def test_a_clock_that_is_apart() -> None:
    assert check_fleet.clock_finding(100.0, 99.0, 0.01, 2.0).level == "ok"
    finding = check_fleet.clock_finding(100.0, 90.0, 0.01, 2.0)
    assert finding.level == "degraded" and "9.9" in finding.message and "ahead" in finding.message
