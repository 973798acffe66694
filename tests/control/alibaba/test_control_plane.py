"""Realtime Compute as a control plane: what its API's elements become, and which calls are made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from flowmap.control.alibaba.api.client import ControlClient, DeploymentsAnswer
from flowmap.control.alibaba.api.models import Deployment
from flowmap.control.alibaba.api.models import Job as ApiJob
from flowmap.control.alibaba.control_plane import AlibabaControlPlane, Label, describe, listed, run
from flowmap.errors import BusinessError, ConfigError
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Job, Owner
from tests.support.control_clients import NAMESPACE, key
from tests.support.sandbox import RunningSandbox

T = TypeVar("T")

DEPLOYMENTS = [
    {"id": "a", "name": "orders", "labels": {"team": "x"}, "addresses": ["10.0.0.1"], "jobs": [{"id": "j"}]},
    {"id": "b", "name": "clicks", "labels": {"team": "y"}, "addresses": ["10.0.0.2"]},
]


def ask(
    sandbox: RunningSandbox, question: Callable[[AlibabaControlPlane], Coroutine[Any, Any, T]], label: str | None = None
) -> T:
    """The answer to one question."""
    sandbox.set_catalog({"workspace": "sandbox", "namespaces": [NAMESPACE], "deployments": DEPLOYMENTS})

    async def go() -> T:
        client = ControlClient(endpoint=sandbox.url, workspace="sandbox", credentials=key(), timeout=4)
        plane = AlibabaControlPlane(client, label=Label.parse(label) if label else None)
        try:
            return await question(plane)
        finally:
            await plane.aclose()

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("source", "destination", "shape"),
    [
        (Endpoint(Address.parse("10.0.0.1"), 0), None, {"srcIp": "10.0.0.1"}),
        (None, Endpoint(Address.parse("10.0.0.1"), 9092), {"dstIp": "10.0.0.1", "dstPort": "9092"}),
        (Endpoint(Address.parse("2001:db8::1"), 1), None, {"srcIp": "2001:db8::1", "srcPort": "1"}),
    ],
)
def test_parameters(
    source: Endpoint | None, destination: Endpoint | None, shape: dict[str, str], sandbox: RunningSandbox
) -> None:
    ask(sandbox, lambda plane: plane.find_owners("", NAMESPACE, source, destination))
    (request,) = sandbox.recorded
    parameters = dict(request.parameters)
    assert {name: value for name, value in parameters.items() if name[:3] in ("src", "dst")} == shape


def test_owners(sandbox: RunningSandbox) -> None:
    source = Endpoint(Address.parse("10.0.0.1"), 0)
    answer = ask(sandbox, lambda plane: plane.find_owners("", NAMESPACE, source, None))
    (info,) = answer.deployments
    assert (info.owner, info.labels) == (Owner("sandbox", NAMESPACE, "a", "orders"), {"team": "x"})
    assert info.jobs_by_state["running"] == 1
    assert (info.seen_at, answer.unreadable) == (answer.answered_at, 0)
    assert 0 < answer.asked_at <= answer.answered_at


def test_listing_of_deployments(sandbox: RunningSandbox) -> None:
    listing = ask(sandbox, lambda plane: plane.list_deployments("", NAMESPACE))
    assert ([one.owner.name for one in listing.items], listing.gap) == (["orders", "clicks"], "")


def test_label_narrows_the_listing(sandbox: RunningSandbox) -> None:
    listing = ask(sandbox, lambda plane: plane.list_deployments("", NAMESPACE), label="team=y")
    assert [one.owner.name for one in listing.items] == ["clicks"]


def test_listing_of_jobs(sandbox: RunningSandbox) -> None:
    listing = ask(sandbox, lambda plane: plane.list_jobs("", NAMESPACE, "a"))
    assert ([job.job_id for job in listing.items], listing.gap) == (["j"], "")


def test_listing_with_unreadable_elements_has_a_gap(sandbox: RunningSandbox) -> None:
    sandbox.set_faults([{"kind": "bad_element"}])
    listing = ask(sandbox, lambda plane: plane.list_deployments("", NAMESPACE))
    assert len(listing.items) == 2
    assert listing.gap.endswith("of its elements could not be read")


def test_error_on_the_first_page_raises(sandbox: RunningSandbox) -> None:
    sandbox.set_faults([{"kind": "business", "status": 400, "code": "Broken"}])
    with pytest.raises(BusinessError, match="Broken"):
        ask(sandbox, lambda plane: plane.list_deployments("", NAMESPACE))


def test_status(sandbox: RunningSandbox) -> None:
    async def states(plane: AlibabaControlPlane) -> list[bool]:
        before = plane.status()
        await plane.list_deployments("", NAMESPACE)
        after = plane.status()
        assert not before.breaker_open and not after.breaker_open
        return [before.clock_skew is None, after.clock_skew is None]

    assert ask(sandbox, states) == [True, False]


LABELS: list[tuple[str, Label | str]] = [
    ("team=a", Label("team", ("a",))),
    (" team = a , b", Label("team", ("a", "b"))),
    ("team=a=b", Label("team", ("a=b",))),
    ("team=a,,b", "control_plane.catalog.label: label value: '' is not a non-empty text"),
    ("team=", "control_plane.catalog.label: label value: '' is not a non-empty text"),
    ("=a", "control_plane.catalog.label: key: '' is not a non-empty text"),
]


@pytest.mark.parametrize(("text", "expected"), LABELS)
def test_label_is_read(text: str, expected: Label | str) -> None:
    if isinstance(expected, Label):
        assert Label.parse(text) == expected
        return
    with pytest.raises(ConfigError) as caught:
        Label.parse(text)
    assert str(caught.value) == expected


ELEMENTS: list[tuple[dict[str, Any], Owner, dict[str, str] | None, tuple[str, ...]]] = [
    ({"deploymentId": "d"}, Owner("w", "ns", "d", "d"), None, ()),
    (
        {"deploymentId": "d", "name": "n", "workspace": "w2", "namespace": "n2", "labels": {"a": 1}},
        Owner("w2", "n2", "d", "n"),
        {"a": "1"},
        (),
    ),
    (
        {"deploymentId": "d", "artifact": {"kind": "JAR", "jarArtifact": {"jarUri": "https://host/a.jar?Sig=secret"}}},
        Owner("w", "ns", "d", "d"),
        None,
        ("https://host/a.jar",),
    ),
]


@pytest.mark.parametrize(("element", "owner", "labels", "packages"), ELEMENTS)
def test_deployment(
    element: dict[str, Any], owner: Owner, labels: dict[str, str] | None, packages: tuple[str, ...]
) -> None:
    deployment = Deployment.model_validate(element)
    found = listed(deployment, "w", "ns")
    assert (found.owner, found.labels, found.packages) == (owner, labels, packages)
    info = describe(deployment, "w", "ns", DeploymentsAnswer((deployment,), "r", 0, 1.0, 2.0))
    assert (info.owner, info.labels, info.jobs_by_state, info.seen_at) == (owner, labels or {}, {}, 2.0)


def test_secrets_of_an_artifact_are_dropped() -> None:
    artifact = {
        "kind": "JAR",
        "jarArtifact": {"jarUri": "https://host/a.jar?Signature=secret", "mainArgs": "--password hunter2"},
        "sqlArtifact": {"sqlScript": "SELECT 'secret'"},
    }
    found = listed(Deployment.model_validate({"deploymentId": "id", "artifact": artifact}), "w", "ns")
    assert "secret" not in repr(found)
    assert "hunter2" not in repr(found)


JOBS: list[tuple[dict[str, Any], Job]] = [
    ({"jobId": "j"}, Job("j", "")),
    (
        {"jobId": "j", "startTime": 1660190835, "endTime": 1660277235, "status": {"currentJobStatus": "FAILED"}},
        Job("j", "FAILED", 1660190835, 1660277235, over=True),
    ),
    # the example of the API's documents: a job that runs and has an end
    (
        {"jobId": "j", "startTime": 1660190835, "endTime": 1660277235, "status": {"currentJobStatus": "RUNNING"}},
        Job("j", "RUNNING", 1660190835),
    ),
    (
        {"jobId": "j", "startTime": 0, "endTime": 0, "status": {"currentJobStatus": "cancelled"}},
        Job("j", "CANCELLED", over=True),
    ),
    ({"jobId": "j", "startTime": 1660190835000}, Job("j", "", 1660190835)),
]


@pytest.mark.parametrize(("element", "kept"), JOBS)
def test_job(element: dict[str, Any], kept: Job) -> None:
    assert run(ApiJob.model_validate(element)) == kept
