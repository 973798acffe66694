"""Every metric that flowmap exports, as data: the source of the page, the self-metrics and the documented table."""

from __future__ import annotations

from flowmap.export.metrics.daemon import SELF
from flowmap.export.metrics.fleet import FLEET
from flowmap.export.metrics.history import HISTORY
from flowmap.export.metrics.metric import Metric
from flowmap.export.metrics.sources import SOURCES

SERIES = ("export.labels",)
"""Stands for the labels that the setting names."""

_SHARED = ("namespace", "deployment_ids", "deployments", "peer", "protocol")
_UNATTRIBUTED = ("reason", "peer", "protocol")
_INTERNAL = ("cluster", "protocol")

_DEPLOYMENT_METRICS = (
    Metric(
        "flowmap_deployment_transmit_bytes_total",
        "counter",
        "Bytes that the deployment sent to the peer.",
        SERIES,
        "deployment",
        "transmit_bytes",
    ),
    Metric(
        "flowmap_deployment_receive_bytes_total",
        "counter",
        "Bytes that the deployment received from the peer.",
        SERIES,
        "deployment",
        "receive_bytes",
    ),
    Metric(
        "flowmap_deployment_transmit_packets_total",
        "counter",
        "Packets that the deployment sent to the peer; 0 if the source does not count packets.",
        SERIES,
        "deployment",
        "transmit_packets",
    ),
    Metric(
        "flowmap_deployment_receive_packets_total",
        "counter",
        "Packets that the deployment received from the peer; 0 if the source does not count packets.",
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
        "Open connections between the deployment and the peer.",
        SERIES,
        "deployment",
        "open_connections",
    ),
    Metric(
        "flowmap_deployment_tcp_retransmits_total",
        "counter",
        "TCP segments that this host retransmitted; needs the socket table.",
        SERIES,
        "deployment",
        "retransmits",
    ),
    Metric(
        "flowmap_deployment_tcp_round_trip_seconds",
        "gauge",
        "Mean smoothed round-trip time of the open connections; needs the socket table.",
        SERIES,
        "deployment",
        "round_trip",
    ),
)

_OTHER_TRAFFIC = (
    Metric(
        "flowmap_shared_transmit_bytes_total",
        "counter",
        "Bytes sent by one of several deployments that cannot be told apart.",
        _SHARED,
        "shared",
        "transmit_bytes",
    ),
    Metric(
        "flowmap_shared_receive_bytes_total",
        "counter",
        "Bytes received by one of several deployments that cannot be told apart.",
        _SHARED,
        "shared",
        "receive_bytes",
    ),
    Metric(
        "flowmap_unattributed_transmit_bytes_total",
        "counter",
        "Bytes from client to server of flows without an owner.",
        _UNATTRIBUTED,
        "unattributed",
        "transmit_bytes",
    ),
    Metric(
        "flowmap_unattributed_receive_bytes_total",
        "counter",
        "Bytes from server to client of flows without an owner.",
        _UNATTRIBUTED,
        "unattributed",
        "receive_bytes",
    ),
    Metric(
        "flowmap_internal_transmit_bytes_total",
        "counter",
        "Bytes from client to server of connections that belong to a cluster of open-source Flink itself.",
        _INTERNAL,
        "internal",
        "transmit_bytes",
    ),
    Metric(
        "flowmap_internal_receive_bytes_total",
        "counter",
        "Bytes from server to client of connections that belong to a cluster of open-source Flink itself.",
        _INTERNAL,
        "internal",
        "receive_bytes",
    ),
)

_DESCRIPTIONS = (
    Metric(
        "flowmap_deployment_info",
        "info",
        "Properties of a deployment; label_<key> for each key of export.deployment_labels.",
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
        "Jobs of a deployment by state, as last listed by the control plane.",
        ("namespace", "deployment_id", "state"),
    ),
    Metric(
        "flowmap_job_info",
        "info",
        "A job of a deployment and its state, as last listed by the control plane.",
        ("namespace", "deployment_id", "job_id", "state"),
    ),
)

_CONSERVATION = (
    Metric(
        "flowmap_observed_transmit_bytes_total",
        "counter",
        "All bytes counted in this direction: the sum of deployment, shared, unattributed, internal, expired and "
        "pending bytes.",
        ("source",),
    ),
    Metric(
        "flowmap_observed_receive_bytes_total",
        "counter",
        "All bytes counted in this direction: the sum of deployment, shared, unattributed, internal, expired and "
        "pending bytes.",
        ("source",),
    ),
    Metric(
        "flowmap_ignored_bytes_total",
        "counter",
        "Bytes, both directions, of flows that collect.include and collect.exclude leave out; not part of the observed "
        "bytes.",
        ("source",),
    ),
    Metric(
        "flowmap_pending_transmit_bytes",
        "gauge",
        "Observed bytes of flows whose owner is not decided yet.",
    ),
    Metric(
        "flowmap_pending_receive_bytes",
        "gauge",
        "Observed bytes of flows whose owner is not decided yet.",
    ),
    Metric(
        "flowmap_expired_transmit_bytes_total",
        "counter",
        "Bytes of series that were removed after export.idle_after without traffic.",
    ),
    Metric(
        "flowmap_expired_receive_bytes_total",
        "counter",
        "Bytes of series that were removed after export.idle_after without traffic.",
    ),
)

_TABLES = (
    Metric("flowmap_open_flows", "gauge", "Open flows, without ignored ones."),
    Metric("flowmap_pending_flows", "gauge", "Flows whose owner is not decided yet, open or closed."),
    Metric(
        "flowmap_attribution_delay_seconds",
        "histogram",
        "Time from the first sight of a flow to its first decision, by state. If that gives no name and a later one "
        "does, the flow counts once more, by the state of that.",
        ("state",),
    ),
    Metric(
        "flowmap_counters_age_seconds",  # promtool refuses the word counter in a name
        "gauge",
        "Age of the byte counters of open flows on this page: the time since the last full read that gave them.",
    ),
    Metric("flowmap_flows_limit", "gauge", "Largest number of tracked flows (collect.max_flows)."),
    Metric(
        "flowmap_flows_shed_total",
        "counter",
        "Flows evicted or refused at collect.max_flows: unanswered (evicted while open), pending (closed and evicted "
        "before an owner was decided), table_full (refused). A flow counts each time it is refused.",
        ("reason",),
    ),
    Metric(
        "flowmap_flows_ended_unseen_total",
        "counter",
        "Flows that disappeared between two full reads without a final record, without ignored ones. Their last bytes "
        "may be missing.",
    ),
    Metric(
        "flowmap_flows_unpaired_total",
        "counter",
        "Closed connections between two network namespaces that were dropped at a limit before the socket of their "
        "other end was read. If it is read later, its bytes count again.",
    ),
    Metric(
        "flowmap_addresses_shared",
        "gauge",
        "Addresses that several network namespaces have. Their flows get no name, and with source sockets a connection "
        "between two of these namespaces counts at both ends.",
    ),
    Metric(
        "flowmap_workloads_dropped_total",
        "counter",
        "What tables about containers and processes of this host dropped at their limits: flows (the workload of open "
        "flows, which is then unknown), cgroups, workloads and listeners (found again if they are still there), "
        "container_names (names that Kubernetes gives).",
        ("table",),
    ),
    Metric("flowmap_series", "gauge", "Traffic series on the page. Each has a sample in several metrics."),
    Metric("flowmap_series_limit", "gauge", "Largest number of traffic series (export.max_series)."),
    Metric(
        "flowmap_series_folded_total",
        "counter",
        'New label sets folded into peer "other", or into the last series of their kind, at export.max_series.',
    ),
    Metric(
        "flowmap_contradictions_total",
        "counter",
        "Answers that contradict an earlier attribution in the time they cover.",
    ),
    Metric(
        "flowmap_continuity_clients",
        "gauge",
        "Client addresses whose owner needs no new answer, as one process has had their connections without a gap.",
    ),
    Metric(
        "flowmap_continuity_connections_total", "counter", "Connections that were named by their process, with no call."
    ),
    Metric(
        "flowmap_continuity_questions_saved_total",
        "counter",
        "Questions about clients that were not repeated, as their process still runs.",
    ),
)

_FINDINGS = (
    Metric(
        "flowmap_stale_connections",
        "gauge",
        "Open connections that are stale, by reason (older_than_run, job_ended, idle), and those above the limit "
        "(above_limit); counted every few seconds. Deployments that cannot be told apart have commas between them.",
        ("namespace", "deployment_id", "deployment", "reason"),
    ),
    Metric(
        "flowmap_unexpected_peers",
        "gauge",
        "Peers of a deployment that expect.file does not allow (new) or forbids (forbidden); 1 for a deployment "
        "without an entry (no_entry). Of peers that have a series.",
        ("namespace", "deployment_id", "deployment", "finding"),
    ),
)

_CATALOG = (
    Metric("flowmap_catalog_deployments", "gauge", "Deployments in the catalog, which is read every catalog.refresh."),
    Metric("flowmap_catalog_left_out_deployments", "gauge", "Deployments left out because the catalog is full."),
    Metric(
        "flowmap_catalog_suspicious",
        "gauge",
        "1 if the last listing lost more than half of the deployments and is not applied yet.",
    ),
    Metric(
        "flowmap_catalog_last_success_timestamp_seconds",
        "gauge",
        "When the deployments of every namespace were last listed completely.",
    ),
)

_RECORDING = (
    Metric("flowmap_recording_active", "gauge", "1 while a recording is written (run --record)."),
    Metric("flowmap_recording_bytes", "gauge", "Size of the recording."),
    Metric(
        "flowmap_recording_ended_total",
        "counter",
        "Recordings that ended: stopped, size, disk, behind (writing was too slow) or defect.",
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
    + _FINDINGS
    + _CATALOG
    + _RECORDING
    + HISTORY
    + FLEET
    + SELF
)
"""In the order of the page."""

BY_NAME = {metric.name: metric for metric in METRICS}

HEALTH = frozenset(("flowmap_deployment_tcp_retransmits_total", "flowmap_deployment_tcp_round_trip_seconds"))
"""Metrics that need the socket table."""


def metrics_markdown() -> str:
    """The table of metrics in flowmap/export/README.md, as Markdown."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.type} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
