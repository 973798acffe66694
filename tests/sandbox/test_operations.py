"""Operations of the embedded control plane: routes, parameters, pages."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.catalog_file.catalog import CatalogFile
from flowmap.catalog_file.matching import Index
from flowmap.sandbox.operations import (
    BLINK_ACTION,
    SandboxRequest,
    answer,
    answer_blink,
    route,
    route_blink,
)
from flowmap.sandbox.verify import Refused

CATALOG = CatalogFile.model_validate(
    {
        "deployments": [
            {
                "id": f"d{n}",
                "name": f"job-{n}",
                "labels": {"team": "ab"[n % 2]},
                "addresses": [f"10.0.0.{n}"],
                "jobs": [{"id": f"d{n}-j", "status": "RUNNING", "startTime": 100 + n}],
            }
            for n in range(3)
        ],
        "blinkJobs": [{"id": "b1", "project": "legacy", "packages": ["x.jar"]}],
    }
)
INDEX = Index(CATALOG)
NAMESPACE = CATALOG.namespaces[0]


def asked(action: str, **parameters: str) -> Any:
    """The body of the answer, or the code of the refusal."""
    made = answer(INDEX, SandboxRequest(action, NAMESPACE, parameters, 200.0)).answer
    return made.code if isinstance(made, Refused) else made("r-1")


def names(action: str, **parameters: str) -> list[str]:
    return [one["name"] for one in asked(action, **parameters)["data"]]


@pytest.mark.parametrize(
    ("action", "path", "namespace"),
    [
        ("ListDeployments", "/api/v2/namespaces/ns/deployments", "ns"),
        ("ListDeployments", "/api/v2/namespaces/a%2Fb/deployments", "a/b"),
        ("ListJobs", "/api/v2/namespaces/ns/jobs", "ns"),
        ("ListJobs", "/api/v2/namespaces/ns/deployments", None),
        ("DeleteDeployment", "/api/v2/namespaces/ns/deployments", None),
        ("ListJobs", "/api/v2/namespaces//jobs", None),
    ],
)
def test_routes(action: str, path: str, namespace: str | None) -> None:
    assert route(action, path) == namespace


@pytest.mark.parametrize(
    ("action", "path", "found"),
    [
        (BLINK_ACTION, "/api/v2/projects/p/packages/x.jar/jobs", ("p", "x.jar")),
        (BLINK_ACTION, "/api/v2/projects/p%20q/packages/x.jar/jobs", ("p q", "x.jar")),
        ("ListJobs", "/api/v2/projects/p/packages/x.jar/jobs", None),
        (BLINK_ACTION, "/api/v2/projects/p/jobs", None),
    ],
)
def test_routes_of_the_legacy_operation(action: str, path: str, found: tuple[str, str] | None) -> None:
    assert route_blink(action, path) == found


@pytest.mark.parametrize(
    ("action", "parameters", "found"),
    [
        ("GetDeploymentsByIp", {"srcIp": "10.0.0.1"}, ["job-1"]),
        ("GetDeploymentsByLabel", {"labelKey": "team", "labelValue": "a"}, ["job-0", "job-2"]),
        ("GetDeploymentsByLabel", {"labelKey": "team", "labelValue": "b,c"}, ["job-1"]),
        ("ListDeployments", {}, ["job-0", "job-1", "job-2"]),
        ("ListDeployments", {"pageSize": "2"}, ["job-0", "job-1"]),
        ("ListDeployments", {"pageSize": "2", "pageIndex": "2"}, ["job-2"]),
        ("ListDeployments", {"labelKey": "team", "labelValueArray": "a;x"}, ["job-0", "job-2"]),
        ("ListDeployments", {"name": "job-2"}, ["job-2"]),
    ],
)
def test_who_is_found(action: str, parameters: dict[str, str], found: list[str]) -> None:
    assert names(action, **parameters) == found


@pytest.mark.parametrize(
    ("action", "parameters", "code"),
    [
        ("GetDeploymentsByLabel", {"labelValue": "a"}, "InvalidParameter.labelKey"),
        ("GetDeploymentsByLabel", {"labelKey": "team"}, "InvalidParameter.labelValue"),
        ("ListJobs", {}, "InvalidParameter.deploymentId"),
        ("ListDeployments", {"pageSize": "x"}, "InvalidParameter.pageSize"),
        ("GetDeploymentsByIp", {"srcIp": "host"}, "InvalidParameter.srcIp"),
    ],
)
def test_refusals(action: str, parameters: dict[str, str], code: str) -> None:
    assert asked(action, **parameters) == code


def test_jobs_of_a_deployment() -> None:
    found = asked("ListJobs", deploymentId="d1")
    assert ([job["jobId"] for job in found["data"]], found["totalSize"]) == (["d1-j"], 1)
    assert asked("ListJobs", deploymentId="nobody")["data"] == []


def test_the_legacy_operation() -> None:
    request = SandboxRequest(BLINK_ACTION, "legacy", {}, 0.0)
    found = answer_blink(INDEX, request, "x.jar").answer
    assert not isinstance(found, Refused)
    assert [job["JobId"] for job in found("r")["Jobs"]["Job"]] == ["b1"]
    other = answer_blink(INDEX, request, "y.jar").answer
    assert not isinstance(other, Refused) and other("r")["TotalCount"] == 0
