"""Commands that list what clusters of open-source Flink have."""

from __future__ import annotations

import pytest

from tests.support.flink_cluster import run


def test_list(flink: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, errors = run(capsys, "deployments", "list", "-c", flink)
    assert (status, answer["complete"]) == (1, False)
    assert "down: " in errors
    names = {one["name"]: one["jobSummary"]["running"] for one in answer["deployments"]}
    assert names == {"orders": 1, "clicks": 1, "audit": 1, "old": 0}
    assert {(one["namespace"], one["workspace"]) for one in answer["deployments"]} == {("prod", "flink.apache.org")}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("list", "--name", "orders"), {"orders"}),
        (("list", "--status", "CANCELLED"), {"old"}),
        (("list", "--execution-mode", "BATCH"), set()),
        (("by-label", "cluster", "prod"), {"orders", "clicks", "audit", "old"}),
        (("by-label", "team", "orders"), set()),
    ],
)
def test_filters(flink: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: set[str]) -> None:
    status, answer, _ = run(capsys, "deployments", *words, "-c", flink, "--namespace", "prod")
    assert (status, {one["name"] for one in answer["deployments"]}) == (0, expected)


def test_jobs(flink: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = run(capsys, "jobs", "orders", "-c", flink, "--namespace", "prod")
    assert status == 0
    (job,) = answer["jobs"]
    assert (job["namespace"], job["status"]["currentJobStatus"]) == ("prod", "RUNNING")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("calibrate", "10.0.0.1:4000", "10.1.0.1:9092", "orders"), "which clusters of open-source Flink do not need"),
        (("query", "10.0.0.1", "10.1.0.1:9092", "--direct"), "ask without --direct"),
    ],
)
def test_what_only_realtime_compute_has(
    flink: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    status, _, errors = run(capsys, *words, "-c", flink)
    assert status == 1
    assert message in errors
    assert errors.count("\n") == 1
