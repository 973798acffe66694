"""Jobs of open-source Flink that use a file: what Flink lists, what jobs publish, and what processes have open."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from flowmap.system import proc
from tests.support.flink_cluster import NO_DAEMON, run

JOB = "6a4a59f2fbe9ba62f1ec2ed9d5a4e4a5"


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without processes."""
    root = tmp_path / "proc"
    (root / "self").mkdir(parents=True)
    monkeypatch.setattr(proc, "PROC", root)
    return root


def opened(root: Path, pid: int, *paths: str) -> None:
    (root / str(pid) / "fd").mkdir(parents=True)
    for number, path in enumerate(paths):
        (root / str(pid) / "fd" / str(number)).symlink_to(path)


def users(answer: Any) -> set[tuple[str, str | None, str, str]]:
    """Namespace, deployment, job and field."""
    return {
        (one["namespace"], one["name"], job["jobId"], file["field"])
        for one in answer["deployments"]
        for job in one["jobs"]
        for file in job["files"]
    }


def test_jobs_that_have_a_file_open(
    flink: str, flink_answers: dict[str, Any], capsys: pytest.CaptureFixture[str], processes: Path, tmp_path: Path
) -> None:
    (job,) = [one["jid"] for one in flink_answers["/jobs/overview"]["jobs"] if one["name"] == "orders"]
    (one,) = [one["id"] for one in flink_answers["/taskmanagers"]["taskmanagers"] if "10.200.1.2" in one["id"]]
    copy = tmp_path / "copy.jar"
    copy.write_bytes(b"a jar")
    sha1 = hashlib.sha1(b"a jar").hexdigest()
    blob = "/tmp/tm_{}/blobStorage/job_{}/blob_p-{}-00"
    opened(processes, 7, blob.format(one, job, sha1), "/opt/flink/lib/log4j-core-2.24.jar")
    opened(processes, 8, blob.format("elsewhere", JOB, sha1), blob.format("elsewhere", JOB, "0" * 40))
    words = ("-c", flink, "--namespace", "prod", *NO_DAEMON)
    _, answer, _ = run(capsys, "package-users", str(copy), *words)
    assert users(answer) == {("prod", "orders", job, "open file")}
    _, answer, _ = run(capsys, "package-users", "log4j-core-*.jar", *words)
    assert users(answer) == {("prod", "orders", job, "class path")}
    _, answer, errors = run(capsys, "package-users", "orders.jar", *words)
    assert users(answer) == set()
    assert "by SHA-1 only: give the path of a copy" in errors
    status, answer, errors = run(capsys, "package-users", str(copy), "-c", flink, *NO_DAEMON)
    assert users(answer) == {("prod", "orders", job, "open file"), ("(this host)", None, JOB, "open file")}
    assert (status, "down: " in errors) == (1, True)


def test_jobs_that_publish_a_file(
    flink_answers: dict[str, Any], flink: str, capsys: pytest.CaptureFixture[str], processes: Path
) -> None:
    running = [one for one in flink_answers["/jobs/overview"]["jobs"] if one["end-time"] < 0]
    for one in running:
        published = {"jars": "oss://bucket/lib/a.jar;/opt/b.jar", "n": "1"} if one["name"] == "orders" else {}
        flink_answers[f"/jobs/{one['jid']}/config"] = {"execution-config": {"user-config": published}}
    words = ("-c", flink, "--namespace", "prod", *NO_DAEMON)
    _, answer, _ = run(capsys, "package-users", "b.jar", *words)
    assert {(name, field) for _, name, _, field in users(answer)} == {("orders", "user-config jars")}
    _, answer, _ = run(capsys, "package-users", "b.jar", "--no-jobs", *words)
    assert users(answer) == set()


def test_package_users_says_what_flink_does_not_tell(flink: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("package-users", "job*.jar", "-c", flink, "--namespace", "prod", *NO_DAEMON)
    status, answer, errors = run(capsys, *words)
    assert (status, answer["deployments"]) == (0, [])
    assert "prod: job.jar is uploaded" in errors
