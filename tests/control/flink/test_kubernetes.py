"""Clusters in Kubernetes, from objects in the documented form. No API server runs here: a stand-in serves them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowmap.control.flink.cluster import Cluster
from flowmap.control.flink.deployments import Identity
from flowmap.control.flink.kubernetes import FoundCluster, KubernetesAccess, KubernetesClusters, access_of
from flowmap.control.flink.rest import Access, JobManagerRest
from flowmap.errors import AuthError, ConfigError, ProtocolError
from tests.control.flink.fake import FakeApi, FakeRest
from tests.support.waiting import until_async

PODS = "api/v1/pods"
DEPLOYMENTS = "apis/flink.apache.org/v1beta1/flinkdeployments"
SESSION_JOBS = "apis/flink.apache.org/v1beta1/flinksessionjobs"


def pod(app: str | None, *, namespace: str = "jobs", kind: str = "flink-native-kubernetes", **status: Any) -> Any:
    labels = {"component": "jobmanager", "type": kind} | ({} if app is None else {"app": app})
    return {
        "metadata": {"name": f"{app}-0", "namespace": namespace, "labels": labels} | status.pop("metadata", {}),
        "status": {"phase": "Running", "podIP": "10.1.0.5"} | status,
    }


def deployment(name: str, state: str | None, *, namespace: str = "jobs") -> Any:
    status = {} if state is None else {"jobManagerDeploymentStatus": state, "lifecycleState": "STABLE"}
    return {"metadata": {"name": name, "namespace": namespace}, "status": status}


def session_job(name: str, job_id: str | None) -> Any:
    status = {} if job_id is None else {"jobStatus": {"jobId": job_id, "state": "RUNNING"}}
    return {"metadata": {"name": name, "namespace": "jobs"}, "spec": {"deploymentName": "prod"}, "status": status}


def clusters(answers: dict[str, Any], *namespaces: str) -> tuple[KubernetesClusters, FakeApi]:
    fake = FakeApi(answers)

    def make(access: Access) -> Cluster:
        return Cluster(JobManagerRest(access, transport=FakeRest({})), Identity(), poll=2)

    return KubernetesClusters(lambda: fake, namespaces, "component=jobmanager", make), fake


def found(clusters: KubernetesClusters) -> list[str]:
    return list(asyncio.run(clusters.find()))


@pytest.mark.parametrize(
    ("pods", "deployments", "expected"),
    [
        pytest.param([pod("prod")], 404, ["jobs/prod"], id="without the operator"),
        pytest.param([pod("prod"), pod("prod")], 403, ["jobs/prod"], id="with a standby, without rights"),
        pytest.param([pod("prod", kind="flink-standalone-kubernetes")], 404, ["jobs/prod"], id="standalone"),
        pytest.param([pod("prod", kind="other")], 404, [], id="not Flink's"),
        pytest.param([pod(None)], 404, [], id="without a cluster id"),
        pytest.param([pod("prod", phase="Pending")], 404, [], id="not running yet"),
        pytest.param([pod("prod", metadata={"deletionTimestamp": "2026-11-29T00:00:00Z"})], 404, [], id="going"),
        pytest.param([pod("prod")], [deployment("prod", "READY")], ["jobs/prod"], id="ready"),
        pytest.param([pod("prod")], [deployment("prod", "DEPLOYING")], [], id="not ready"),
        pytest.param([pod("prod")], [deployment("prod", None)], [], id="without a status"),
        pytest.param(
            [pod("prod"), pod("prod", namespace="other")],
            [deployment("prod", "MISSING")],
            ["other/prod"],
            id="one name in two namespaces",
        ),
    ],
)
def test_clusters(pods: list[Any], deployments: Any, expected: list[str]) -> None:
    made, _ = clusters({PODS: pods, DEPLOYMENTS: deployments})
    assert found(made) == expected
    assert bool(made.operator_error)  # FlinkSessionJobs cannot be read


def test_the_rest_address_is_that_of_the_service() -> None:
    assert FoundCluster("jobs", "prod").access.urls == ("http://prod-rest.jobs:8081",)


def test_a_cluster_that_stays_is_the_same_object() -> None:
    made, fake = clusters({PODS: [pod("prod")]})
    first = asyncio.run(made.find())["jobs/prod"]
    fake.answers[PODS] = [pod("prod"), pod("more")]
    second = asyncio.run(made.find())
    assert second["jobs/prod"] is first
    assert list(second) == ["jobs/prod", "jobs/more"]


def test_session_jobs_label_the_jobs_of_a_cluster() -> None:
    listed = [session_job("nightly", "ab" * 16), session_job("new", None)]
    made, _ = clusters({PODS: [pod("prod")], DEPLOYMENTS: [], SESSION_JOBS: listed})
    assert asyncio.run(made.find())["jobs/prod"].resources == {"ab" * 16: "nightly"}
    assert made.operator_error == ""


def test_only_the_given_namespaces_are_listed() -> None:
    made, fake = clusters({"api/v1/namespaces/a/pods": []}, "a")
    assert found(made) == []
    assert fake.asked[0] == "api/v1/namespaces/a/pods?labelSelector=component%3Djobmanager&resourceVersion=0"


@pytest.mark.parametrize(
    ("answer", "error"), [(403, AuthError), (b'{"items": 1}', ProtocolError), (b"x", ProtocolError)]
)
def test_pods_that_cannot_be_listed(answer: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        found(clusters({PODS: answer})[0])


def test_changes_arrive_by_watching() -> None:
    async def run() -> list[list[str]]:
        made, fake = clusters({PODS: [pod("prod")], DEPLOYMENTS: [deployment("prod", "DEPLOYING")], SESSION_JOBS: 404})
        made.start()
        seen = []
        for change in (
            None,
            (DEPLOYMENTS, "MODIFIED", deployment("prod", "READY")),
            (PODS, "ADDED", pod("more")),
            (PODS, "MODIFIED", pod("more", phase="Failed")),
            (PODS, "DELETED", pod("prod")),
        ):
            if change is not None:
                fake.send(*change)
            await until_async(lambda: fake.is_silent(PODS) and fake.is_silent(DEPLOYMENTS), "the change is read")
            await made.changed(1)
            seen.append(list(await made.find()))
        await made.aclose()
        return seen

    assert asyncio.run(run()) == [[], ["jobs/prod"], ["jobs/prod", "jobs/more"], ["jobs/prod"], []]


def test_place_of_the_api_server() -> None:
    inside = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    found = access_of("in-cluster", inside)
    assert (found.url, found.token_file is not None) == ("https://[fd00::1]:6443", True)
    assert access_of("http://127.0.0.1:8001/", {}) == KubernetesAccess("http://127.0.0.1:8001")
    with pytest.raises(ConfigError, match="in a pod only"):
        access_of("in-cluster", {})
