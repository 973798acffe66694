"""Names of a metric family."""

from __future__ import annotations

import pytest

from flowmap.export.metrics.metric import Metric, MetricType


@pytest.mark.parametrize(
    ("name", "kind", "family", "unit"),
    [
        ("flowmap_source_lost_total", "counter", "flowmap_source_lost", ""),
        ("flowmap_observed_transmit_bytes_total", "counter", "flowmap_observed_transmit_bytes", "bytes"),
        ("flowmap_resync_seconds", "gauge", "flowmap_resync_seconds", "seconds"),
        ("flowmap_job_info", "info", "flowmap_job", ""),
        ("flowmap_something_total", "gauge", "flowmap_something_total", ""),
        ("flowmap_bytes_seen", "gauge", "flowmap_bytes_seen", ""),
    ],
)
def test_family_and_unit(name: str, kind: MetricType, family: str, unit: str) -> None:
    metric = Metric(name, kind, "Help.")
    assert (metric.family, metric.unit) == (family, unit)
