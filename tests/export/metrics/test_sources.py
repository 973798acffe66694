"""The metrics of sources: what each reads from a report."""

from __future__ import annotations

import dataclasses

import pytest

from flowmap.export.metrics.sources import SOURCES
from flowmap.model.source import SourceFacts, SourceReport, SourceStats

BY_NAME = {one.metric.name: one for one in SOURCES}
FACTS = SourceFacts("conntrack", "ip", announces_births=True)


@pytest.mark.parametrize(
    ("name", "stats", "value"),
    [
        ("flowmap_source_up", SourceStats(up=True), 1),
        ("flowmap_source_info", SourceStats(), {"ip": 1}),
        ("flowmap_source_records_total", SourceStats(records=7), 7),
        ("flowmap_source_lost_total", SourceStats(lost={"malformed": 2}), {"malformed": 2}),
        ("flowmap_source_resyncs_total", SourceStats(resyncs={"start": 1}), {"start": 1}),
        ("flowmap_source_receive_buffer_bytes", SourceStats(), None),
        ("flowmap_source_receive_buffer_bytes", SourceStats(receive_buffer=4096), 4096),
        ("flowmap_source_interface_up", SourceStats(interfaces={"eth0": False}), {"eth0": False}),
        ("flowmap_conntrack_accounting_enabled", SourceStats(), None),
        ("flowmap_conntrack_accounting_enabled", SourceStats(accounting=False), 0),
    ],
)
def test_values(name: str, stats: SourceStats, value: object) -> None:
    assert BY_NAME[name].value(SourceReport(FACTS, stats)) == value


@pytest.mark.parametrize(("untracked", "value"), [(None, None), (0, 0), (3, 3)])
def test_untracked_connections(untracked: int | None, value: int | None) -> None:
    report = SourceReport(FACTS, SourceStats(), untracked)
    assert BY_NAME["flowmap_source_untracked_connections"].value(report) == value


def test_a_value_for_each_label_value() -> None:
    filled = SourceStats(up=True, accounting=True)
    for field in dataclasses.fields(SourceStats):
        if field.default_factory is dict:
            setattr(filled, field.name, {"key": 1})
    for one in SOURCES:
        value = one.value(SourceReport(FACTS, filled, 1))
        assert isinstance(value, dict) == (one.metric.labels not in [(), ("source",)]), one.metric.name
