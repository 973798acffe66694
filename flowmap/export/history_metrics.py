"""The metrics of the history."""

from __future__ import annotations

from flowmap.export.metric import Metric

HISTORY = (
    Metric("flowmap_history_up", "gauge", "Whether the history file can be written."),
    Metric("flowmap_history_flows", "gauge", "Flows in the history file."),
    Metric("flowmap_history_flows_written_total", "counter", "Flows written to the history file."),
    Metric(
        "flowmap_history_flows_lost_total",
        "counter",
        "Flows that are not in the history, by reason: queue_full, or why the file could not be written.",
        ("reason",),
    ),
    Metric(
        "flowmap_history_flows_removed_total",
        "counter",
        "Flows that left the history file, for their age or for want of room.",
        ("reason",),
    ),
    Metric("flowmap_history_queued_flows", "gauge", "Flows that wait to be written."),
    Metric("flowmap_history_intervals_written_total", "counter", "Ownership intervals written to the history file."),
    Metric(
        "flowmap_history_intervals_lost_total", "counter", "Ownership intervals lost because the write queue was full."
    ),
    Metric("flowmap_history_size_bytes", "gauge", "Size of the history file with its log and index."),
    Metric("flowmap_history_limit_bytes", "gauge", "Size it has at most (history.max_size)."),
    Metric("flowmap_history_oldest_timestamp_seconds", "gauge", "When the oldest flow in the history file ended."),
    Metric("flowmap_history_set_aside_total", "counter", "Broken history files that were renamed and replaced."),
)
