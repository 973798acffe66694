"""The definitions of metrics: names, types and help texts that Prometheus expects."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from flowmap import fleet
from flowmap.export.metrics.definitions import METRICS, metrics_markdown
from flowmap.export.metrics.metric import Metric
from flowmap.export.series import KINDS
from flowmap.export.snapshot import SeriesSnapshot


def test_names_are_unique() -> None:
    assert len({metric.family for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_each_metric_follows_the_conventions(metric: Metric) -> None:
    suffix = {"counter": "_total", "info": "_info"}.get(metric.type)
    assert metric.name.endswith(("_total", "_info")) == (suffix is not None)
    assert suffix is None or metric.name == metric.family + suffix
    assert metric.help.endswith(".") and (metric.help[0].isupper() or metric.help.startswith("1 "))
    columns = {field.name for field in fields(SeriesSnapshot)}
    assert (metric.column in columns) == (metric.origin in KINDS)


UNITS = [
    (Metric("flowmap_x_bytes_total", "counter", ""), "flowmap_x_bytes", "bytes"),
    (Metric("flowmap_x_seconds", "gauge", ""), "flowmap_x_seconds", "seconds"),
    (Metric("flowmap_x_info", "info", ""), "flowmap_x", ""),
    (Metric("flowmap_x_total", "counter", ""), "flowmap_x", ""),
]


@pytest.mark.parametrize(("metric", "family", "unit"), UNITS)
def test_family_and_unit(metric: Metric, family: str, unit: str) -> None:
    assert (metric.family, metric.unit) == (family, unit)


def test_markdown_names_every_metric() -> None:
    lines = metrics_markdown().splitlines()
    assert len(lines) == len(METRICS) + 2
    assert lines[2] == (
        "| `flowmap_deployment_transmit_bytes_total` | counter | `export.labels` | "
        "Bytes that the deployment sent to the peer. |"
    )
    assert all(line.count("|") == 5 for line in lines)


def test_the_reasons_of_what_a_fleet_refuses_are_in_its_help() -> None:
    (refused,) = (metric for metric in METRICS if metric.name == "flowmap_fleet_refused_total")
    sources = "".join(path.read_text() for path in Path(fleet.__file__).parent.glob("*.py"))
    reasons = set(re.findall(r"(?:Refused\(|refused\[)\"(\w+)\"", sources))
    assert len(reasons) >= 5
    assert not [reason for reason in reasons if not re.search(rf"\b{reason}\b", refused.help)]
