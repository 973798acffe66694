"""Writing and checking expectations, against a daemon over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import yaml

from flowmap.cli import command
from flowmap.cli.expect.command import file_lines
from flowmap.cli.shared import client
from tests.support.observed_edges import Daemon, deployment, edge


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    orders, report = deployment("orders"), deployment("report")
    made = Daemon(
        edge("kafka", orders), edge("mysql", orders, report), edge("10.0.0.9:22", report), edge("other", orders)
    )

    def connect(_: object) -> client.DaemonClient:
        return client.DaemonClient("http://daemon", transport=httpx.MockTransport(made))

    monkeypatch.setattr(client, "connect", connect)
    return made


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = command.main(["expect", *words])
    return status, capsys.readouterr().out


def test_what_init_writes_is_as_expected(daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "init")
    assert (status, daemon.asked) == (0, [{}])
    assert yaml.safe_load(text) == {
        "expect": [
            {"deployment": "orders", "peers": ["kafka", "mysql"]},
            {"deployment": "report", "peers": ["10.0.0.9:22", "mysql"]},
        ]
    }
    file = tmp_path / "expect.yaml"
    file.write_text(text)
    assert run(capsys, "check", str(file), "-o", "json") == (
        0,
        '{"from": null, "to": "2026-11-21T20:16:07.000Z", "findings": []}\n',
    )


def test_findings(daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "expect.yaml"
    file.write_text("expect:\n  - {deployment: 'o*', peers: [kafka, gone], forbidden: [kafka]}\n")
    status, text = run(capsys, "check", str(file), "-o", "json")
    found = [(one["kind"], one["peer"], one["entry"], one["bytes"]) for one in json.loads(text)["findings"]]
    expected = [
        ("forbidden", "kafka", None, 15),
        ("no entry", None, None, None),
        ("missing", "gone", "o*", None),
    ]
    assert (status, found) == (3, expected)
    _, table = run(capsys, "check", str(file), "-o", "table")
    assert [line.split()[0] for line in table.splitlines()] == ["FINDING", "forbidden", "no", "missing"]
    # what a selection leaves out is not missing
    _, text = run(capsys, "check", str(file), "--peer", "kafka", "-o", "json")
    assert "missing" not in text


def test_with_history_the_last_week_counts(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.history = {"up": True}
    run(capsys, "init", "--deployment", "orders")
    run(capsys, "init", "--since", "100")
    assert daemon.asked[0]["deployment"] == "orders" and float(daemon.asked[0]["from"]) > 1e9
    assert daemon.asked[1] == {"from": "100.000"}


def test_deployments_of_one_name_are_told_apart_by_id() -> None:
    edges = [edge("kafka", deployment("a", "1")), edge("mysql", deployment("a", "2"))]
    lines = file_lines(edges, since=None, until="now")
    assert [one["deployment"] for one in yaml.safe_load("\n".join(lines))["expect"]] == ["id-a1", "id-a2"]
    assert yaml.safe_load("\n".join(file_lines([], since=None, until="now"))) == {"expect": []}


def test_a_file_that_is_not_valid(daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "expect.yaml"
    file.write_text("expect: [{peers: [a]}]\n")
    assert command.main(["expect", "check", str(file)]) == 78
    assert capsys.readouterr().err == f"flowmap: {file}:1: expect.0: give deployment or label\n"
