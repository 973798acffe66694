"""The daemon's catalog on real traffic: jobs, labels, packages in answers and on the page, within the budget."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import SAMPLES, WORKSPACE, Daemon, Host, deployment, host, total_of
from tests.support.netns import needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

SERVICE, PORT = "10.79.1.10", 9092
ORDERS, ARCHIVE = "10.79.0.11", "10.79.0.12"
END = f"{SERVICE}:{PORT}"
CATALOG = {"refresh": "500ms"}


def job(name: str, status: str, start: float, end: float | None = None) -> dict[str, Any]:
    return {"id": name, "status": status, "startTime": start} | ({} if end is None else {"endTime": end})


def orders(**more: Any) -> dict[str, Any]:
    now = time.time()
    jobs = [
        job("first", "FINISHED", now - 7200, now - 3600),
        job("second", "RUNNING", now - 600),
    ]
    artifact = {"kind": "JAR", "jarArtifact": {"jarUri": "oss://bucket/orders.jar"}}
    return deployment("orders", ORDERS, END) | {"labels": {"team": "pay"}, "jobs": jobs, "artifact": artifact} | more


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Host]:
    addresses = [f"{address}/32" for address in (SERVICE, ORDERS, ARCHIVE)]
    with (
        host(tmp_path, addresses, [orders(), deployment("archive", ARCHIVE, END)]) as made,
        made.service(SERVICE, PORT),
    ):
        yield made


def change(machine: Host, *deployments: dict[str, Any]) -> None:
    machine.sandbox.set_catalog({"workspace": WORKSPACE, "deployments": list(deployments)})


def catalog(daemon: Daemon) -> dict[str, Any]:
    """The catalog in the daemon's status."""
    found: dict[str, Any] = daemon.json("/api/v1/status")["controlPlane"]["catalog"]
    return found


def infos(samples: SAMPLES, name: str) -> list[dict[str, str]]:
    return [dict(labels) for known, labels in samples if known == name]


def only(daemon: Daemon, path: str) -> Any:
    (one,) = daemon.json(path)["deployments"]
    return one


def test_jobs_labels_and_packages_of_a_connections_deployment(machine: Host) -> None:
    with (
        machine.daemon(control_plane={"catalog": CATALOG}, export={"deployment_labels": ["team"]}) as daemon,
        machine.connection(ORDERS, SERVICE, PORT) as peer,
    ):
        peer.sendall(b"x" * 1000)
        query = f"/api/v1/attribution?srcIp={ORDERS}&srcPort={peer.getsockname()[1]}&dstIp={SERVICE}&dstPort={PORT}"

        def placed() -> bool:
            # A list of jobs proves which one it was only if it was asked for after the connection began.
            answer = daemon.json(query)
            named = answer["flow"] is not None and answer["state"] == "attributed"
            return named and answer["deployments"][0]["jobSelection"] == "atStart"

        until(placed, "the connection has a job")
        answer = only(daemon, query)
        assert [(one["jobId"], one["status"], one["endedAt"]) for one in answer["jobs"]] == [
            ("second", "RUNNING", None)
        ]
        assert answer["labels"] == {"team": "pay"}
        (flow,) = daemon.json("/api/v1/flows?deployment=orders")["flows"]
        assert [one["jobId"] for one in flow["deployments"][0]["jobs"]] == ["second"]

        detail = daemon.json("/api/v1/deployments/id-orders")
        assert [one["jobId"] for one in detail["jobs"]] == ["second", "first"]
        assert (detail["jobSelection"], detail["packages"]) == ("all", ["oss://bucket/orders.jar"])
        assert [one["jobId"] for one in only(daemon, "/api/v1/deployments")["jobs"]] == ["second"]

        samples = daemon.samples()
        own = {"namespace": "default-namespace", "deployment_id": "id-orders"}
        assert infos(samples, "flowmap_job_info") == [own | {"job_id": "second", "state": "RUNNING"}]
        (info,) = infos(samples, "flowmap_deployment_info")
        assert (info["deployment"], info["label_team"]) == ("orders", "pay")
        assert total_of(samples, "flowmap_deployment_jobs", deployment_id="id-orders", state="running") == 1
        assert total_of(samples, "flowmap_catalog_deployments") == 2
        assert abs(total_of(samples, "flowmap_catalog_last_success_timestamp_seconds") - time.time()) < 60
        assert {"ListDeployments", "ListJobs"} <= set(machine.sandbox.requests["byOperation"])
        asked = {dict(one.parameters).get("deploymentId") for one in machine.sandbox.recorded}
        assert asked == {None, "id-orders"}, "jobs are asked for only of those seen in traffic"
        assert daemon.stop() == 0


def test_a_change_of_the_catalog_shows_while_the_daemon_runs(machine: Host) -> None:
    with (
        machine.daemon(control_plane={"catalog": CATALOG}, attribute={"positive_ttl": "60s"}) as daemon,
        machine.connection(ORDERS, SERVICE, PORT) as peer,
    ):
        peer.sendall(b"x" * 1000)
        until(lambda: daemon.json("/api/v1/deployments")["deployments"], "somebody has traffic")
        until(lambda: catalog(daemon)["deployments"], "the catalog is there")
        status = catalog(daemon)
        assert (status["deployments"], status["suspicious"], status["error"]) == (2, None, None)
        change(machine, orders(labels={"team": "risk"}, name="renamed"), deployment("archive", ARCHIVE, END))
        until(lambda: only(daemon, "/api/v1/deployments")["labels"] == {"team": "risk"}, "the new label is there")
        assert only(daemon, "/api/v1/deployments")["name"] == "renamed"
        assert infos(daemon.samples(), "flowmap_deployment_info")[0]["deployment"] == "renamed"

        change(machine)
        until(
            lambda: catalog(daemon)["suspicious"],
            "an empty list is suspicious",
        )
        until(lambda: total_of(daemon.samples(), "flowmap_catalog_suspicious"), "the page says so too")
        assert total_of(daemon.samples(), "flowmap_catalog_deployments") == 2
        assert "lost more than half" in daemon.log.read_text()


def test_the_catalog_keeps_to_the_call_budget(machine: Host) -> None:
    many = [deployment(f"other-{n}", f"10.80.{n // 250}.{n % 250}") for n in range(1500)]
    change(machine, orders(), *many)
    budget = {"rate": 4, "burst": 4, "catalog": {"refresh": "1s"}}
    began = time.monotonic()
    with machine.daemon(control_plane=budget, attribute={"positive_ttl": "60s", "grace": "2s"}) as daemon:
        until(lambda: _operations(machine).get("ListDeployments", 0) > 2, "the catalog takes what is free")
        for _ in range(3):
            machine.exchange(ORDERS, SERVICE, PORT, 1000)
        until(lambda: total_of(daemon.samples(), "flowmap_deployment_connections_total") == 3, "short flows are named")
        until(lambda: _operations(machine)["ListDeployments"] >= 16, "a whole listing went through")
        took, asked = time.monotonic() - began, sum(_operations(machine).values())
        assert asked <= 4 + 4 * took + 1
        until(lambda: total_of(daemon.samples(), "flowmap_catalog_deployments") == 1501, "all are known")


def test_a_failing_listing_does_not_affect_attribution(machine: Host) -> None:
    machine.sandbox.set_faults([{"kind": "gateway", "operation": name} for name in ("ListDeployments", "ListJobs")])
    with machine.daemon(control_plane={"catalog": CATALOG}) as daemon:
        machine.exchange(ORDERS, SERVICE, PORT, 1000)
        until(lambda: total_of(daemon.samples(), "flowmap_deployment_connections_total") == 1, "the flow is named")
        until(lambda: catalog(daemon)["error"], "the failure shows")
        assert only(daemon, "/api/v1/deployments")["jobSelection"] == "unlisted"
        assert "flowmap_catalog_last_success" not in daemon.get("/metrics")
        samples = daemon.samples()
        assert total_of(samples, "flowmap_api_request_failures_total", operation="ListDeployments", reason="auth")
        machine.sandbox.set_faults([])


def _operations(machine: Host) -> dict[str, int]:
    return {name: sum(shapes.values()) for name, shapes in machine.sandbox.requests["byOperation"].items()}
