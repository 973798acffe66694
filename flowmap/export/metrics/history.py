"""Metrics of the history, as data: a part of ``export.metrics.definitions``."""

from __future__ import annotations

from flowmap.export.metrics.metric import Metric

HISTORY = (
    Metric("flowmap_history_up", "gauge", "1 if the history file can be written."),
    Metric("flowmap_history_flows", "gauge", "Flows in the history file."),
    Metric("flowmap_history_flows_written_total", "counter", "Flows written to the history file."),
    Metric(
        "flowmap_history_flows_lost_total",
        "counter",
        "Flows missing in the history file: queue_full, or why the file could not be written.",
        ("reason",),
    ),
    Metric(
        "flowmap_history_flows_removed_total",
        "counter",
        "Flows removed from the history file: age (history.retain) or size (history.max_size).",
        ("reason",),
    ),
    Metric("flowmap_history_queued_flows", "gauge", "Flows waiting to be written to the history file."),
    Metric("flowmap_history_intervals_written_total", "counter", "Ownership intervals written to the history file."),
    Metric(
        "flowmap_history_intervals_lost_total",
        "counter",
        "Ownership intervals missing in the history file because the queue was full.",
    ),
    Metric("flowmap_history_size_bytes", "gauge", "Size of the history file with its write-ahead log and index."),
    Metric("flowmap_history_limit_bytes", "gauge", "Largest size of the history file (history.max_size)."),
    Metric("flowmap_history_oldest_timestamp_seconds", "gauge", "When the oldest flow in the history file ended."),
    Metric("flowmap_history_set_aside_total", "counter", "Broken history files that were renamed and replaced."),
    Metric(
        "flowmap_store_up", "gauge", "1 if ClickHouse (history.clickhouse) answers: 0 also while it takes over 10 s."
    ),
    Metric("flowmap_store_flows_sent_total", "counter", "Flows that ClickHouse has confirmed."),
    Metric("flowmap_store_batches_sent_total", "counter", "Inserts of flows that ClickHouse has confirmed."),
    Metric("flowmap_store_waiting_flows", "gauge", "Flows in the history file that are still to be sent."),
    Metric(
        "flowmap_store_oldest_waiting_timestamp_seconds",
        "gauge",
        "When the oldest flow that is still to be sent ended.",
    ),
    Metric(
        "flowmap_store_complete_timestamp_seconds",
        "gauge",
        "Every decided flow that ended before this was sent, or counts as lost.",
    ),
    Metric(
        "flowmap_store_flows_lost_total",
        "counter",
        "Flows that will never be sent: limits (the history removed them first), unreadable, replaced (a broken file).",
        ("reason",),
    ),
    Metric("flowmap_store_failures_total", "counter", "Exchanges with ClickHouse that failed.", ("reason",)),
)
