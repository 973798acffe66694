"""Stale connections and unexpected peers, with the real daemon on real connections."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import WORKSPACE, Daemon, Host, deployment, host, total_of
from tests.support.netns import needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

SERVICE, ORDERS, BILLING = "10.77.1.10", "10.77.0.11", "10.77.0.12"
PORTS = (3306, 9092)
STALE, UNEXPECTED = "flowmap_stale_connections", "flowmap_unexpected_peers"
ENDS = [f"{SERVICE}:{port}" for port in PORTS]


def catalog(**jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    both = [deployment("orders", ORDERS, *ENDS), deployment("billing", BILLING, *ENDS)]
    return [one | {"jobs": jobs.get(one["name"], one["jobs"])} for one in both]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Host]:
    addresses = [f"{address}/32" for address in (SERVICE, ORDERS, BILLING)]
    with host(tmp_path, addresses, catalog()) as made, made.service(SERVICE, 3306), made.service(SERVICE, 9092):
        yield made


def metric(daemon: Daemon, name: str, **labels: str) -> int:
    return total_of(daemon.samples(), name, **labels)


def set_jobs(machine: Host, **jobs: list[dict[str, Any]]) -> None:
    machine.sandbox.set_catalog({"workspace": WORKSPACE, "deployments": catalog(**jobs)})


def test_connections_that_a_restart_leaves_are_stale(machine: Host) -> None:
    first = {"id": "job-1", "status": "RUNNING", "start_time": time.time() - 600}
    set_jobs(machine, orders=[first], billing=[first | {"id": "job-b"}])
    plane, expect = {"catalog": {"refresh": "1s"}}, {"connections": 1}
    with (
        machine.daemon(control_plane=plane, expect=expect) as daemon,
        machine.connection(ORDERS, SERVICE, 3306) as old,
    ):
        old.sendall(b"x")
        until(lambda: judged(daemon) == 1, "the age of the connection is judged")
        assert daemon.json("/api/v1/stale")["total"] == 0
        time.sleep(4)  # the list of jobs has whole seconds
        ended = first | {"status": "CANCELLED", "end_time": time.time()}
        set_jobs(machine, orders=[{"id": "job-2", "status": "RUNNING", "start_time": time.time()}, ended])
        until(lambda: daemon.json("/api/v1/stale")["total"] == 1, "the connection is older than the run")
        with machine.connection(ORDERS, SERVICE, 3306) as new:
            new.sendall(b"x")
            until(lambda: judged(daemon) == 2, "the new connection is judged")
            answer = daemon.json("/api/v1/stale")
            (stale,) = answer["connections"]
            assert stale["flow"]["client"]["port"] == old.getsockname()[1]
            assert stale["reasons"] == ["older_than_run"]
            (above,) = answer["aboveLimit"]
            assert (above["peer"], above["connections"]) == (ENDS[0], 2)
            until(
                lambda: metric(daemon, STALE, reason="older_than_run", deployment="orders") == 1, "the metric counts it"
            )
            until(lambda: metric(daemon, STALE, reason="above_limit", deployment="orders") == 1, "and the one too many")
        set_jobs(machine, orders=[ended])
        until(lambda: reasons(daemon) == [["job_ended"]], "no job of the deployment runs")


def test_peers_that_are_not_expected(machine: Host, tmp_path: Path) -> None:
    file = tmp_path / "expect.yaml"
    file.write_text(f"expect: [{{deployment: orders, peers: ['{ENDS[0]}']}}]\n")
    with machine.daemon(expect={"file": str(file)}) as daemon:
        for source, port in ((ORDERS, 3306), (ORDERS, 9092), (BILLING, 3306)):
            machine.exchange(source, SERVICE, port, 100)
        until(lambda: metric(daemon, UNEXPECTED, deployment="orders", finding="new") == 1, "a new peer is counted")
        until(lambda: metric(daemon, UNEXPECTED, deployment="billing", finding="no_entry") == 1, "no entry")
        file.write_text(f"expect: [{{deployment: '*', peers: ['{SERVICE}:*']}}]\n")
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: metric(daemon, UNEXPECTED) == 0, "a reload reads the file again")
        file.write_text("expect: [{}]\n")
        daemon.process.send_signal(signal.SIGHUP)
        rejected = "flowmap_config_last_reload_successful"
        until(lambda: metric(daemon, rejected) == 0, "a file that is not valid is rejected")


def judged(daemon: Daemon) -> int:
    answer = daemon.json("/api/v1/stale")
    return int(answer["checked"] - answer["unjudged"])


def reasons(daemon: Daemon) -> list[list[str]]:
    return [one["reasons"] for one in daemon.json("/api/v1/stale")["connections"]]
