"""deployments and jobs: what is asked, what is shown, and what an answer lacks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flowmap.cli.control.deployments import jobs_in_words
from flowmap.control.alibaba.api.models import JobSummary
from tests.support.shell import CATALOG, Shell, deployment

WAYS: list[tuple[list[str], list[str], dict[str, int]]] = [
    # words, ids found, calls made
    (["by-ip", "--src-ip", "10.0.0.1"], ["d1", "d3"], {"GetDeploymentsByIp": 2}),
    (["by-ip", "--src-ip", "10.0.0.1", "--namespace", "risk"], ["d3"], {"GetDeploymentsByIp": 1}),
    (["by-ip", "--dst-ip", "10.1.0.1", "--dst-port", "9092"], ["d1"], {"GetDeploymentsByIp": 2}),
    (["by-ip", "--dst-ip", "10.1.0.1", "--dst-port", "9093"], [], {"GetDeploymentsByIp": 2}),
    (["by-ip", "--src-ip", "::ffff:10.0.0.2"], ["d2"], {"GetDeploymentsByIp": 2}),
    (["by-label", "team", "orders"], ["d1"], {"GetDeploymentsByLabel": 2}),
    (["by-label", "team", "orders,billing"], ["d1", "d2"], {"GetDeploymentsByLabel": 2}),
    (["list"], ["d1", "d2", "d3"], {"ListDeployments": 2}),
    (["list", "--namespace", "risk", "--namespace", "risk"], ["d3"], {"ListDeployments": 1}),
    (["list", "--name", "name-d2"], ["d2"], {"ListDeployments": 2}),
    (["list", "--status", "FAILED"], ["d1"], {"ListDeployments": 2}),
    (["list", "--creator", "nobody"], [], {"ListDeployments": 2}),
    (["list", "--execution-mode", "BATCH"], [], {"ListDeployments": 2}),
    (["list", "--execution-mode", "STREAMING", "--label", "team=orders,x"], ["d1"], {"ListDeployments": 2}),
]


@pytest.mark.parametrize(("words", "ids", "calls"), WAYS, ids=lambda value: "-".join(value))
def test_who_is_found(shell: Shell, words: list[str], ids: list[str], calls: dict[str, int]) -> None:
    answer = shell.json("deployments", *words)
    assert [one["deploymentId"] for one in answer["deployments"]] == ids
    assert answer["complete"] is True
    assert shell.err == ""
    assert shell.asked() == calls


def test_the_table(shell: Shell) -> None:
    assert shell.table("deployments", "list") == [
        ["NAMESPACE", "DEPLOYMENT", "ID", "MODE", "JOBS", "ENGINE", "LABELS"],
        ["orders", "name-d1", "d1", "STREAMING", "1", "running,", "1", "failed", "vvr-8.0.9-flink-1.17", "team=orders"],
        ["orders", "name-d2", "d2", "STREAMING", "none", "vvr-8.0.9-flink-1.17", "team=billing"],
        ["risk", "name-d3", "d3", "STREAMING", "1", "running", "vvr-8.0.9-flink-1.17"],
    ]


def test_all_pages_are_read(shell: Shell) -> None:
    many = [deployment(f"d{number:03}", "orders") for number in range(250)]
    shell.sandbox.set_catalog(CATALOG | {"deployments": many})
    found = shell.json("deployments", "list", "--namespace", "orders")["deployments"]
    assert [one["deploymentId"] for one in found] == [one["id"] for one in many]
    assert shell.asked() == {"ListDeployments": 3}


WRONG = [
    # words, the message
    (["deployments", "by-ip"], "--src-ip or --dst-ip: at least one is needed"),
    (["deployments", "by-ip", "--src-ip", "10.0.0"], "--src-ip: '10.0.0' is not an IP address without a zone"),
    (
        ["deployments", "by-ip", "--dst-ip", "10.0.0.1", "--src-port", "5"],
        "--src-port: needs --src-ip; a port without its address is undefined",
    ),
    (
        ["deployments", "by-ip", "--src-ip", "10.0.0.1", "--namespace", ".."],
        "--namespace: '..' cannot be a path segment",
    ),
    (["deployments", "by-label", "", "x"], "KEY: '' is not a non-empty text"),
    (
        ["deployments", "list", "--label", "k=a;b"],
        "label value: 'a;b' contains ';', which separates values",
    ),
    (
        ["deployments", "list", "--name", "a\nb"],
        "--name: longer than 1024 characters, or with unprintable characters",
    ),
    (
        ["deployments", "list", "--execution-mode", ""],
        "--execution-mode: '' is not a non-empty text",
    ),
    (["jobs", ""], "DEPLOYMENT_ID: '' is not a non-empty text"),
    (["jobs", "d1", "--namespace", "orders", "--namespace", ""], "--namespace: '' is not a non-empty text"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_parameter_is_named_before_any_call(shell: Shell, words: list[str], message: str) -> None:
    assert shell.run(*words) == 1
    assert shell.err == f"flowmap: {message}\n"
    assert shell.out == ""
    assert shell.asked() == {}


BAD = {"kind": "bad_element", "times": 1}


@pytest.mark.parametrize("words", [["by-ip", "--src-ip", "10.0.0.1"], ["by-label", "team", "orders"], ["list"]])
def test_what_could_not_be_read_is_told(shell: Shell, words: list[str]) -> None:
    shell.sandbox.set_faults([BAD])
    assert shell.run("deployments", *words, "-o", "json") == 1
    answer = json.loads(shell.out)
    assert answer["deployments"][0]["deploymentId"] == "d1"
    assert answer["complete"] is False
    assert shell.err.startswith("flowmap: ")
    assert "3 " in shell.err and "could not be read and are missing" in shell.err


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "business", "code": "NoSuchThing"}, "the control plane refused: NoSuchThing"),
    ({"kind": "gateway"}, "Forbidden.RAM"),
    ({"kind": "malformed"}, "not JSON"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=["business", "gateway", "malformed"])
@pytest.mark.parametrize(
    "words", [["deployments", "by-ip", "--src-ip", "10.0.0.1"], ["deployments", "list"], ["jobs", "d1"]]
)
def test_a_failure_is_one_line_and_no_answer(
    shell: Shell, words: list[str], fault: dict[str, Any], message: str
) -> None:
    shell.sandbox.set_faults([fault])
    assert shell.run(*words) == 1
    assert shell.out == ""
    assert message in shell.err
    assert len(shell.err.splitlines()) == 1


def test_nobody_to_ask_is_78(shell: Shell) -> None:
    assert shell.run("deployments", "list", settings={"workspace": None}) == 78
    assert shell.err.startswith("flowmap: control_plane.workspace: not set")


SUMMARIES = [
    (None, None),
    (JobSummary(), "none"),
    (JobSummary(running=0, failed=0), "none"),
    (JobSummary(running=2, failed=1, starting=0), "2 running, 1 failed"),
]


@pytest.mark.parametrize(("summary", "words"), SUMMARIES)
def test_jobs_in_words(summary: JobSummary | None, words: str | None) -> None:
    assert jobs_in_words(summary) == words
