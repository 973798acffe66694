"""Metrics of flowmap itself, as data: what prometheus-client writes. A part of ``export.definitions``."""

from __future__ import annotations

from flowmap.export.metric import Metric

HTTP_REFUSALS = (
    *("accept", "client", "connections", "idle", "handshake", "certificate", "deadline"),
    *("malformed", "too_large", "host", "login", "forbidden", "queries"),
)
"""Reasons of flowmap_http_refused_total: first those of connections, then those of requests."""

SELF = (
    Metric(
        "flowmap_questions_total",
        "counter",
        "Questions about addresses, by shape and by how they were answered.",
        ("shape", "outcome"),
        "self",
    ),
    Metric("flowmap_api_requests_total", "counter", "Calls of the control plane's API.", ("operation",), "self"),
    Metric(
        "flowmap_api_request_failures_total",
        "counter",
        "Calls of the control plane's API that got no usable answer.",
        ("operation", "reason"),
        "self",
    ),
    Metric(
        "flowmap_api_request_duration_seconds",
        "histogram",
        "Time from sending a call to its answer or failure.",
        ("operation",),
        "self",
    ),
    Metric(
        "flowmap_api_breaker_open",
        "gauge",
        "Whether calls are held back because the control plane keeps failing.",
        (),
        "self",
    ),
    Metric(
        "flowmap_config_last_reload_successful",
        "gauge",
        "Whether the configuration in force is the one last asked for.",
        (),
        "self",
    ),
    Metric(
        "flowmap_http_refused_total",
        "counter",
        "HTTP connections and requests that were refused, or ended by the server.",
        ("reason",),
        "self",
    ),
    Metric(
        "flowmap_http_settings_last_reload_successful",
        "gauge",
        "Whether the certificates and users in force are those the files hold now.",
        (),
        "self",
    ),
    Metric(
        "flowmap_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When a configuration was last taken over, at the start or by a reload.",
        (),
        "self",
    ),
    Metric(
        "flowmap_log_lines_total",
        "counter",
        "Log lines by level, those included that were not written.",
        ("level",),
        "self",
    ),
    Metric(
        "flowmap_log_lines_dropped_total",
        "counter",
        "Log lines not written: too many alike (suppressed), stderr not read (full), or it cannot be written (failed).",
        ("reason",),
        "self",
    ),
    Metric("flowmap_exposition_seconds", "gauge", "Time it took to build the previous page.", (), "self"),
    Metric("flowmap_build_info", "info", "Version of flowmap and of Python.", ("version", "python"), "self"),
)
