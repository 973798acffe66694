"""Stale connections in a terminal."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from flowmap.cli import command
from flowmap.cli.shared import client
from flowmap.cli.traffic.stale import remarks

FLOW = {
    "client": {"ip": "10.0.0.1", "port": 40000},
    "server": {"ip": "10.0.0.9", "port": 3306},
    "startedAt": "2026-11-21T20:16:07.000Z",
    "deployments": [{"name": "orders", "deploymentId": "1"}],
}
STALE = {"reasons": ["older_than_run", "idle"], "flow": FLOW, "idleSeconds": 3700.0, "runStartedAt": None}
ANSWER: dict[str, Any] = {
    "connections": [STALE],
    "total": 3,
    "aboveLimit": [{"deployments": FLOW["deployments"], "peer": "mysql", "connections": 12}],
    "checked": 9,
    "unjudged": 2,
    "idleKnown": True,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    requests: list[tuple[str, dict[str, str]]] = []

    def reply(request: httpx.Request) -> httpx.Response:
        requests.append((request.url.path, dict(request.url.params)))
        return httpx.Response(200, json=ANSWER)

    def connect(_: object) -> client.DaemonClient:
        return client.DaemonClient("http://daemon", transport=httpx.MockTransport(reply))

    monkeypatch.setattr(client, "connect", connect)
    return requests


def test_table(asked: list[tuple[str, dict[str, str]]], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--deployment", "orders", "--label", "team=a,b", "--idle", "1h", "--connections", "10", "-o", "table"]
    assert command.main(["stale", *options]) == 0
    wanted = {"deployment": "orders", "label": "team=a,b", "idle": "1h", "connections": "10", "limit": "100"}
    assert asked == [("/api/v1/stale", wanted)]
    shown = capsys.readouterr()
    rows = [line.split("  ") for line in shown.out.splitlines()]
    assert [cell.strip() for cell in rows[1] if cell] == [
        *("older than run, idle", "orders", "10.0.0.1:40000", "10.0.0.9:3306", "11-21 20:16:07", "-", "1h 01m")
    ]
    assert [cell.strip() for cell in rows[4] if cell] == ["above limit", "orders", "mysql", "12"]
    assert shown.err.splitlines() == [f"flowmap: {line}" for line in remarks(ANSWER)]


def test_json(asked: list[tuple[str, dict[str, str]]], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["stale", "--limit", "5000"]) == 0
    assert asked[0][1] == {"limit": "1000"}
    shown = capsys.readouterr()
    assert (json.loads(shown.out), shown.err) == (ANSWER, "")


REMARKS = [
    ({}, ["the first 1 of 3", "the age of 2 of 9"]),
    ({"total": 1, "unjudged": 0}, []),
    ({"total": 1, "unjudged": 0, "idleKnown": False}, ["these do not count as idle"]),
]


@pytest.mark.parametrize(("changes", "expected"), REMARKS)
def test_remarks(changes: dict[str, Any], expected: list[str]) -> None:
    found = remarks(ANSWER | changes)
    assert len(found) == len(expected)
    assert all(part in line for part, line in zip(expected, found, strict=True))


@pytest.mark.parametrize("options", [["--idle", "soon"], ["--label", "team"], ["--limit", "0"], ["--connections", "x"]])
def test_bad_input_is_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["stale", *options])
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err.splitlines()[-1]
