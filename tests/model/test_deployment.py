"""Identity of deployments, and which of them can own connections."""

from __future__ import annotations

import pytest

from flowmap.model.deployment import DeploymentInfo, DeploymentKey, Owner, may_own

ROWS = [({}, True), ({"running": 1}, True), ({"cancelling": 1}, True), ({"failed": 3, "running": 0}, False)]


def test_a_renamed_deployment_has_the_same_key() -> None:
    owner = Owner("w", "ns", "id", "name")
    assert owner.key == owner._replace(name="renamed").key == DeploymentKey("w", "ns", "id")
    assert owner.key != owner._replace(workspace="v").key


@pytest.mark.parametrize(("jobs", "owns"), ROWS)
def test_may_own(jobs: dict[str, int], owns: bool) -> None:
    assert may_own(DeploymentInfo(Owner("w", "ns", "d", "d"), jobs_by_state=jobs)) is owns


@pytest.mark.parametrize(("deployment", "expected"), [("id-1", True), ("orders", True), ("ns", False), ("", False)])
def test_an_owner_is_called_by_id_or_name(deployment: str, expected: bool) -> None:
    assert Owner("w", "ns", "id-1", "orders").is_called(deployment) is expected
