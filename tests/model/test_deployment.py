"""Which deployments can own connections."""

from __future__ import annotations

import pytest

from flowmap.model.deployment import DeploymentInfo, Owner, may_own

ROWS = [({}, True), ({"running": 1}, True), ({"cancelling": 1}, True), ({"failed": 3, "running": 0}, False)]


@pytest.mark.parametrize(("jobs", "owns"), ROWS)
def test_may_own(jobs: dict[str, int], owns: bool) -> None:
    assert may_own(DeploymentInfo(Owner("w", "ns", "d", "d"), jobs_by_state=jobs)) is owns
