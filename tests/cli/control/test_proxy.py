"""The commands behind an HTTPS proxy and an authority of one's own: what works, and what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowmap.cli.check import command as check
from flowmap.cli.check import host as check_host
from tests.support.certificates import Authority
from tests.support.connect_proxy import ConnectProxy, running
from tests.support.http_server import body, sends, server, server_tls
from tests.support.proxied import Site

ANSWER = {"success": True, "requestId": "r", "data": [{"deploymentId": "d-1", "name": "orders"}], "totalSize": 1}


@contextmanager
def site(proxy: ConnectProxy, directory: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    authority = Authority(directory)
    Authority(directory, "other")
    authority.issue("server", "plane.example")
    with server(sends(body(json.dumps(ANSWER).encode())), server_tls(authority)) as url:
        proxy.hosts["plane.example"] = int(url.rpartition(":")[2])
        with running(proxy):
            yield Site(proxy, directory, capsys)


ASK = ("deployments", "by-ip", "--src-ip", "10.0.0.1", "-o", "table")


def test_a_command_asks_through_the_proxy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with site(ConnectProxy("ann:canary"), tmp_path, capsys) as made:
        status, said = made.run(*ASK)
        assert (status, "orders" in said) == (0, True), said
        assert made.proxy.asked == ["plane.example:443"]
        assert made.run(*ASK, proxy_url=None, endpoint="https://127.0.0.1:1")[0] == 1
        assert len(made.proxy.asked) == 1


def test_the_environment_is_asked_for_its_proxy_only_where_it_should_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(ConnectProxy(), tmp_path, capsys) as made:
        monkeypatch.setenv("HTTPS_PROXY", made.proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        direct = {"proxy_url": None, "endpoint": f"https://localhost:{made.proxy.hosts['plane.example']}"}
        made.run(*ASK, **direct)
        made.run(*ASK, **direct, proxy_from_environment=True)
        assert made.proxy.asked == [], "loopback is asked directly"
        assert made.run(*ASK, proxy_url=None, proxy_from_environment=True)[0] == 0
        assert made.proxy.asked == ["plane.example:443"]
        monkeypatch.setenv("NO_PROXY", "plane.example")
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", 1))])
        assert made.run(*ASK, proxy_url=None, proxy_from_environment=True)[0] == 1
        assert made.proxy.asked == ["plane.example:443"]


BY_IP = "default-namespace.GetDeploymentsByIp"
PLAIN = "http://127.0.0.1:1"
NOWHERE = "/nowhere.pem"

CHECKS: list[tuple[ConnectProxy, dict[str, Any], list[tuple[str, str, str]]]] = [
    (
        ConnectProxy(),
        {},
        [("proxy", "ok", "calls go through PROXY (control_plane.proxy_url)"), ("tls", "ok", "only authorities in ")],
    ),
    (
        ConnectProxy(),
        {"endpoint": PLAIN},
        [("proxy", "ok", "calls to 127.0.0.1 go directly, to other hosts through PROXY (control_plane.proxy_url)")],
    ),
    (
        ConnectProxy(),
        {"proxy_url": None, "endpoint": "http://127.0.0.1:1"},
        [("proxy", "ok", "calls go directly: HTTPS_")],
    ),
    (
        ConnectProxy("ann:other"),
        {},
        [
            (
                "default-namespace.GetDeploymentsByIp",
                "failed",
                "the proxy PROXY refused the connection to plane.example: 407",
            )
        ],
    ),
    (
        ConnectProxy(),
        {"tls": {}},
        [(BY_IP, "failed", "TLS failed through the proxy PROXY: ")],
    ),
    (
        ConnectProxy(),
        {"tls": {"ca_file": "/nowhere.pem"}},
        [("", "failed", "control_plane.tls.ca_file: /nowhere.pem: ")],
    ),
    (
        ConnectProxy(refuses="403 Forbidden"),
        {"namespaces": ["a", "b", "c"]},
        [
            ("a.GetDeploymentsByIp", "failed", "the proxy PROXY refused"),
            ("", "failed", "2 more namespaces were not checked"),
        ],
    ),
]


@pytest.mark.parametrize(("proxy", "plane", "expected"), CHECKS)
def test_check_says_which_proxy_and_what_fails(
    proxy: ConnectProxy,
    plane: dict[str, Any],
    expected: list[tuple[str, str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check, "sources", lambda _: [])
    monkeypatch.setattr(check_host, "look", lambda *_: [])
    monkeypatch.setenv("HTTPS_PROXY", "http://unused.example:1")
    with site(proxy, tmp_path, capsys) as made:
        _, said = made.run("check", "-o", "json", **plane)
    shown = proxy.url.replace("://", "://ann:<secret>@")
    found = {one["name"]: (one["level"], one["message"]) for one in json.loads(said)["findings"]}
    for name, level, message in expected:
        told = found[".".join(filter(None, ("control_plane", name)))]
        assert told[0] == level
        assert told[1].startswith(message.replace("PROXY", shown))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"proxy_url": "socks5://ann:canary@p:1"}, "control_plane.proxy_url: not http://[user:password@]host[:port]"),
    ({"proxy_url": "ann:canary@p"}, "control_plane.proxy_url: not http://[user:password@]host[:port]"),
    ({"proxy_url": ["canary"]}, "control_plane.proxy_url: not http://[user:password@]host[:port]"),
    ({"proxy_from_environment": True}, "control_plane: give proxy_url or proxy_from_environment, not both"),
    ({"tls": {"ca_file": ""}}, "control_plane.tls.ca_file: "),
    ({"tls": {"insecure_skip_verify": True}}, "control_plane.tls.insecure_skip_verify: unknown key"),
]


@pytest.mark.parametrize(("plane", "said"), BAD)
def test_what_cannot_be_is_refused_without_the_password(
    plane: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Site(ConnectProxy(url="http://proxy.example:3128"), tmp_path, capsys)
    status, told = made.run("config", **plane)
    assert status == 78 and said in told


def test_a_bad_variable_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://ann:canary@p:1")
    made = Site(ConnectProxy(url="http://unused.example:1"), tmp_path, capsys)
    Authority(tmp_path)
    assert made.run(*ASK, proxy_url=None, proxy_from_environment=True)[0] == 78
