"""Metrics of the daemon itself, written by prometheus-client, as data: a part of ``export.metrics.definitions``."""

from __future__ import annotations

from flowmap.export.metrics.metric import Metric

HTTP_REFUSALS = (
    *("accept", "client", "connections", "idle", "handshake", "certificate", "deadline"),
    *("malformed", "too_large", "host", "login", "forbidden", "queries", "streams"),
)
"""Reasons of flowmap_http_refused_total: of connections, then of requests."""

SELF = (
    Metric(
        "flowmap_questions_total",
        "counter",
        "Questions about endpoints, by shape and outcome.",
        ("shape", "outcome"),
        "self",
    ),
    Metric("flowmap_api_requests_total", "counter", "Calls of the control plane's API.", ("operation",), "self"),
    Metric(
        "flowmap_api_request_failures_total",
        "counter",
        "Calls of the control plane's API without a usable answer.",
        ("operation", "reason"),
        "self",
    ),
    Metric(
        "flowmap_api_request_duration_seconds",
        "histogram",
        "Time from the start of a call to its answer or failure.",
        ("operation",),
        "self",
    ),
    Metric(
        "flowmap_api_breaker_open",
        "gauge",
        "1 while calls are suspended because the control plane keeps failing.",
        (),
        "self",
    ),
    Metric(
        "flowmap_flink_cluster_up",
        "gauge",
        "1 if the last reading of a cluster of open-source Flink was good.",
        ("cluster",),
        "self",
    ),
    Metric(
        "flowmap_flink_cluster_read_timestamp_seconds",
        "gauge",
        "When a cluster of open-source Flink was last read.",
        ("cluster",),
        "self",
    ),
    Metric(
        "flowmap_flink_cluster_clock_skew_seconds",
        "gauge",
        "Seconds by which the JobManager's clock is ahead of this host's, once a job has run.",
        ("cluster",),
        "self",
    ),
    Metric("flowmap_flink_jobs", "gauge", "Jobs that have not ended.", ("cluster",), "self"),
    Metric(
        "flowmap_flink_task_managers",
        "gauge",
        "TaskManagers that the JobManager lists: alive, or silent for 30 s.",
        ("cluster", "state"),
        "self",
    ),
    Metric(
        "flowmap_flink_requests_total",
        "counter",
        "Calls of the REST interface of a cluster of open-source Flink.",
        ("cluster", "path"),
        "self",
    ),
    Metric(
        "flowmap_config_last_reload_successful",
        "gauge",
        "1 if the last load of the configuration succeeded.",
        (),
        "self",
    ),
    Metric(
        "flowmap_http_refused_total",
        "counter",
        "HTTP connections and requests that the server refused or closed.",
        ("reason",),
        "self",
    ),
    Metric(
        "flowmap_http_settings_last_reload_successful",
        "gauge",
        "1 if the certificates and users in use are those in the files.",
        (),
        "self",
    ),
    Metric(
        "flowmap_stream_missed_updates_total",
        "counter",
        "Updates that slow readers of /api/v1/stream missed; each reader gets the number.",
        (),
        "self",
    ),
    Metric(
        "flowmap_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When a configuration was last applied, at startup or by a reload.",
        (),
        "self",
    ),
    Metric(
        "flowmap_log_lines_total",
        "counter",
        "Log lines by level, dropped ones included.",
        ("level",),
        "self",
    ),
    Metric(
        "flowmap_log_lines_dropped_total",
        "counter",
        "Log lines dropped: suppressed (repeats), full (stderr is not read) or failed (stderr cannot be written).",
        ("reason",),
        "self",
    ),
    Metric("flowmap_exposition_seconds", "gauge", "Time to build the previous page.", (), "self"),
    Metric("flowmap_build_info", "info", "Version of flowmap and of Python.", ("version", "python"), "self"),
)
