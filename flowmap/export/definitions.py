"""Every metric flowmap exports, as data. The page, the self-metrics and the documented table are made from it."""

from __future__ import annotations

from flowmap.export.history_metrics import HISTORY
from flowmap.export.metric import Metric
from flowmap.export.self_definitions import SELF
from flowmap.export.source_metrics import SOURCES

SERIES = ("export.labels",)
"""Stands for the labels the operator chose."""

_OWN_END = "as seen from the deployment's end"
_SHARED = ("namespace", "deployment_ids", "deployments", "peer", "protocol")
_UNATTRIBUTED = ("reason", "peer", "protocol")

_DEPLOYMENT_METRICS = (
    Metric(
        "flowmap_deployment_transmit_bytes_total",
        "counter",
        f"Bytes the deployment sent to the peer, {_OWN_END}.",
        SERIES,
        "deployment",
        "transmit_bytes",
    ),
    Metric(
        "flowmap_deployment_receive_bytes_total",
        "counter",
        f"Bytes the deployment received from the peer, {_OWN_END}.",
        SERIES,
        "deployment",
        "receive_bytes",
    ),
    Metric(
        "flowmap_deployment_transmit_packets_total",
        "counter",
        "Packets the deployment sent to the peer; stays 0 where the source counts no packets.",
        SERIES,
        "deployment",
        "transmit_packets",
    ),
    Metric(
        "flowmap_deployment_receive_packets_total",
        "counter",
        "Packets the deployment received from the peer; stays 0 where the source counts no packets.",
        SERIES,
        "deployment",
        "receive_packets",
    ),
    Metric(
        "flowmap_deployment_connections_total",
        "counter",
        "Connections between the deployment and the peer, counted when they are attributed.",
        SERIES,
        "deployment",
        "connections",
    ),
    Metric(
        "flowmap_deployment_open_connections",
        "gauge",
        "Connections open now between the deployment and the peer.",
        SERIES,
        "deployment",
        "open_connections",
    ),
    Metric(
        "flowmap_deployment_tcp_retransmits_total",
        "counter",
        "TCP segments this host sent again; only where the socket table is seen.",
        SERIES,
        "deployment",
        "retransmits",
    ),
    Metric(
        "flowmap_deployment_tcp_round_trip_seconds",
        "gauge",
        "Mean smoothed round-trip time of the open connections; only where the socket table is seen.",
        SERIES,
        "deployment",
        "round_trip",
    ),
)

_OTHER_TRAFFIC = (
    Metric(
        "flowmap_shared_transmit_bytes_total",
        "counter",
        "Bytes sent by a set of deployments that cannot be told apart.",
        _SHARED,
        "shared",
        "transmit_bytes",
    ),
    Metric(
        "flowmap_shared_receive_bytes_total",
        "counter",
        "Bytes received by a set of deployments that cannot be told apart.",
        _SHARED,
        "shared",
        "receive_bytes",
    ),
    Metric(
        "flowmap_unattributed_transmit_bytes_total",
        "counter",
        "Bytes from client to server of flows without an owner, by reason.",
        _UNATTRIBUTED,
        "unattributed",
        "transmit_bytes",
    ),
    Metric(
        "flowmap_unattributed_receive_bytes_total",
        "counter",
        "Bytes from server to client of flows without an owner, by reason.",
        _UNATTRIBUTED,
        "unattributed",
        "receive_bytes",
    ),
)

_DESCRIPTIONS = (
    Metric(
        "flowmap_deployment_info",
        "info",
        "What the control plane says about a deployment; labels of export.deployment_labels as label_<key>.",
        (
            "namespace",
            "workspace",
            "deployment_id",
            "deployment",
            "execution_mode",
            "engine_version",
            "creator",
            "label_…",
        ),
    ),
    Metric(
        "flowmap_deployment_jobs",
        "gauge",
        "Jobs of a deployment by state, as the control plane last told.",
        ("namespace", "deployment_id", "state"),
    ),
    Metric(
        "flowmap_job_info",
        "info",
        "A job of a deployment and its state, as the control plane last told.",
        ("namespace", "deployment_id", "job_id", "state"),
    ),
)

_CONSERVATION = (
    Metric(
        "flowmap_observed_transmit_bytes_total",
        "counter",
        "All bytes flowmap counted in this direction: those of deployments, shared, unattributed, expired and pending.",
        ("source",),
    ),
    Metric(
        "flowmap_observed_receive_bytes_total",
        "counter",
        "All bytes flowmap counted in this direction: those of deployments, shared, unattributed, expired and pending.",
        ("source",),
    ),
    Metric(
        "flowmap_ignored_bytes_total",
        "counter",
        "Bytes, both directions, of flows that the filters leave out; not in the observed bytes.",
        ("source",),
    ),
    Metric(
        "flowmap_pending_transmit_bytes",
        "gauge",
        "Bytes observed that wait for an answer; credited whole when it comes.",
    ),
    Metric(
        "flowmap_pending_receive_bytes",
        "gauge",
        "Bytes observed that wait for an answer; credited whole when it comes.",
    ),
    Metric(
        "flowmap_expired_transmit_bytes_total",
        "counter",
        "Bytes of series that were idle for export.idle_after and left the page.",
    ),
    Metric(
        "flowmap_expired_receive_bytes_total",
        "counter",
        "Bytes of series that were idle for export.idle_after and left the page.",
    ),
)

_TABLES = (
    Metric("flowmap_open_flows", "gauge", "Flows open now; ignored ones are left out."),
    Metric("flowmap_pending_flows", "gauge", "Flows that wait for an answer, open or ended."),
    Metric("flowmap_flows_limit", "gauge", "Flows that are tracked at most (collect.max_flows)."),
    Metric(
        "flowmap_flows_shed_total",
        "counter",
        "Flows given up at collect.max_flows: unanswered (gave way), pending (over, without a name yet), table_full "
        "(found no room). One that is met again without room counts again.",
        ("reason",),
    ),
    Metric(
        "flowmap_flows_ended_unseen_total",
        "counter",
        "Flows that vanished between two full reads without a final record, ignored ones left out; "
        "their last bytes may be missing.",
    ),
    Metric("flowmap_series", "gauge", "Traffic series on the page; one has several metrics."),
    Metric("flowmap_series_limit", "gauge", "Traffic series there are at most (export.max_series)."),
    Metric(
        "flowmap_series_folded_total",
        "counter",
        'Times the cap sent a new label set to the series with peer "other", or to the last series of its kind.',
    ),
    Metric(
        "flowmap_contradictions_total",
        "counter",
        "Answers that denied what had been attributed in the range they speak about.",
    ),
)

_CATALOG = (
    Metric("flowmap_catalog_deployments", "gauge", "Deployments in the list that is read every catalog.refresh."),
    Metric(
        "flowmap_catalog_left_out_deployments", "gauge", "Deployments for which the list of deployments has no room."
    ),
    Metric(
        "flowmap_catalog_suspicious",
        "gauge",
        "Whether a listing lost more than half of the deployments, and the old ones are kept until it is believed.",
    ),
    Metric(
        "flowmap_catalog_last_success_timestamp_seconds",
        "gauge",
        "When the deployments of every namespace were last listed whole.",
    ),
)

_RECORDING = (
    Metric("flowmap_recording_active", "gauge", "Whether what happens is being recorded (run --record)."),
    Metric("flowmap_recording_bytes", "gauge", "Size of the recording so far."),
    Metric(
        "flowmap_recording_ended_total",
        "counter",
        "Recordings that ended, by reason: stopped, size, disk, behind (writing was too slow), defect.",
        ("reason",),
    ),
)

METRICS: tuple[Metric, ...] = (
    _DEPLOYMENT_METRICS
    + _OTHER_TRAFFIC
    + _DESCRIPTIONS
    + _CONSERVATION
    + _TABLES
    + tuple(one.metric for one in SOURCES)
    + _CATALOG
    + _RECORDING
    + HISTORY
    + SELF
)
"""In the order of the page."""

BY_NAME = {metric.name: metric for metric in METRICS}

HEALTH = frozenset(("flowmap_deployment_tcp_retransmits_total", "flowmap_deployment_tcp_round_trip_seconds"))
"""Metrics only the socket table can fill."""


def metrics_markdown() -> str:
    """The table of metrics for flowmap/export/README.md, as Markdown."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.type} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
