"""Families of the page other than traffic: which samples a snapshot gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowmap.export.delays import BOUNDS, DelayCounts
from flowmap.export.families import small_families
from flowmap.export.snapshot import CatalogReport, HistoryReport, Snapshot
from flowmap.model.deployment import DeploymentInfo, Job, Owner
from flowmap.model.source import SourceFacts, SourceReport, SourceStats
from flowmap.model.status import RecordingReport

X = DeploymentInfo(Owner("w", "ns", "id", "orders"), creator="ann", labels={"team": "a"}, seen_at=1.0)
RECORDING = RecordingReport("/r", 9, True, "")
CATALOG = CatalogReport(3, 0, False, None)
DROPPING = SourceReport(
    SourceFacts("sockets", "payload", announces_births=False), SourceStats(workloads_dropped={"cgroups": 2})
)
HISTORY = HistoryReport(True, 5, 7, {"queue_full": 2}, {"age": 1}, 0, 3, 0, 100, 1000, None, 0)


def samples(snapshot: Snapshot, name: str, **label_names: str) -> list[tuple[str, int | float]]:
    (found,) = [some for metric, some in small_families(snapshot, label_names) if metric.name == name]
    return [(text.removesuffix(" "), value) for text, value in found]


@pytest.mark.parametrize(
    ("snapshot", "name", "expected"),
    [
        (Snapshot(), "flowmap_observed_transmit_bytes_total", []),
        (
            Snapshot(source="conntrack", observed_transmit_bytes=1 << 70),
            "flowmap_observed_transmit_bytes_total",
            [('{source="conntrack"}', 1 << 70)],
        ),
        (Snapshot(pending_receive_bytes=3), "flowmap_pending_receive_bytes", [("", 3)]),
        (Snapshot(), "flowmap_counters_age_seconds", []),
        (Snapshot(counter_age=0.5), "flowmap_counters_age_seconds", [("", 0.5)]),
        (
            Snapshot(shed={"full": 2, "a": 1}),
            "flowmap_flows_shed_total",
            [('{reason="a"}', 1), ('{reason="full"}', 2)],
        ),
        (Snapshot(addresses_shared=3), "flowmap_addresses_shared", [("", 3)]),
        (Snapshot(flows_unpaired=2), "flowmap_flows_unpaired_total", [("", 2)]),
        (
            Snapshot(workloads_dropped=1, sources=(DROPPING, DROPPING)),
            "flowmap_workloads_dropped_total",
            [('{table="cgroups"}', 4), ('{table="flows"}', 1)],
        ),
        (Snapshot(recording=RECORDING), "flowmap_recording_active", [("", 1)]),
        (Snapshot(recording=RECORDING), "flowmap_recording_ended_total", []),
        (
            Snapshot(recording=replace(RECORDING, active=False, ended="disk")),
            "flowmap_recording_ended_total",
            [('{reason="disk"}', 1)],
        ),
        (Snapshot(catalog=CATALOG), "flowmap_catalog_last_success_timestamp_seconds", []),
        (
            Snapshot(catalog=replace(CATALOG, succeeded_at=5.0)),
            "flowmap_catalog_deployments",
            [("", 3)],
        ),
        (Snapshot(history=HISTORY), "flowmap_history_flows_lost_total", [('{reason="queue_full"}', 2)]),
        (Snapshot(history=HISTORY), "flowmap_history_oldest_timestamp_seconds", []),
    ],
)
def test_samples(snapshot: Snapshot, name: str, expected: list[tuple[str, int | float]]) -> None:
    assert samples(snapshot, name) == expected


@pytest.mark.parametrize("room", ["catalog", "recording", "history"])
def test_what_is_not_configured_has_no_family(room: str) -> None:
    names = {metric.name for metric, _ in small_families(Snapshot(), {})}
    assert not [name for name in names if name.startswith(f"flowmap_{room}_")]


def test_a_histogram_of_delays() -> None:
    counts = tuple(range(len(BOUNDS) + 1))
    found = samples(Snapshot(delays={"unknown": DelayCounts(counts, 7.5)}), "flowmap_attribution_delay_seconds")
    assert found[0] == ('_bucket{state="unknown",le="0.5"}', 0)
    assert found[-3:] == [
        ('_bucket{state="unknown",le="+Inf"}', counts[-1]),
        ('_sum{state="unknown"}', 7.5),
        ('_count{state="unknown"}', counts[-1]),
    ]


def test_a_renamed_deployment_is_described_once() -> None:
    renamed = replace(X, owner=X.owner._replace(name='new "name"'), seen_at=2.0)
    (only,) = samples(Snapshot(deployments=(X, renamed)), "flowmap_deployment_info", team="label_team")
    assert 'deployment="new \\"name\\""' in only[0] and 'label_team="a"' in only[0]
    (older_first,) = samples(Snapshot(deployments=(renamed, X)), "flowmap_deployment_info", team="label_team")
    assert older_first == only


def test_equal_lines_stand_once() -> None:
    job = Job("j", "RUNNING", 1.0, None, over=False)
    info = replace(X, jobs=(job, job), jobs_by_state={"running": 2})
    assert samples(Snapshot(deployments=(info,)), "flowmap_job_info") == [
        ('{namespace="ns",deployment_id="id",job_id="j",state="RUNNING"}', 1)
    ]
    assert samples(Snapshot(deployments=(info,)), "flowmap_deployment_jobs") == [
        ('{namespace="ns",deployment_id="id",state="running"}', 2)
    ]


def test_sources_side_by_side() -> None:
    one = SourceReport(SourceFacts("conntrack", "ip", True), SourceStats(up=True, records=1))
    two = SourceReport(SourceFacts("sockets", "payload", False), SourceStats(lost={"malformed": 2}))
    snapshot = Snapshot(sources=(one, two))
    assert samples(snapshot, "flowmap_source_up") == [('{source="conntrack"}', 1), ('{source="sockets"}', 0)]
    assert samples(snapshot, "flowmap_source_lost_total") == [('{source="sockets",reason="malformed"}', 2)]
