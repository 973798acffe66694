"""The demo, short: every process is real, and so are the connections."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flowmap.errors import FlowmapError
from flowmap.sandbox.demo.demo import Demo
from flowmap.sandbox.demo.scenario import LINKS, SeriesName, address


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with Demo("127.0.0.1", 0) as running:
        wanted = {SeriesName(link.deployments, link.service) for link in LINKS}
        deadline = time.monotonic() + 60
        while running.page().rows.keys() != wanted:
            assert time.monotonic() < deadline, running.page()
            time.sleep(0.1)
        yield running


def flowmap(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "flowmap", *words], capture_output=True, text=True, timeout=60)


QUERIES = [
    # source, destination: state, deployments, exit status
    ("0.11", "1.10:9092", "attributed", ["orders-enrichment"], 0),
    ("0.12", "1.10:9092", "attributed", ["orders-archive"], 0),
    ("0.17", "2.20:3306", "shared", ["session-alerts", "session-report"], 0),
    ("0.99", "1.10:9092", "unknown", [], 3),
]


@pytest.mark.parametrize(("source", "destination", "state", "names", "status"), QUERIES)
def test_query(demo: Demo, source: str, destination: str, state: str, names: list[str], status: int) -> None:
    ends = [f"127.{demo.block}.{end}" for end in (source, destination)]
    result = flowmap("query", *ends, "--url", demo.url, "-o", "json")
    answer = json.loads(result.stdout)
    assert answer["state"] == state
    assert sorted(deployment["name"] for deployment in answer["deployments"]) == names
    assert result.returncode == status
    table = flowmap("query", *ends, "--url", demo.url, "-o", "table", "--explain")
    assert table.stdout.split()[:2] == ["state", state]
    assert all(name in table.stdout for name in names)
    assert "combined" in table.stdout and "∩" in table.stdout
    assert f"client src={ends[0]} in default-namespace" in table.stdout


def test_query_direct(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / "flowmap.yaml"
    settings = demo.settings()["control_plane"]
    file.write_text(json.dumps({"control_plane": settings}))
    for source, destination, state, names, status in QUERIES:
        ends = [f"127.{demo.block}.{end}" for end in (source, destination)]
        result = flowmap("query", *ends, "--direct", "-c", str(file), "-o", "json")
        answer = json.loads(result.stdout)
        assert answer["state"] == state, answer
        assert sorted(deployment["name"] for deployment in answer["deployments"]) == names
        assert result.returncode == status
        assert {piece["shape"] for piece in answer["evidence"]} == {"client", "sink", "source"}


def test_flows(demo: Demo) -> None:
    everything = json.loads(flowmap("flows", "--url", demo.url, "-o", "json", "--limit", "5000").stdout)["flows"]
    assert {flow["state"] for flow in everything} >= {"attributed", "shared", "unknown"}
    filters = ["--deployment", "warehouse-loader", "--peer", "warehouse-mysql", "--state", "attributed"]
    (one,) = json.loads(flowmap("flows", "--url", demo.url, "-o", "json", *filters).stdout)["flows"]
    assert one["client"]["ip"] == f"127.{demo.block}.0.15"
    listed = flowmap("flows", "--url", demo.url, "-o", "table", *filters).stdout.splitlines()
    assert listed[0].split()[:4] == ["STATE", "DEPLOYMENT", "CLIENT", "SERVER"]
    assert listed[1].split()[:2] == ["attributed", "warehouse-loader"]
    assert len(listed) == 2


def test_flows_says_when_there_are_more(demo: Demo) -> None:
    said = flowmap("flows", "--url", demo.url, "-o", "table", "--limit", "3").stdout.splitlines()
    assert len(said) == 5
    assert said[-1] == "(the first 3; use --limit for more)"


def test_a_bad_filter_is_one_line(demo: Demo) -> None:
    result = flowmap("flows", "--url", demo.url, "--client", "nonsense")
    assert result.returncode == 1
    assert result.stderr == "flowmap: client: is neither an address nor address:port\n"


def test_check_finds_the_control_plane(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text(json.dumps(demo.settings()))
    result = flowmap("check", "-c", str(file), "-o", "json")
    report = json.loads(result.stdout)
    levels = {finding["name"]: finding["level"] for finding in report["findings"]}
    assert levels["config"] == "ok"
    assert {name: level for name, level in levels.items() if name.startswith("control_plane.")} == {
        "control_plane.credentials": "ok",
        "control_plane.default-namespace.GetDeploymentsByIp": "ok",
        "control_plane.default-namespace.GetDeploymentsByLabel": "ok",
        "control_plane.default-namespace.ListDeployments": "ok",
        "control_plane.default-namespace.ListJobs": "ok",
        "control_plane.clock": "ok",
    }
    assert any(name.startswith("sockets.") for name in levels)
    assert report["ok"] is (result.returncode == 0)


def test_lineage_is_that_of_the_scenario(demo: Demo) -> None:
    found = {
        (tuple(sorted(one["name"] for one in edge["deployments"])), edge["peer"], edge["direction"])
        for edge in answered(demo, "lineage")["edges"]
    }
    assert found == {(tuple(sorted(link.deployments)), link.service, link.role) for link in LINKS if link.deployments}


def test_expectations_hold_until_one_is_changed(demo: Demo, tmp_path: Path) -> None:
    written = flowmap("expect", "init", "--url", demo.url)
    file = tmp_path / "expect.yaml"
    file.write_text(written.stdout)
    assert flowmap("expect", "check", str(file), "--url", demo.url).returncode == 0
    file.write_text(written.stdout.replace('"features-redis"', '"features-valkey"'))
    done = flowmap("expect", "check", str(file), "--url", demo.url)
    kinds = sorted((one["kind"], one["peer"]) for one in json.loads(done.stdout)["findings"])
    users = {name for link in LINKS if link.service == "features-redis" for name in link.deployments}
    expected = [("missing", "features-valkey")] * len(users) + [("new", "features-redis")] * len(users)
    assert (done.returncode, kinds) == (3, expected)


def test_every_connection_in_a_list_gets_its_owner(demo: Demo) -> None:
    flows = [one for one in answered(demo, "flows", "--limit", "1000")["flows"] if one["endedAt"] is None]
    ends = [(one["client"]["ip"], one["client"]["port"]) for one in flows]
    text = "\n".join(f"| {ip}:{port} |" for ip, port in ends)
    command = [sys.executable, "-m", "flowmap", "who", "--url", demo.url]
    told = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=True).stdout
    truth = {address(demo.block, link.task_manager): sorted(link.deployments) for link in LINKS}
    held = 0
    for (ip, _), line in zip(ends, told.splitlines(), strict=True):
        owners = line.partition("=> ")[2].removesuffix(" (by address)").removesuffix(" (one of these)")
        assert sorted(owners.split(" | ")) == (truth[ip] or ["no deployment"]), line
        held += not line.endswith("(by address)")
    assert held >= sum(link.connections for link in LINKS)


def test_nothing_is_stale(demo: Demo) -> None:
    done = flowmap("stale", "--url", demo.url, "--connections", "1")
    answer = json.loads(done.stdout)
    assert (answer["connections"], answer["total"]) == ([], 0)
    several = {(names, link.service) for link in LINKS if link.connections > 1 for names in [link.deployments]}
    found = {(tuple(one["name"] for one in above["deployments"]), above["peer"]) for above in answer["aboveLimit"]}
    assert several <= found


def test_every_byte_gets_its_name(demo: Demo) -> None:
    """Runs last: the jobs stop."""
    outcome = demo.finish()
    assert outcome.page.rows == {
        name: amount._replace(connections=outcome.page.rows[name].connections) for name, amount in outcome.truth.items()
    }
    for name, amount in outcome.truth.items():
        if name.state == "attributed":
            assert outcome.page.rows[name].connections == amount.connections
    assert outcome.good
    assert outcome.verdict.attributed > 100_000


def test_a_port_that_is_taken_is_one_line() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        result = flowmap("demo", "--duration", "1s", "--listen", place)
    assert result.returncode == 1
    assert (
        result.stderr
        == f"flowmap: {place}: Address already in use; choose another address with --listen (port 0: any free port)\n"
    )


def test_the_blocks_of_two_demos_are_apart(demo: Demo) -> None:
    from flowmap.sandbox.demo.demo import listen_somewhere

    block, listeners = listen_somewhere()
    for listener in listeners.values():
        listener.close()
    assert block != demo.block


def test_a_process_that_ends_ends_the_demo() -> None:
    with Demo("127.0.0.1", 0) as running:
        victim = running.processes()["the daemon"]
        os.kill(victim, 9)
        deadline = time.monotonic() + 30
        with pytest.raises(FlowmapError, match="the daemon"):
            while time.monotonic() < deadline:
                running.page()
                time.sleep(0.05)


def answered(demo: Demo, *words: str) -> dict[str, Any]:
    done = flowmap(*words, "--url", demo.url)
    assert (done.returncode, done.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
