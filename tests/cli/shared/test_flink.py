"""Commands that ask clusters of open-source Flink, against recorded answers served over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from flowmap.cli import command
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
def config(tmp_path: Path) -> Iterator[str]:
    """A configuration with the recorded cluster, and one that does not answer."""
    handler = type("Handler", (_Handler,), {"answers": recorded("session-2.3")})
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


def test_check(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = run(capsys, "check", "-c", config)
    assert status == 1
    found = {one["name"]: (one["level"], one["message"]) for one in answer["findings"]}
    level, message = found["flink.prod"]
    assert (level, message.partition(": ")[2]) == ("ok", "Flink 2.3.0, 2 TaskManagers, 3 jobs")
    assert found["flink.down"][0] == "failed"
    assert not [name for name in found if name.startswith("control_plane")]
