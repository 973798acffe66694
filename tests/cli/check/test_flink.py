"""flowmap check: clusters of open-source Flink."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.flink_cluster import run


def test_check(flink: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = run(capsys, "check", "-c", flink)
    assert status == 1
    found = {one["name"]: (one["level"], one["message"]) for one in answer["findings"]}
    level, message = found["flink.prod"]
    assert (level, message.partition(": ")[2]) == ("ok", "Flink 2.3.0, 2 TaskManagers, 3 jobs")
    assert found["flink.down"][0] == "failed"
    assert not [name for name in found if name.startswith("control_plane")]


def found(flink: str, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """Level and message of each finding about the cluster that answers."""
    _, answer, _ = run(capsys, "check", "-c", flink)
    return {
        name.removeprefix("flink.prod."): (one["level"], one["message"])
        for one in answer["findings"]
        if (name := one["name"]).startswith("flink.prod.")
    }


def test_task_managers_without_a_heartbeat(
    flink: str, flink_answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(flink, capsys)["taskmanagers"] == ("ok", "2 TaskManagers are alive, each with an address of its own")
    silent = flink_answers["/taskmanagers"]["taskmanagers"][0]
    silent["timeSinceLastHeartbeat"] -= 60_000
    assert found(flink, capsys)["taskmanagers"] == ("degraded", f"no heartbeat for 30 s: {silent['id']}")


def test_task_managers_with_one_address(
    flink: str, flink_answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for one in flink_answers["/taskmanagers"]["taskmanagers"]:
        one["path"] = "pekko.tcp://flink@10.200.1.2:35891/user/rpc/taskmanager_0"
    expected = ("degraded", "several TaskManagers share 10.200.1.2: their jobs stay a set")
    assert found(flink, capsys)["addresses"] == expected


def test_a_leader_that_may_be_missing(
    flink: str, flink_answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "leader" not in found(flink, capsys)
    flink_answers["/jobmanager/config"].append({"key": "high-availability.type", "value": "zookeeper"})
    assert found(flink, capsys)["leader"][0] == "degraded"


def test_a_clock_that_no_job_shows(
    flink: str, flink_answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(flink, capsys)["clock"][0] == "degraded", "the recorded clock is long ago"
    flink_answers["/jobs/overview"]["jobs"] = []
    assert found(flink, capsys)["clock"] == ("ok", "not known: no job runs")
