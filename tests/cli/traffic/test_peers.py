"""Whom a deployment talked to, and what changed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from flowmap.cli import command
from flowmap.cli.shared import client
from flowmap.cli.shared.client import DaemonClient

ASKED: list[httpx.URL] = []


def peer(name: str, *deployments: str) -> dict[str, Any]:
    return {
        "peer": name,
        "protocol": "tcp",
        "traffic": {"transmitBytes": 1234, "receiveBytes": 0, "connections": 3},
        "deployments": [{"deploymentId": f"id-{one}", "name": one} for one in deployments],
        "firstSeen": "2026-11-21T20:16:07.000Z",
        "lastSeen": "2026-11-21T21:16:07.000Z",
    }


def answer(request: httpx.Request) -> httpx.Response:
    ASKED.append(request.url)
    if request.url.path.endswith("/changes"):
        return httpx.Response(200, json={"new": [peer("kafka", "orders")], "vanished": [peer("redis", "orders")]})
    peers = [] if "/nothing/" in request.url.path else [peer("kafka", "orders", "archive")]
    return httpx.Response(200, json={"peers": peers})


@pytest.fixture(autouse=True)
def daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    ASKED.clear()
    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(client, "connect", lambda _: DaemonClient("http://daemon", transport=transport))


def test_peers_of_a_window(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["peers", "a/b", "--since", "1700000000", "--until", "1700003600", "-o", "table"]) == 0
    (asked,) = ASKED
    assert asked.raw_path.startswith(b"/api/v1/deployments/a%2Fb/peers?")
    assert dict(asked.params) == {"from": "1700000000.000", "to": "1700003600.000"}
    line = " ".join(capsys.readouterr().out.splitlines()[1].split())
    assert line == "kafka tcp 1.2 kB 0 B 3 11-21 20:16:07 11-21 21:16:07 orders, archive"


def test_a_deployment_needs_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["peers", " "]) == 1
    assert capsys.readouterr().err == "flowmap: DEPLOYMENT: give the id or the name of a deployment\n"
    assert not ASKED


def test_a_deployment_without_connections_is_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["peers", "nothing"]) == 0
    line = "no connection of a deployment with the id or name 'nothing' is known in this period"
    assert capsys.readouterr().err == f"flowmap: {line}\n"


def test_what_is_new_and_what_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["peers", "orders", "--since", "1700000000", "--compare", "1h", "-o", "table"]
    assert command.main(words) == 0
    assert ASKED[0].params["beforeFrom"] == "1699996400.000"
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["CHANGE", "PEER"], ["new", "kafka"], ["gone", "redis"]]


def test_follow_has_no_past(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["flows", "--follow", "--since", "2h"]) == 1
    assert "--follow" in capsys.readouterr().err
