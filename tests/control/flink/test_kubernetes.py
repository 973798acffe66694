"""Clusters in Kubernetes, from objects in the documented form. No API server runs here: a stand-in serves them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flowmap.control.flink.cluster import Cluster
from flowmap.control.flink.deployments import Identity
from flowmap.control.flink.kubernetes import FoundCluster, KubernetesAccess, KubernetesClusters, access_of
from flowmap.control.flink.rest import Access, JobManagerRest
from flowmap.errors import AuthError, ConfigError, ProtocolError
from tests.control.flink.fake import FakeRest

API = "https://10.96.0.1:443"
PODS = "/api/v1/pods"
DEPLOYMENTS = "/apis/flink.apache.org/v1beta1/flinkdeployments"


def pod(app: str | None, *, namespace: str = "jobs", kind: str = "flink-native-kubernetes", **status: Any) -> Any:
    labels = {"component": "jobmanager", "type": kind} | ({} if app is None else {"app": app})
    return {
        "metadata": {"name": f"{app}-0", "namespace": namespace, "labels": labels} | status.pop("metadata", {}),
        "status": {"phase": "Running", "podIP": "10.1.0.5"} | status,
    }


def deployment(name: str, state: str | None, *, namespace: str = "jobs") -> Any:
    status = {} if state is None else {"jobManagerDeploymentStatus": state, "lifecycleState": "STABLE"}
    return {"metadata": {"name": name, "namespace": namespace}, "status": status}


def clusters(
    answers: dict[str, Any], *namespaces: str, token_file: str | None = None
) -> tuple[KubernetesClusters, FakeRest]:
    fake = FakeRest(answers)

    def make(access: Access) -> Cluster:
        return Cluster(JobManagerRest(access, transport=FakeRest({})), Identity(), poll=2)

    access = KubernetesAccess(API, token_file)
    return KubernetesClusters(access, namespaces, "component=jobmanager", make, transport=fake), fake


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
    answer = deployments if isinstance(deployments, int) else {"items": deployments}
    found, _ = clusters({PODS: {"items": pods}, DEPLOYMENTS: answer})
    assert [one.name for one in asyncio.run(found.list_clusters())] == expected


def test_the_rest_address_is_that_of_the_service() -> None:
    assert FoundCluster("jobs", "prod").access.urls == ("http://prod-rest.jobs:8081",)


def test_a_cluster_that_stays_is_the_same_object() -> None:
    answers: dict[str, Any] = {PODS: {"items": [pod("prod")]}}
    found, fake = clusters(answers)
    first = asyncio.run(found.find())["jobs/prod"]
    fake.answers[PODS] = {"items": [pod("prod"), pod("more")]}
    second = asyncio.run(found.find())
    assert second["jobs/prod"] is first
    assert list(second) == ["jobs/prod", "jobs/more"]


def test_only_the_given_namespaces_are_listed(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    found, fake = clusters({"/api/v1/namespaces/a/pods": {"items": []}}, "a", token_file=str(token))
    assert asyncio.run(found.list_clusters()) == ()
    assert fake.sent[0] == (
        f"{API}/api/v1/namespaces/a/pods?labelSelector=component%3Djobmanager&resourceVersion=0",
        {"authorization": "Bearer secret"},
    )


@pytest.mark.parametrize(("answer", "error"), [(403, AuthError), ({"items": 1}, ProtocolError), (b"x", ProtocolError)])
def test_pods_that_cannot_be_listed(answer: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        asyncio.run(clusters({PODS: answer})[0].list_clusters())


def test_place_of_the_api_server() -> None:
    inside = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    found = access_of("in-cluster", inside)
    assert (found.url, found.token_file is not None) == ("https://[fd00::1]:6443", True)
    assert access_of("http://127.0.0.1:8001/", {}) == KubernetesAccess("http://127.0.0.1:8001")
    with pytest.raises(ConfigError, match="in a pod only"):
        access_of("in-cluster", {})
