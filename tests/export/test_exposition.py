"""The page: golden text, both parsers, promtool, hostile names."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from flowmap.export.delays import DelayCounts
from flowmap.export.exposition import Exposition, compress
from flowmap.export.metrics.definitions import BY_NAME, METRICS
from flowmap.export.negotiation import Format
from flowmap.export.open_flows import OpenFlows
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.export.series_table import SeriesKey, SeriesTable
from flowmap.export.snapshot import (
    CatalogReport,
    FindingsReport,
    FleetReport,
    HistoryReport,
    SeriesSnapshot,
    Snapshot,
    StoreReport,
)
from flowmap.model.deployment import DeploymentInfo, Job, Owner, Role
from flowmap.model.expectation import FindingKind
from flowmap.model.findings import StaleReason
from flowmap.model.source import SourceFacts, SourceReport, SourceStats
from flowmap.model.status import RecordingReport

GOLDEN = Path(__file__).parent
LABELS = ("namespace", "deployment_id", "deployment", "peer", "protocol")
A = Owner("ws", "ns", "id-a", "orders")
B = Owner("ws", "ns", "id-b", 'pay "fast"\\\n')


def filled() -> SeriesSnapshot:
    series_table = SeriesTable(labels=LABELS, max_series=100, idle_after=10)
    keys = [
        SeriesKey("deployment", (A,), "", "gone:1", "tcp"),
        SeriesKey("deployment", (A,), "", "kafka", "tcp"),
        SeriesKey("deployment", (B,), "", "[2001:db8::1]:9092", "udp"),
        SeriesKey("shared", (A, B), "", "10.0.0.1:3306", "tcp"),
        SeriesKey("unattributed", (), "unknown", "10.0.0.2:53", "udp"),
        SeriesKey("internal", (Role.SERVICE.of("prod"),), "", "10.0.0.3:6123", "tcp"),
    ]
    ids = np.array([series_table.series(key, now=0) for key in keys], np.int32)
    counts = np.array([100, 2**64 - 1, 2, 3, 4, 5], np.uint64)
    series_table.credit(ids, counts, counts // np.uint64(2), counts % np.uint64(7), counts % np.uint64(5), now=0)
    series_table.opened(ids[1:])  # the first is idle, and expires below
    series_table.closed(ids[2:3])
    series_table.retransmitted(ids[1:2], np.array([9], np.uint64))
    series_table.series(keys[2], now=5)
    series_table.expire(now=10)
    round_trip = np.full(series_table.used, np.nan)
    round_trip[ids[1:3]] = 0.00025, 0.5
    return series_table.freeze(OpenFlows(0, np.zeros(series_table.used, np.int64), round_trip))


def snapshot(*, health: bool = True) -> Snapshot:
    infos = (
        DeploymentInfo(Owner("ws", "ns", "id-a", "old name"), seen_at=1),
        DeploymentInfo(
            A,
            "STREAMING",
            "vvr-8",
            "ann",
            {"ownerTeam": "x", "owner-team": "y"},
            {"running": 2, "failed": 0},
            (Job("j-1", "RUNNING"), Job("j-1", "RUNNING")),
            2,
        ),
    )
    return Snapshot(
        source="sockets",
        observed_transmit_bytes=2**64 + 200,
        observed_receive_bytes=99,
        ignored_bytes=5,
        pending_transmit_bytes=6,
        open_flows=7,
        pending_flows=1,
        delays={"attributed": DelayCounts((1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3), 700.75)},
        counter_age=1.5,
        flows_limit=1000,
        flows_ended_unseen=2,
        shed={"full": 3},
        contradictions=1,
        health=health,
        series_table=filled(),
        deployments=infos,
        sources=(
            SourceReport(
                SourceFacts("sockets", "payload", announces_births=False, tells_health=True),
                SourceStats(
                    *(True, 10, {"malformed": 1}, 2, {"start": 1, "timer": 4}, 0.125, 425984),
                    namespaces={"read": 3, "over_limit": 0, "failed": 1},
                    namespace_pause=7.5,
                    opener=True,
                ),
                untracked=3,
            ),
            SourceReport(
                SourceFacts("conntrack", "ip", announces_births=True),
                SourceStats(accounting=False, offloaded={"software": 2, "hardware": 1}),
            ),
            SourceReport(
                SourceFacts("capture", "ip", announces_births=True),
                SourceStats(exceptional_packets={"duplicate": 4}, interfaces={"eth0": True, "eth1": False}),
            ),
        ),
        catalog=CatalogReport(3, 1, True, 1_700_000_000.25),
        recording=RecordingReport("/var/lib/flowmap.rec", 4096, active=False, ended="size"),
        history=HistoryReport(
            True, 5, 9, {"queue_full": 2}, {"age": 3, "size": 1}, 7, 11, 0, 65536, 1 << 20, 1_700_000_000.5, 1
        ),
        findings=FindingsReport(
            {((A,), StaleReason.IDLE): 2, ((A, B), StaleReason.JOB_ENDED): 1}, {((A,), FindingKind.NEW): 3}
        ),
        store=StoreReport(True, 900, 12, 30, 1_699_999_970.0, 1_699_999_970.0, {"limits": 4}, {"connect": 2}),
        fleet=FleetReport(True, True, 5, 7, 1, 3, {"timeout": 2}, {"signature": 1}, 40, 1.5, 12, 2, 2.5),
    )


def exposition() -> Exposition:
    metrics = SelfMetrics("1.2.3")
    metrics.questions({("sink", "hit"): 1})
    metrics.api_attempt("GetDeploymentsByIp", 0.2)
    metrics.api_attempt("GetDeploymentsByIp", 0.3, "auth")
    metrics.set_breaker(True)
    return Exposition(metrics, deployment_labels=("ownerTeam", "owner-team", "absent"))


def families(page: bytes, form: Format) -> list[Metric]:
    return list((parse_openmetrics if form is Format.OPENMETRICS else parse_text)(page.decode()))


def without_self(page: bytes) -> str:
    return page.decode().split("# HELP flowmap_questions")[0]


@pytest.mark.parametrize(("form", "name"), [(Format.TEXT, "golden.prom"), (Format.OPENMETRICS, "golden.openmetrics")])
def test_golden(form: Format, name: str) -> None:
    assert without_self(exposition().page(snapshot(), form)) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("form", list(Format))
def test_parsers_agree_with_the_series_table(form: Format) -> None:
    page = exposition().page(snapshot(), form)
    samples = {
        (sample.name, sample.labels.get("peer")): sample.value
        for family in families(page, form)
        for sample in family.samples
    }
    assert samples["flowmap_deployment_transmit_bytes_total", "[2001:db8::1]:9092"] == 2
    assert samples["flowmap_deployment_tcp_round_trip_seconds", "kafka"] == 0.00025
    assert ("flowmap_deployment_tcp_round_trip_seconds", "[2001:db8::1]:9092") not in samples
    assert samples["flowmap_expired_transmit_bytes_total", None] == 100
    assert samples["flowmap_api_request_failures_total", None] == 1
    assert not [name for name, _ in samples if name.endswith("_created")]


def test_both_formats_agree() -> None:
    def flat(form: Format) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
        return {
            (sample.name, frozenset(sample.labels.items()), sample.value)
            for family in families(page[form], form)
            for sample in family.samples
            if sample.name.startswith("flowmap_")
        }

    maker = exposition()
    page = {form: maker.page(snapshot(), form) for form in Format}
    assert flat(Format.TEXT) == flat(Format.OPENMETRICS)


def test_openmetrics_ends_once() -> None:
    page = exposition().page(snapshot(), Format.OPENMETRICS)
    assert page.endswith(b"\n# EOF\n")
    assert page.count(b"# EOF") == 1
    assert b"# EOF" not in exposition().page(snapshot(), Format.TEXT)


def test_health_families_need_the_socket_table() -> None:
    assert b"flowmap_deployment_tcp_" in exposition().page(snapshot(), Format.TEXT)
    assert b"flowmap_deployment_tcp_" not in exposition().page(snapshot(health=False), Format.TEXT)


@pytest.mark.parametrize("form", list(Format))
def test_an_empty_snapshot_is_a_page(form: Format) -> None:
    names = {family.name for family in families(exposition().page(Snapshot(), form), form)}
    assert "flowmap_open_flows" in names
    assert not [name for name in names if name.startswith(("flowmap_deployment", "flowmap_observed"))]


def test_every_metric_is_on_the_page_under_its_type() -> None:
    page = exposition().page(snapshot(), Format.TEXT).decode()
    for metric in METRICS:
        kind = "gauge" if metric.type == "info" else metric.type
        assert page.count(f"# TYPE {metric.name} {kind}\n") == 1, metric.name
    typed = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE flowmap_")]
    assert set(typed) == set(BY_NAME)


def test_chunks_are_joined() -> None:
    series_table = SeriesTable(labels=("peer",), max_series=30_000, idle_after=10)
    for number in range(10_000):
        series_table.series(SeriesKey("deployment", (A,), "", f"p{number}", "tcp"), now=0)
    page = exposition().page(Snapshot(series_table=series_table.freeze()), Format.TEXT).decode()
    lines = [line for line in page.splitlines() if line.startswith("flowmap_deployment_receive_packets_total")]
    assert lines == [f'flowmap_deployment_receive_packets_total{{peer="p{number}"}} 0' for number in range(10_000)]


def test_compressed_page_is_the_page() -> None:
    page = exposition().page(snapshot(), Format.TEXT)
    assert gzip.decompress(compress(page)) == page
    assert compress(page) == compress(page)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool() -> None:
    page = exposition().page(snapshot(), Format.TEXT)
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


HOSTILE = st.text(st.characters(codec=None), max_size=150)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=5), st.sampled_from(list(Format)))
def test_hostile_names(names: set[tuple[str, str]], form: Format) -> None:
    series_table = SeriesTable(labels=LABELS, max_series=100, idle_after=10)
    infos = []
    for name, peer in names:
        owner = Owner(name, peer, name, peer)
        series_table.series(SeriesKey("deployment", (owner,), "", peer, "tcp"), now=0)
        series_table.series(SeriesKey("shared", (owner, A), "", peer, "tcp"), now=0)
        series_table.series(SeriesKey("unattributed", (), name, peer, "tcp"), now=0)
        infos.append(DeploymentInfo(owner, name, peer, labels={"ownerTeam": name}, jobs_by_state={peer: 1}))
    page = exposition().page(Snapshot(series_table=series_table.freeze(), deployments=tuple(infos)), form)
    parsed = {family.name.removesuffix("_info"): family for family in families(page, form)}
    for family in ("deployment_transmit_bytes", "shared_transmit_bytes", "unattributed_transmit_bytes", "deployment"):
        samples = parsed[f"flowmap_{family}"].samples
        assert len({tuple(sample.labels.items()) for sample in samples}) == len(samples) == len(names), family


def test_what_the_server_of_a_fleet_reported_is_left_out_while_it_is_away() -> None:
    whole = snapshot()
    assert whole.fleet is not None
    page = exposition().page(replace(whole, fleet=replace(whole.fleet, up=False)), Format.TEXT).decode()
    assert "\nflowmap_fleet_up 0\n" in page
    for name in ("hosts", "missing_hosts", "rate", "queued_questions", "oldest_question_seconds"):
        assert f"\nflowmap_fleet_{name} " not in page
