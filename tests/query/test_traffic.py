"""Traffic by deployment, from the series of a snapshot."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.export.open_flows import OpenFlows
from flowmap.export.series import SeriesKey
from flowmap.export.series_table import SeriesTable
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.views import Health
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
    (view,) = deployment_views(series_table.freeze(), infos, health=False)
    assert (view.info.owner == X and view.info.creator == "me") is described


@pytest.mark.parametrize(
    ("protocol", "still_open", "round_trip", "reported", "expected"),
    [
        ("tcp", True, 0.25, True, Health(7, 0.25)),
        ("", True, 0.25, True, Health(7, 0.25)),  # export.labels leaves the protocol out
        ("tcp", True, float("nan"), True, Health(7, None)),
        ("tcp", False, 0.25, True, Health(7, None)),  # a mean over open connections needs an open one
        ("udp", True, 0.25, True, None),
        ("tcp", True, 0.25, False, None),  # no source reads the socket table
    ],
)
def test_health_of_the_connections_with_a_peer(
    protocol: str, still_open: bool, round_trip: float, reported: bool, expected: Health | None
) -> None:
    labels = ["namespace", "workspace", "deployment_id", "deployment", "peer", *(["protocol"] if protocol else [])]
    table = SeriesTable(labels=labels, max_series=10, idle_after=60.0)
    alone = table.series(SeriesKey("deployment", (X,), "", "p", protocol or "tcp"), now=0.0)
    both = table.series(SeriesKey("shared", (X, Y), "", "p", protocol or "tcp"), now=0.0)
    rows = np.array([alone, both], np.int32)
    table.opened(rows)
    table.retransmitted(rows, np.array([7, 5], np.uint64))
    closing = np.zeros(table.used, np.int64)
    closing[alone] = 0 if still_open else 1
    flows = OpenFlows(0, closing, np.full(table.used, round_trip))
    found = next(deployment_views(table.freeze(flows), (), health=reported))
    assert [peer.health for peer in found.peers] == [expected]
    assert [peer.health for peer in found.shared] == [None]
