"""package-users and packages: everybody who uses a file is found, and what was not looked at is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flowmap.cli.shared import options
from tests.support.shell import CATALOG, LOG4J, Shell, deployment

BLINK = {"enabled": True, "projects": ["legacy"]}
NO_DAEMON = "http://127.0.0.1:9"


@contextmanager
def daemon(known: dict[str, Any], status: int = 200) -> Iterator[str]:
    """Something that answers like a daemon for the deployments in ``known``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/api/v1/deployments/")
            found = status == 200 and name in known
            body = json.dumps(known[name] if found else {"status": 404, "detail": "not here"}).encode()
            self.send_response(200 if found else 404 if status == 200 else status)
            self.send_header("content-type", "application/json" if found else "application/problem+json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_daemon_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon of whoever runs the tests is none of ours."""
    monkeypatch.setattr(options, "DEFAULT_URL", NO_DAEMON)


def users(answer: dict[str, Any]) -> list[tuple[str, int, list[str]]]:
    """Of each deployment: id, files of its own, and its jobs that use one."""
    return [
        (one["deploymentId"], len(one["files"]), [job["jobId"] for job in one["jobs"]]) for one in answer["deployments"]
    ]


FOUND: list[tuple[list[str], list[tuple[str, int, list[str]]]]] = [
    (["ingest.jar"], [("d1", 1, ["d1-j0", "d1-j1"])]),
    (["log4j-core-2.14.jar"], [("d1", 1, ["d1-j0", "d1-j1"]), ("d3", 1, ["d3-j0"])]),
    (["log4j-core-*.jar"], [("d1", 1, ["d1-j0", "d1-j1"]), ("d3", 1, ["d3-j0"])]),
    (["log4j-core-*.jar", "--namespace", "risk"], [("d3", 1, ["d3-j0"])]),
    (["log4j-core-*.jar", "--no-jobs"], [("d1", 1, []), ("d3", 1, [])]),
    (["oss://bucket-1/lib/log4j-core-2.14.jar"], [("d1", 1, ["d1-j0", "d1-j1"])]),
    ([LOG4J], [("d1", 1, ["d1-j0", "d1-j1"])]),
    (["*.jar"], [("d1", 2, ["d1-j0", "d1-j1"]), ("d2", 1, []), ("d3", 1, ["d3-j0"])]),
    (["INGEST.jar"], []),
]


@pytest.mark.parametrize(("words", "expected"), FOUND, ids=lambda value: value[0] if value else "none")
def test_who_uses_a_file(shell: Shell, words: list[str], expected: list[tuple[str, int, list[str]]]) -> None:
    answer = shell.json("package-users", *words)
    assert users(answer) == expected
    assert answer["complete"] is True
    assert answer["legacyJobs"] == []
    assert all(one["peers"] is None for one in answer["deployments"])


def test_a_signature_is_not_shown(shell: Shell) -> None:
    (found,) = shell.json("package-users", "log4j-core-2.14.jar", "--namespace", "orders")["deployments"]
    assert found["files"] == [{"field": "additionalDependencies", "uri": "oss://bucket-1/lib/log4j-core-2.14.jar"}]
    assert "secret" not in shell.out


def test_deployments_that_never_had_a_job_cost_no_call(shell: Shell) -> None:
    shell.json("package-users", "x")
    assert shell.asked() == {"ListDeployments": 2, "ListJobs": 2}


def test_many_deployments(shell: Shell) -> None:
    many = [deployment(f"d{number:03}", "orders", f"oss://b/{number % 3}.jar", jobs=1) for number in range(230)]
    shell.sandbox.set_catalog(CATALOG | {"deployments": many})
    found = users(shell.json("package-users", "1.jar", settings={"max_in_flight": 4}))
    assert found == [(f"d{number:03}", 1, [f"d{number:03}-j0"]) for number in range(1, 230, 3)]
    assert shell.asked() == {"ListDeployments": 4, "ListJobs": 230}


def test_the_tables(shell: Shell) -> None:
    traffic = {"transmitBytes": 1500, "receiveBytes": 20, "openConnections": 3}
    known = {
        "d1": {
            "peers": [{"peer": "kafka", "protocol": "tcp", "traffic": traffic}],
            "shared": [{"peer": "redis", "protocol": "tcp", "traffic": traffic}],
        }
    }
    with daemon(known) as url:
        lines = shell.table(
            "package-users", "log4j-core-2.14.jar", "--url", url, settings={"blink": BLINK | _at(shell)}
        )
    file = ["additionalDependencies", "oss://bucket-1/lib/log4j-core-2.14.jar"]
    assert lines == [
        ["NAMESPACE", "DEPLOYMENT", "ID", "JOB", "STATUS", "FIELD", "FILE"],
        ["orders", "name-d1", "d1", "-", "-", *file],
        ["orders", "name-d1", "d1", "d1-j0", "RUNNING", *file],
        ["orders", "name-d1", "d1", "d1-j1", "FAILED", *file],
        ["risk", "name-d3", "d3", "-", "-", "jarUri", "oss://bucket-2/log4j-core-2.14.jar"],
        ["risk", "name-d3", "d3", "d3-j0", "RUNNING", "jarUri", "oss://bucket-2/log4j-core-2.14.jar"],
        [],
        ["PROJECT", "LEGACY", "JOB", "ID", "PACKAGE"],
        ["legacy", "old", "b1", "log4j-core-2.14.jar"],
        [],
        ["DEPLOYMENT", "PEER", "PROTOCOL", "TRANSMIT", "RECEIVE", "OPEN", "STATE"],
        ["name-d1", "kafka", "tcp", "1.5", "kB", "20", "B", "3", "attributed"],
        ["name-d1", "redis", "tcp", "1.5", "kB", "20", "B", "3", "shared"],
    ]
    assert shell.err == ""


def test_a_deployment_without_traffic_has_no_peers(shell: Shell) -> None:
    with daemon({}) as url:
        (found,) = shell.json("package-users", "ingest.jar", "--url", url)["deployments"]
    assert found["peers"] == []


def test_no_daemon_is_said_and_is_no_failure(shell: Shell) -> None:
    shell.json("package-users", "ingest.jar")
    assert shell.err.startswith(f"flowmap: peers: no daemon answers at {NO_DAEMON}")


def test_a_daemon_that_was_named_and_is_not_there_is_a_loss(shell: Shell) -> None:
    assert shell.run("package-users", "ingest.jar", "--url", "http://127.0.0.1:10", "-o", "json") == 1
    assert json.loads(shell.out)["complete"] is False
    with daemon({}, status=503) as url:
        assert shell.run("package-users", "ingest.jar", "--url", url, "-o", "json") == 1
    assert shell.err == "flowmap: peers: not here\n"


def _at(shell: Shell) -> dict[str, str]:
    return {"endpoint": shell.sandbox.url}


LEGACY: list[tuple[str, dict[str, Any], list[str], str]] = [
    # file, blink, package told, message
    ("x.jar", {}, ["x.jar"], ""),
    ("oss://somewhere/x.jar", {}, ["x.jar"], ""),
    ("nothing.jar", {}, [], ""),
    ("x*.jar", {}, [], "legacy API: no project was searched; it does not support patterns"),
    ("x.jar", {"projects": []}, [], "legacy API: no project was searched; set control_plane.blink.projects"),
    ("x#.jar", {}, [], "legacy project legacy: package: 'x#.jar' is not a name"),
]


@pytest.mark.parametrize(("file", "blink", "packages", "message"), LEGACY)
def test_legacy_jobs(shell: Shell, file: str, blink: dict[str, Any], packages: list[str], message: str) -> None:
    status = shell.run("package-users", file, "-o", "json", settings={"blink": BLINK | _at(shell) | blink})
    answer = json.loads(shell.out)
    assert [job["package"] for job in answer["legacyJobs"]] == packages
    assert answer["complete"] is (message == "")
    assert status == (1 if message else 0)
    assert shell.err.startswith(f"flowmap: {message}" if message else "")


def test_jobs_that_could_not_be_read_are_told(shell: Shell) -> None:
    shell.sandbox.set_faults([{"kind": "business", "operation": "ListJobs", "times": 1, "code": "Busy"}])
    assert shell.run("package-users", "log4j-core-2.14.jar", "-o", "json") == 1
    answer = json.loads(shell.out)
    assert [len(one["files"]) for one in answer["deployments"]] == [1, 1]
    assert sum(len(one["jobs"]) for one in answer["deployments"]) in (1, 2)
    assert shell.err.startswith("flowmap: jobs of 1 deployments could not be read: the control plane refused: Busy")


def test_a_refusal_ends_it(shell: Shell) -> None:
    shell.sandbox.set_faults([{"kind": "gateway", "operation": "ListJobs"}])
    assert shell.run("package-users", "x.jar") == 1
    assert shell.out == ""
    assert "Forbidden.RAM" in shell.err
