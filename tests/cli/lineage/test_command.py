"""Lineage in a terminal, as JSON, as events, and compared."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from flowmap.cli import command
from flowmap.cli.lineage.command import endpoints_of
from flowmap.cli.shared import client
from tests.support.observed_edges import Daemon, deployment, edge

ORDERS, REPORT = deployment("orders"), deployment("report")


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    made = Daemon(
        edge("kafka", ORDERS), edge("127.0.0.1:3306", ORDERS, REPORT) | {"direction": "writes", "guessed": False}
    )

    def connect(_: object) -> client.DaemonClient:
        return client.DaemonClient("http://daemon", transport=httpx.MockTransport(made))

    monkeypatch.setattr(client, "connect", connect)
    return made


def test_table(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["lineage", "--since", "100", "--peer", "k*", "-o", "table"]) == 0
    assert daemon.asked == [{"from": "100.000", "peer": "k*"}]
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [[cell.strip() for cell in row if cell][:3] for row in rows[1:]] == [
        ["orders", "reads (guessed)", "kafka"],
        ["orders | report", "writes", "127.0.0.1:3306"],
    ]


def test_json_and_events(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["lineage"]) == 0
    assert json.loads(capsys.readouterr().out)["edges"] == daemon.edges
    assert command.main(["lineage", "-o", "openlineage"]) == 0
    shown = capsys.readouterr()
    assert [json.loads(line)["job"]["name"] for line in shown.out.splitlines()] == ["orders"]
    assert shown.err.startswith("flowmap: 1 edges of deployments that cannot be told apart")


def test_differences(daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "declared"
    mysql = {"namespace": "mysql://localhost:3306", "name": "shop.orders"}
    file.write_text(json.dumps({"job": {"name": "report"}, "outputs": [mysql]}))
    assert command.main(["lineage", "--diff", str(file)]) == 3
    (one,) = json.loads(capsys.readouterr().out)["differences"]
    assert one == {"kind": "observed only", "job": "orders", "direction": "reads", "peer": "kafka"}
    daemon.edges.pop(0)
    assert command.main(["lineage", "--diff", str(file), "-o", "table"]) == 0
    assert command.main(["lineage", "--diff", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.endswith("none: No such file or directory\n")


def test_endpoints_of_an_authority() -> None:
    assert endpoints_of("10.0.0.9:3306") == ["10.0.0.9:3306"]
    assert "127.0.0.1:3306" in endpoints_of("localhost:3306")
    assert endpoints_of("[2001:db8::1]:9092") == ["[2001:db8::1]:9092"]
    for text in ("nowhere", ":3306", "a:b", "host.invalid:3306", "10.0.0.9:70000"):
        assert endpoints_of(text) == []
