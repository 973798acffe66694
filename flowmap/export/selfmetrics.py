"""Self-metrics: counted where an event happens, by any thread, in a registry of its own."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from prometheus_client import Counter, Gauge, Histogram, Info, PlatformCollector, ProcessCollector
from prometheus_client import Metric as Family
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from flowmap.export.labels import clean
from flowmap.export.metrics.daemon import HTTP_REFUSALS
from flowmap.export.metrics.definitions import BY_NAME
from flowmap.model.status import FlinkClusterStatus

_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class SelfMetrics:
    """Counts of questions and calls, states, and figures of the process. Thread-safe."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._questions = self._counter("flowmap_questions_total")
        self._counted: dict[tuple[str, str], int] = {}  # questions counted so far
        self._requests = self._counter("flowmap_api_requests_total")
        self._failures = self._counter("flowmap_api_request_failures_total")
        duration = BY_NAME["flowmap_api_request_duration_seconds"]
        self._durations = Histogram(
            duration.name, duration.help, duration.labels, buckets=_BUCKETS, registry=self._registry
        )
        self._breaker = self._gauge("flowmap_api_breaker_open")
        self._flink = FlinkMetrics(self._registry)
        self._reload = self._gauge("flowmap_config_last_reload_successful")
        self._reloaded_at = self._gauge("flowmap_config_last_reload_success_timestamp_seconds")
        self._log_lines = self._counter("flowmap_log_lines_total")
        self._log_dropped = self._counter("flowmap_log_lines_dropped_total")
        self.set_reload(True)
        self._exposition = self._gauge("flowmap_exposition_seconds")
        self._http_refused = self._counter("flowmap_http_refused_total")
        for reason in HTTP_REFUSALS:
            self._http_refused.labels(reason)
        self._missed = self._counter("flowmap_stream_missed_updates_total")
        self._http_settings = self._gauge("flowmap_http_settings_last_reload_successful")
        self._http_settings.set(1)
        build = BY_NAME["flowmap_build_info"]
        Info(build.family, build.help, registry=self._registry).info(
            {"version": version, "python": platform.python_version()}
        )
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def questions(self, totals: Mapping[tuple[str, str], int]) -> None:
        """Set the totals since startup, by shape and outcome. One thread calls this."""
        for (shape, outcome), total in totals.items():
            self._questions.labels(clean(shape), clean(outcome)).inc(total - self._counted.get((shape, outcome), 0))
            self._counted[shape, outcome] = total

    def api_attempt(self, operation: str, seconds: float, reason: str | None = None) -> None:
        """Count one call that took ``seconds``; ``reason`` (``ControlError.reason``) is given if it failed."""
        operation = clean(operation)
        self._requests.labels(operation).inc()
        self._durations.labels(operation).observe(seconds)
        if reason is not None:
            self._failures.labels(operation, clean(reason)).inc()

    def set_breaker(self, open: bool) -> None:
        """Set whether calls are suspended."""
        self._breaker.set(open)

    def flink(self, clusters: Iterable[FlinkClusterStatus]) -> None:
        """Set the state of the clusters of open-source Flink. One thread calls this."""
        self._flink.set(clusters)

    def set_reload(self, successful: bool) -> None:
        """Set whether the configuration just read, at startup or by a reload, was applied."""
        self._reload.set(successful)
        if successful:
            self._reloaded_at.set_to_current_time()

    def log_lines(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Count log lines: all by ``("line", level)``, dropped ones by ``("dropped", reason)``."""
        for (what, value), count in counts.items():
            (self._log_lines if what == "line" else self._log_dropped).labels(clean(value)).inc(count)

    def set_exposition_seconds(self, seconds: float) -> None:
        """Set how long the page took to build."""
        self._exposition.set(seconds)

    def http_refused(self, reason: str) -> None:
        """Count a connection or request that was refused or closed; ``reason`` is one of ``HTTP_REFUSALS``."""
        self._http_refused.labels(reason).inc()

    def stream_missed(self, updates: int) -> None:
        """Count updates that a reader of the stream was too slow to get."""
        self._missed.inc(updates)

    def set_http_settings(self, successful: bool) -> None:
        """Set whether the certificates and users in the files are in use."""
        self._http_settings.set(successful)

    def text(self) -> str:
        """The self-metrics in the text format."""
        return generate_latest(_WithoutCreated(self._registry)).decode()

    def openmetrics(self) -> str:
        """The self-metrics in OpenMetrics, with ``# EOF``."""
        page: bytes = openmetrics.generate_latest(_WithoutCreated(self._registry))  # type: ignore[no-untyped-call]
        return page.decode()

    def _counter(self, name: str) -> Counter:
        return _counter(name, self._registry)

    def _gauge(self, name: str) -> Gauge:
        return _gauge(name, self._registry)


def _counter(name: str, registry: CollectorRegistry) -> Counter:
    metric = BY_NAME[name]
    return Counter(metric.family, metric.help, metric.labels, registry=registry)


def _gauge(name: str, registry: CollectorRegistry) -> Gauge:
    metric = BY_NAME[name]
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)


class FlinkMetrics:
    """States of clusters of open-source Flink. One that is gone leaves no samples but its counts of calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        names = ("cluster_up", "cluster_read_timestamp_seconds", "cluster_clock_skew_seconds", "jobs")
        self._gauges = {name: _gauge(f"flowmap_flink_{name}", registry) for name in names}
        self._task_managers = _gauge("flowmap_flink_task_managers", registry)
        self._requests = _counter("flowmap_flink_requests_total", registry)
        self._counted: dict[tuple[str, str], int] = {}
        self._known: set[str] = set()

    def set(self, clusters: Iterable[FlinkClusterStatus]) -> None:
        """Set what the last readings show."""
        here = {clean(one.name): one for one in clusters}
        for name in self._known - here.keys():
            for gauge in self._gauges.values():
                with suppress(KeyError):  # not every value is known of every cluster
                    gauge.remove(name)
            for state in ("alive", "silent"):
                self._task_managers.remove(name, state)
        self._known = set(here)
        for name, one in here.items():
            values = (float(one.up), one.read_at, one.clock_skew_seconds, float(one.jobs))
            for gauge, value in zip(self._gauges.values(), values, strict=True):
                if value is not None:
                    gauge.labels(name).set(value)
            self._task_managers.labels(name, "alive").set(one.task_managers - one.silent_task_managers)
            self._task_managers.labels(name, "silent").set(one.silent_task_managers)
            for path, total in one.calls.items():
                known = self._counted.get((name, path), 0)
                grown = total - known if total >= known else total  # a cluster that is found again counts from 0
                self._requests.labels(name, clean(path)).inc(grown)
                self._counted[name, path] = total


class _WithoutCreated(Collector):
    """A registry without its ``_created`` samples, which would double its size.

    prometheus-client can switch them off for the whole process only.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Family]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
