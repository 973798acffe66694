"""Commands that ask clusters of open-source Flink, against recorded answers served over HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from flowmap.cli import command
from flowmap.system import proc
from tests.control.flink.fake import recorded


class _Handler(BaseHTTPRequestHandler):
    answers: dict[str, Any] = {}

    def do_GET(self) -> None:
        answer = self.answers.get(unquote(self.path))
        body = json.dumps(answer).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def answers() -> dict[str, Any]:
    """The answers of the recorded cluster, which a test may change."""
    return recorded("session-2.3")


@pytest.fixture
def config(answers: dict[str, Any], tmp_path: Path) -> Iterator[str]:
    """A configuration with the recorded cluster, and one that does not answer."""
    handler = type("Handler", (_Handler,), {"answers": answers})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    file = tmp_path / "flowmap.yaml"
    clusters = [
        {"name": "prod", "urls": [f"http://127.0.0.1:{server.server_port}"]},
        {"name": "down", "urls": ["http://127.0.0.1:9"]},
    ]
    file.write_text(json.dumps({"flink": {"clusters": clusters, "poll": "100ms"}}))
    try:
        yield str(file)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    status = command.main([*words, "-o", "json"])
    shown = capsys.readouterr()
    return status, json.loads(shown.out) if shown.out else None, shown.err


def test_list(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, errors = run(capsys, "deployments", "list", "-c", config)
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
def test_filters(config: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: set[str]) -> None:
    status, answer, _ = run(capsys, "deployments", *words, "-c", config, "--namespace", "prod")
    assert (status, {one["name"] for one in answer["deployments"]}) == (0, expected)


def test_jobs(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = run(capsys, "jobs", "orders", "-c", config, "--namespace", "prod")
    assert status == 0
    (job,) = answer["jobs"]
    assert (job["namespace"], job["status"]["currentJobStatus"]) == ("prod", "RUNNING")


def test_package_users_says_what_flink_does_not_tell(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("package-users", "job*.jar", "-c", config, "--namespace", "prod", "--url", "http://127.0.0.1:9")
    status, answer, errors = run(capsys, *words)
    assert (status, answer["deployments"]) == (0, [])
    assert "prod: job.jar is uploaded" in errors


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
    config: str, capsys: pytest.CaptureFixture[str], processes: Path, tmp_path: Path
) -> None:
    answers = recorded("session-2.3")
    (job,) = [one["jid"] for one in answers["/jobs/overview"]["jobs"] if one["name"] == "orders"]
    (one,) = [one["id"] for one in answers["/taskmanagers"]["taskmanagers"] if "10.200.1.2" in one["id"]]
    copy = tmp_path / "copy.jar"
    copy.write_bytes(b"a jar")
    sha1 = hashlib.sha1(b"a jar").hexdigest()
    blob = "/tmp/tm_{}/blobStorage/job_{}/blob_p-{}-00"
    opened(processes, 7, blob.format(one, job, sha1), "/opt/flink/lib/log4j-core-2.24.jar")
    opened(processes, 8, blob.format("elsewhere", JOB, sha1), blob.format("elsewhere", JOB, "0" * 40))
    words = ("-c", config, "--namespace", "prod", "--url", "http://127.0.0.1:9")
    _, answer, _ = run(capsys, "package-users", str(copy), *words)
    assert users(answer) == {("prod", "orders", job, "open file")}
    _, answer, _ = run(capsys, "package-users", "log4j-core-*.jar", *words)
    assert users(answer) == {("prod", "orders", job, "class path")}
    _, answer, errors = run(capsys, "package-users", "orders.jar", *words)
    assert users(answer) == set()
    assert "by SHA-1 only: give the path of a copy" in errors
    status, answer, errors = run(capsys, "package-users", str(copy), "-c", config, "--url", "http://127.0.0.1:9")
    assert users(answer) == {("prod", "orders", job, "open file"), ("(this host)", None, JOB, "open file")}
    assert (status, "down: " in errors) == (1, True)


def test_jobs_that_publish_a_file(
    answers: dict[str, Any], config: str, capsys: pytest.CaptureFixture[str], processes: Path
) -> None:
    running = [one for one in answers["/jobs/overview"]["jobs"] if one["end-time"] < 0]
    for one in running:
        published = {"jars": "oss://bucket/lib/a.jar;/opt/b.jar", "n": "1"} if one["name"] == "orders" else {}
        answers[f"/jobs/{one['jid']}/config"] = {"execution-config": {"user-config": published}}
    words = ("-c", config, "--namespace", "prod", "--url", "http://127.0.0.1:9")
    _, answer, _ = run(capsys, "package-users", "b.jar", *words)
    assert {(name, field) for _, name, _, field in users(answer)} == {("orders", "user-config jars")}
    _, answer, _ = run(capsys, "package-users", "b.jar", "--no-jobs", *words)
    assert users(answer) == set()


def test_check(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = run(capsys, "check", "-c", config)
    assert status == 1
    found = {one["name"]: (one["level"], one["message"]) for one in answer["findings"]}
    level, message = found["flink.prod"]
    assert (level, message.partition(": ")[2]) == ("ok", "Flink 2.3.0, 2 TaskManagers, 3 jobs")
    assert found["flink.down"][0] == "failed"
    assert not [name for name in found if name.startswith("control_plane")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("calibrate", "10.0.0.1:4000", "10.1.0.1:9092", "orders"), "which clusters of open-source Flink do not need"),
        (("query", "10.0.0.1", "10.1.0.1:9092", "--direct"), "ask without --direct"),
    ],
)
def test_what_only_realtime_compute_has(
    config: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    status, _, errors = run(capsys, *words, "-c", config)
    assert status == 1
    assert message in errors
    assert errors.count("\n") == 1
