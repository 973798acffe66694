"""Metrics of the fleet, as data: a part of ``export.metrics.definitions``."""

from __future__ import annotations

from flowmap.export.metrics.metric import Metric

FLEET = (
    Metric("flowmap_fleet_up", "gauge", "1 if the server that the fleet shares answered the last exchange."),
    Metric(
        "flowmap_fleet_subscribed",
        "gauge",
        "1 while the server passes answers on as they come; 0 also while flowmap_fleet_up is 0. Else this host looks "
        "for them every two seconds at most.",
    ),
    Metric(
        "flowmap_fleet_lost_messages_total",
        "counter",
        "Answers that the server should have passed on, but that this host found later.",
    ),
    Metric(
        "flowmap_fleet_hosts",
        "gauge",
        "Hosts of the fleet that the server has seen in the last 20 seconds. Absent while flowmap_fleet_up is 0.",
    ),
    Metric(
        "flowmap_fleet_missing_hosts",
        "gauge",
        "Hosts that the server saw in the last day, but not now. Each costs the others its share of the rate. Absent "
        "while flowmap_fleet_up is 0.",
    ),
    Metric(
        "flowmap_fleet_rate",
        "gauge",
        "Calls a second that the fleet keeps to: the lowest control_plane.rate of its hosts. Absent while "
        "flowmap_fleet_up is 0.",
    ),
    Metric(
        "flowmap_fleet_queued_questions",
        "gauge",
        "Questions of all hosts that wait for a call. Absent while flowmap_fleet_up is 0.",
    ),
    Metric(
        "flowmap_fleet_oldest_question_seconds",
        "gauge",
        "How long the longest waiting question of the fleet has waited. Absent while flowmap_fleet_up is 0.",
    ),
    Metric("flowmap_fleet_waiting_questions", "gauge", "Questions of this host without an answer."),
    Metric("flowmap_fleet_calls_saved_total", "counter", "Questions that the answer of another host's call served."),
    Metric(
        "flowmap_fleet_own_share_calls_total",
        "counter",
        "Calls from this host's own share of the rate, because the server could not be used.",
    ),
    Metric("flowmap_fleet_failures_total", "counter", "Exchanges with the server that failed.", ("reason",)),
    Metric(
        "flowmap_fleet_refused_total",
        "counter",
        "What came from the server and was not used: answers of other hosts (signature, malformed, time, clock), and "
        "unreadable questions (question) and messages (message).",
        ("reason",),
    ),
)
