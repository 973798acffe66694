"""Answers of the embedded control plane, with the oddities of the API's documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flowmap.catalog_file.catalog import CatalogFile, DeploymentEntry
from flowmap.sandbox import rendering


def entry(**given: Any) -> DeploymentEntry:
    catalog = CatalogFile.model_validate({"deployments": [{"id": "d", "name": "orders", **given}]})
    return catalog.deployments[0]


@pytest.mark.parametrize(("in_list", "created"), [(True, 100), (False, "100\n")])
def test_times_are_text_or_numbers(in_list: bool, created: object) -> None:
    found = rendering.deployment(entry(createdAt=100.7), workspace="w", in_list=in_list)
    assert found["createdAt"] == created
    assert isinstance(found["flinkConf"]["taskmanager.numberOfTaskSlots"], int if in_list else str)


def test_a_summary_counts_the_jobs() -> None:
    jobs = [{"id": str(n), "status": status} for n, status in enumerate(("RUNNING", "running", "FAILED"))]
    found = rendering.deployment(entry(jobs=jobs), workspace="w", in_list=True)
    assert found["jobSummary"] == dict.fromkeys(rendering.STATES, 0) | {"running": 2, "failed": 1}
    assert "jobSummary" not in rendering.deployment(entry(), workspace="w", in_list=True, job_summary=False)
    assert "batchResourceSetting" not in rendering.deployment(entry(), workspace="w", in_list=True, resources=False)


@pytest.mark.parametrize(
    ("run", "has", "lacks"),
    [
        ({"status": "running"}, "running", "failure"),
        ({"status": "FAILED", "endTime": 9}, "failure", "running"),
        ({"status": "FINISHED", "endTime": 9}, "currentJobStatus", "failure"),
    ],
)
def test_the_status_of_a_job(run: dict[str, Any], has: str, lacks: str) -> None:
    one = entry(jobs=[{"id": "j", "startTime": 5, **run}])
    found = rendering.job(one, one.jobs[0], workspace="w")
    assert has in found["status"] and lacks not in found["status"]
    assert (found["startTime"], found.get("endTime")) == (5, run.get("endTime"))
    assert found["status"]["currentJobStatus"] == run["status"].upper()


def test_envelopes_are_what_the_client_reads() -> None:
    good = json.dumps(rendering.success("r-1", [{"a": 1}], totalSize=1)).encode()
    assert json.loads(good)["errorMessage"] == rendering.NONE_TEXT
    bad = rendering.failure("r-2", http_code=404, code="NotFound", message="no")
    assert (bad["success"], bad["httpCode"], bad["data"]) == (False, 404, None)
    refused = rendering.gateway_error("r-3", code="Forbidden", message="no", host="h")
    assert refused["Code"] == "Forbidden" and "Forbidden" in refused["Recommend"]


@pytest.mark.parametrize(("total", "size", "pages"), [(0, 10, 0), (10, 10, 1), (11, 10, 2)])
def test_pages_of_the_legacy_operation(total: int, size: int, pages: int) -> None:
    found = rendering.blink_page("r", [], index=1, size=size, total=total)
    assert (found["TotalPage"], found["TotalCount"], "success" in found) == (pages, total, False)
