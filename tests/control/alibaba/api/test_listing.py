"""Listings: all pages, labels, filters, invalid parameters."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.control.alibaba.api.client import ControlClient
from flowmap.errors import (
    BadRequest,
)
from tests.support.control_clients import NAMESPACE, ask
from tests.support.sandbox import RunningSandbox


def big_catalog(count: int) -> dict[str, Any]:
    rows = [
        {"id": f"d{number:05}", "name": f"n{number}", "createdAt": 1000 + number, "labels": {"team": f"t{number % 3}"}}
        for number in range(count)
    ]
    rows[0]["jobs"] = [
        {"id": f"j{number}", "status": "FINISHED", "startTime": 5000 + number, "endTime": 6000 + number}
        for number in range(7)
    ]
    return {"deployments": rows}


def test_listings_are_read_to_the_end(sandbox: RunningSandbox) -> None:
    sandbox.set_catalog(big_catalog(25))
    listing = ask(sandbox.url, lambda client: client.list_deployments(namespace=NAMESPACE, page_size=10).all())
    assert [item.deployment_id for item in listing] == [f"d{number:05}" for number in range(25)]
    jobs = ask(
        sandbox.url, lambda client: client.list_jobs(namespace=NAMESPACE, deployment_id="d00000", page_size=3).all()
    )
    assert [job.job_id for job in jobs] == [f"j{number}" for number in range(7)]
    assert (jobs[1].start_time, jobs[1].end_time) == (5001, 6001)
    assert jobs[0].status is not None and jobs[0].status.current_job_status == "FINISHED"
    counts = sandbox.requests["byOperation"]
    assert counts == {"ListDeployments": {"all": 3}, "ListJobs": {"all": 3}}


def test_deployment_created_during_the_reading_is_listed(sandbox: RunningSandbox) -> None:
    sandbox.set_catalog(big_catalog(25))

    async def read(client: ControlClient) -> tuple[list[str], bool]:
        listing = client.list_deployments(namespace=NAMESPACE, page_size=10)
        found: list[str] = []
        async for page in listing:
            found += [item.deployment_id for item in page]
            sandbox.set_catalog(big_catalog(27))
        return found, listing.complete

    found, complete = ask(sandbox.url, read)
    assert complete and found == [f"d{number:05}" for number in range(27)]


def test_labels(sandbox: RunningSandbox) -> None:
    sandbox.set_catalog(big_catalog(9))
    answer = ask(
        sandbox.url,
        lambda client: client.get_deployments_by_label(namespace=NAMESPACE, key="team", values=["t0", "t2"]),
    )
    named = [item.name for item in answer.deployments]
    assert named == ["n0", "n2", "n3", "n5", "n6", "n8"]
    listed = ask(
        sandbox.url, lambda client: client.list_deployments(namespace=NAMESPACE, label=("team", ["t0", "t2"])).all()
    )
    assert [item.name for item in listed] == named


def test_filters(sandbox: RunningSandbox) -> None:
    async def listed(client: ControlClient, **filters: Any) -> list[str | None]:
        return [item.name for item in await client.list_deployments(namespace=NAMESPACE, **filters).all()]

    every = ["orders-ingest", "fraud-detection", "orders-report", "cache-warmup"]
    assert ask(sandbox.url, lambda client: listed(client, name="orders-report")) == ["orders-report"]
    assert ask(sandbox.url, lambda client: listed(client, status="RUNNING", execution_mode="STREAMING")) == every
    assert ask(sandbox.url, lambda client: listed(client, status="FAILED")) == []
    assert ask(sandbox.url, lambda client: listed(client, creator="x")) == []


def test_invalid_parameter_raises_before_any_call(sandbox: RunningSandbox) -> None:
    async def make(client: ControlClient) -> None:
        with pytest.raises(BadRequest, match="namespace"):
            client.list_deployments(namespace="..")
        with pytest.raises(BadRequest, match="deployment_id"):
            client.list_jobs(namespace=NAMESPACE, deployment_id="")

    ask(sandbox.url, make)
    assert sandbox.requests["total"] == 0
