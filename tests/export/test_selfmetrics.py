"""flowmap's own counts, from many threads."""

from __future__ import annotations

import threading

from prometheus_client.parser import text_string_to_metric_families

from flowmap.export.selfmetrics import SelfMetrics
from flowmap.model.status import FlinkClusterStatus


def value(metrics: SelfMetrics, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(metrics.text()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def test_counts() -> None:
    metrics = SelfMetrics("1.0")
    for sinks in (1, 1, 2):
        metrics.questions({("sink", "hit"): sinks, ("client", "miss"): 1})
    metrics.api_attempt("ListJobs", 0.06)
    metrics.api_attempt("ListJobs", 7, "throttled")
    assert value(metrics, "flowmap_questions_total", shape="sink", outcome="hit") == 2
    assert value(metrics, "flowmap_questions_total", shape="client", outcome="miss") == 1
    assert value(metrics, "flowmap_api_requests_total", operation="ListJobs") == 2
    assert value(metrics, "flowmap_api_request_failures_total", operation="ListJobs", reason="throttled") == 1
    assert value(metrics, "flowmap_api_request_duration_seconds_bucket", operation="ListJobs", le="0.1") == 1
    assert value(metrics, "flowmap_api_request_duration_seconds_sum", operation="ListJobs") == 7.06


def test_states() -> None:
    metrics = SelfMetrics("1.0")
    assert value(metrics, "flowmap_api_breaker_open") == 0
    assert value(metrics, "flowmap_config_last_reload_successful") == 1
    metrics.set_breaker(True)
    metrics.set_reload(False)
    metrics.set_exposition_seconds(0.25)
    assert value(metrics, "flowmap_api_breaker_open") == 1
    assert value(metrics, "flowmap_config_last_reload_successful") == 0
    assert value(metrics, "flowmap_exposition_seconds") == 0.25


def cluster(name: str, *, up: bool = True, skew: float | None = None, calls: int = 3) -> FlinkClusterStatus:
    return FlinkClusterStatus(
        name=name,
        url="http://jm:8081",
        up=up,
        error=None if up else "refused",
        version="2.3.0",
        read_at=100.5 if up else None,
        jobs=2,
        task_managers=3,
        silent_task_managers=1,
        local_task_managers=0,
        registering=False,
        clock_skew_seconds=skew,
        calls={"/taskmanagers": calls},
    )


def test_clusters_of_flink() -> None:
    metrics = SelfMetrics("1.0")
    metrics.flink([cluster("prod", skew=0.5), cluster("down", up=False)])
    metrics.flink([cluster("prod", skew=0.5, calls=5), cluster("down", up=False)])
    of = {"cluster": "prod"}
    expected = {"cluster_up": 1, "cluster_read_timestamp_seconds": 100.5, "cluster_clock_skew_seconds": 0.5, "jobs": 2}
    assert {name: value(metrics, f"flowmap_flink_{name}", **of) for name in expected} == expected
    assert value(metrics, "flowmap_flink_task_managers", **of, state="alive") == 2
    assert value(metrics, "flowmap_flink_task_managers", **of, state="silent") == 1
    assert value(metrics, "flowmap_flink_requests_total", **of, path="/taskmanagers") == 5
    assert value(metrics, "flowmap_flink_cluster_up", cluster="down") == 0
    assert value(metrics, "flowmap_flink_cluster_read_timestamp_seconds", cluster="down") is None
    metrics.flink([cluster("prod", calls=2)])  # found anew: its counts begin anew, too
    assert value(metrics, "flowmap_flink_cluster_up", cluster="down") is None
    assert value(metrics, "flowmap_flink_requests_total", **of, path="/taskmanagers") == 7


def test_process_and_build() -> None:
    metrics = SelfMetrics("1.0")
    assert 'version="1.0"' in metrics.text()
    assert (value(metrics, "process_resident_memory_bytes") or 0) > 1_000_000
    assert value(metrics, "process_cpu_seconds_total") is not None


def test_two_do_not_mix() -> None:
    one, other = SelfMetrics("1"), SelfMetrics("2")
    one.questions({("sink", "hit"): 1})
    assert value(other, "flowmap_questions_total", shape="sink", outcome="hit") is None


def test_threads() -> None:
    metrics = SelfMetrics("1.0")

    def work() -> None:
        for _ in range(500):
            metrics.api_attempt("ListJobs", 0.1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, "flowmap_api_requests_total", operation="ListJobs") == 2000
