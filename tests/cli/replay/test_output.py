"""What a replay prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.replayed import run

BEGUN = "2027-01-15T08:00:"


def test_table(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, str(path), "-o", "table")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["DEPLOYMENT", "PEER", "PROTOCOL", "TRANSMIT", "RECEIVE", "CONNECTIONS", "OPEN", "STATE"]
    assert lines[1].split() == ["x", "10.1.0.1:9092", "tcp", "107", "B", "58", "B", "2", "1", "attributed"]
    assert "bytes observed 165, attributed 165, shared 0, unattributed 0, internal 0, expired 0, pending 0" in lines
    assert "conserved yes, 0 flows pending, 0 contradictions" in lines


@pytest.mark.parametrize("option", ["-o", "--format", "--output"])
def test_flows(path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    status, out, err = run(capsys, str(path), option, "json")
    assert (status, err) == (0, "")
    flows = json.loads(out)["flows"]
    assert [(flow["client"]["ip"], flow["state"], flow["transmitBytes"]) for flow in flows] == [
        ("10.0.0.1", "attributed", 100),
        ("10.0.0.2", "attributed", 7),
    ]
    assert [bool(flow["endedAt"]) for flow in flows] == [True, False]
    assert flows[0]["startedAt"].startswith(BEGUN)
    assert [one["name"] for one in flows[0]["deployments"]] == ["x"]
    assert flows[0]["source"] == "scripted"


def test_page(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, str(path), "-o", "prometheus")
    assert status == 0
    samples = {s.name: s.value for family in text_string_to_metric_families(out) for s in family.samples}
    assert samples["flowmap_deployment_transmit_bytes_total"] == 107
    assert samples["flowmap_source_records_total"] == 7, "the source's own counts are those that were recorded"
    assert "process_cpu_seconds_total" not in samples
