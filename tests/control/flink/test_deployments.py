"""What a deployment of open-source Flink is."""

from __future__ import annotations

import pytest

from flowmap.control.flink.deployments import (
    Identity,
    IdentityKind,
    described_job,
    file_name_of_jar,
    listed_deployments,
    status_of,
)
from flowmap.control.flink.records import ListedJob
from flowmap.model.deployment import FLINK, Owner


def job(name: str, state: str = "RUNNING", ended: float | None = None, mode: str = "STREAMING") -> ListedJob:
    return ListedJob(f"id-{name}", name, state, mode, 1.0, ended, 2.0, ())


@pytest.mark.parametrize(
    ("kind", "cluster", "identity", "name"),
    [
        ("job_name", "session", "orders", "orders"),
        ("job_id", "session", "id-orders", "orders"),
        ("cluster", "session", "session", "session"),
        ("application", "session", "orders", "orders"),
        ("application", "app", "app", "app"),
        ("job_name", "app", "orders", "orders"),
    ],
)
def test_the_deployment_of_a_job(kind: IdentityKind, cluster: str, identity: str, name: str) -> None:
    owner = Identity(kind, {"app"}).owner(cluster, "id-orders", "orders")
    assert owner == Owner(FLINK, cluster, identity, name)


def test_jobs_of_one_deployment_are_listed_together() -> None:
    b, a = (Owner(FLINK, "prod", name, name) for name in "ba")
    jobs = [(b, job("b")), (a, job("a", "CANCELED", 5.0)), (b, job("b", "FAILED", mode="BATCH"))]
    first, second = listed_deployments(jobs, "2.3.0", resources={"id-a": "nightly"})
    assert (first.owner, first.jobs_by_state) == (a, {"cancelled": 1})
    assert (first.labels, second.labels) == ({"cluster": "prod", "flinksessionjob": "nightly"}, {"cluster": "prod"})
    assert (second.owner, second.jobs_by_state, second.execution_mode) == (b, {"running": 1, "failed": 1}, "BATCH")
    assert {first.engine_version, second.engine_version} == {"flink-2.3.0"}
    assert listed_deployments([(a, job("a"))], "")[0].engine_version == ""
    assert listed_deployments([], "2.3.0") == ()


@pytest.mark.parametrize(
    ("state", "status", "over"),
    [("RUNNING", "RUNNING", False), ("CANCELED", "CANCELLED", True), ("FAILED", "FAILED", True), ("NEW", "NEW", False)],
)
def test_states(state: str, status: str, over: bool) -> None:
    found = described_job(job("a", state))
    assert (status_of(job("a", state)), found.status, found.over) == (status, status, over)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("0f8fad5b-d9cb-469f-a165-70867728950e_job.jar", "job.jar"),
        ("job.jar", "job.jar"),
        ("0f8fad5b-d9cb-469f-a165-70867728950e_", "0f8fad5b-d9cb-469f-a165-70867728950e_"),
        ("a_b.jar", "a_b.jar"),
    ],
)
def test_names_of_jars(name: str, shown: str) -> None:
    assert file_name_of_jar(name) == shown
