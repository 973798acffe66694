"""Traffic by deployment, from the series of a snapshot."""

from __future__ import annotations

import pytest

from flowmap.export.series import SeriesKey
from flowmap.export.series_table import SeriesTable
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.query.traffic import deployment_views

X, Y = (Owner("w", "ns", f"id-{name}", name) for name in "xy")


@pytest.mark.parametrize(
    ("labels", "same_name", "described"),
    [
        (["namespace", "deployment_id", "deployment", "peer"], False, True),
        (["deployment_id"], False, True),
        (["deployment"], False, True),
        (["deployment"], True, False),
        (["namespace", "deployment"], True, True),
    ],
)
def test_a_series_is_described_only_if_its_labels_mean_one_deployment(
    labels: list[str], same_name: bool, described: bool
) -> None:
    series_table = SeriesTable(labels=labels, max_series=100, idle_after=60.0)
    series_table.series(SeriesKey("deployment", (X,), "", "p", "tcp"), now=0.0)
    other = X._replace(namespace="other", deployment_id="id-2") if same_name else Y
    infos = tuple(DeploymentInfo(owner, creator="me") for owner in (other, X))
    (view,) = deployment_views(series_table.freeze(), infos)
    assert (view.info.owner == X and view.info.creator == "me") is described
