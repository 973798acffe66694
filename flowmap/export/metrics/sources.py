"""The metrics of sources, each with where its value comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from flowmap.export.metrics.metric import Metric
from flowmap.model.source import SourceReport

Value = int | float | Mapping[str, int] | None


class SourceMetric(NamedTuple):
    """A metric with one value for each source."""

    metric: Metric
    value: Callable[[SourceReport], Value]
    """A number; a number for each value of the metric's last label; or None, for no line."""


SOURCES = (
    SourceMetric(
        Metric("flowmap_source_up", "gauge", "Whether the source of flows can be read.", ("source",)),
        lambda source: int(source.stats.up),
    ),
    SourceMetric(
        Metric(
            "flowmap_source_info",
            "info",
            "What the source's bytes are: IP packet lengths (ip) or TCP payload (payload).",
            ("source", "bytes"),
        ),
        lambda source: {source.facts.counts: 1},
    ),
    SourceMetric(
        Metric("flowmap_source_records_total", "counter", "Entries, events or packets read.", ("source",)),
        lambda source: source.stats.records,
    ),
    SourceMetric(
        Metric(
            "flowmap_source_lost_total",
            "counter",
            "Records known to be lost or skipped. What an overrun lost is unknown and not included.",
            ("source", "reason"),
        ),
        lambda source: source.stats.lost,
    ),
    SourceMetric(
        Metric(
            "flowmap_source_overruns_total",
            "counter",
            "Times the kernel reported dropped changes; a full read follows.",
            ("source",),
        ),
        lambda source: source.stats.overruns,
    ),
    SourceMetric(
        Metric("flowmap_source_resyncs_total", "counter", "Full reads started.", ("source", "reason")),
        lambda source: source.stats.resyncs,
    ),
    SourceMetric(
        Metric("flowmap_source_resync_seconds", "gauge", "Wall time of the last full read.", ("source",)),
        lambda source: source.stats.resync_seconds,
    ),
    SourceMetric(
        Metric(
            "flowmap_source_receive_buffer_bytes",
            "gauge",
            "Receive buffer the kernel granted to the source's socket.",
            ("source",),
        ),
        lambda source: source.stats.receive_buffer or None,
    ),
    SourceMetric(
        Metric(
            "flowmap_source_exceptional_packets_total",
            "counter",
            "Packets handled specially: duplicate (seen on a second interface) and not_ip do not count, "
            "lone_fragment counts without ports, unopened counts as the tunnel's own flow.",
            ("source", "reason"),
        ),
        lambda source: source.stats.exceptional_packets,
    ),
    SourceMetric(
        Metric(
            "flowmap_source_interface_up",
            "gauge",
            "Whether an interface named in collect.capture.interfaces exists and is up.",
            ("source", "interface"),
        ),
        lambda source: source.stats.interfaces,
    ),
    SourceMetric(
        Metric(
            "flowmap_source_untracked_connections",
            "gauge",
            "TCP connections of clients on this host that are active in the socket table and not counted by conntrack "
            "(no rule tracks them). Only with collect.source: auto; loopback is left out.",
            ("source",),
        ),
        lambda source: source.untracked,
    ),
    SourceMetric(
        Metric(
            "flowmap_source_namespaces",
            "gauge",
            "Network namespaces besides the daemon's own, by state: read; over_limit and failed are not read. Only "
            "with collect.namespaces.",
            ("source", "state"),
        ),
        lambda source: source.stats.namespaces,
    ),
    SourceMetric(
        Metric(
            "flowmap_source_namespace_read_interval_seconds",
            "gauge",
            "Time between two full reads of each other network namespace. With many it grows, so that the reads take a "
            "fixed share of a core.",
            ("source",),
        ),
        lambda source: source.stats.namespace_pause,
    ),
    SourceMetric(
        Metric(
            "flowmap_opener_up",
            "gauge",
            "Whether flowmap opener is connected. Without it no new network namespace is read.",
        ),
        lambda source: None if source.stats.opener is None else int(source.stats.opener),
    ),
    SourceMetric(
        Metric(
            "flowmap_conntrack_offloaded_connections",
            "gauge",
            "Connections of the last full read that a flowtable forwards, by path (software, hardware). Their byte "
            "counters stand still unless the flowtable has the counter flag; in hardware the driver must report "
            "counters too.",
            ("path",),
        ),
        lambda source: source.stats.offloaded,
    ),
    SourceMetric(
        Metric(
            "flowmap_conntrack_accounting_enabled",
            "gauge",
            "Whether the kernel counts bytes of connections (sysctl net.netfilter.nf_conntrack_acct).",
        ),
        lambda source: None if source.stats.accounting is None else int(source.stats.accounting),
    ),
)
