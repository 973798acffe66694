"""config/prometheus and config/grafana: the rules do what they say, and every query finds what it asks for in a real
Prometheus that scraped a real daemon."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import yaml

from flowmap.config.fields import Label
from flowmap.export.metrics.definitions import BY_NAME
from flowmap.sandbox.demo.demo import Demo

CONFIG = Path(__file__).parent.parent / "config"
RULES = CONFIG / "prometheus"
DASHBOARD = json.loads((CONFIG / "grafana" / "flowmap.json").read_text())

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs prometheus (Debian: prometheus)"
)

PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds", "up", "ALERTS"}
"""Names that are not flowmap's own."""

QUIET = (
    "Losses",
    "History",
    "Refused and dropped",
    "Segments",
    "Round trip",
    "failed",
    "held back",
    "Waiting",
    "Flink",
    "Fleet",
    "ClickHouse",
)
"""Parts of what queries are called that may find nothing, or zero, on a healthy daemon without Flink and fleet."""


class Query(NamedTuple):
    """One query of the dashboard."""

    title: str
    expr: str


def rules(file: str) -> list[dict[str, Any]]:
    loaded = yaml.safe_load((RULES / file).read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def queries() -> list[Query]:
    return [
        Query(f"{panel['title']}: {target['legendFormat']}", target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]


def promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, cwd=RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("words", ["check rules alerts.yml recording.yml", "test rules tests.yml"])
def test_promtool_is_content(words: str) -> None:
    promtool(*words.split())


@needs_promtool
def test_the_example_of_a_scrape_is_a_configuration() -> None:
    promtool("check", "config", "scrape.yml")


@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules("alerts.yml")])
def test_every_alert_fires_for_its_fault_only(alert: str) -> None:
    tests = yaml.safe_load((RULES / "tests.yml").read_text())["tests"]
    samples = [
        sample["labels"]
        for test in tests
        for row in test["promql_expr_test"]
        for sample in row.get("exp_samples", ())
        if f'alertname="{alert}"' in row["expr"]
    ]
    assert samples, "tests.yml has no case in which it fires"
    assert not [labels for labels in samples if '"well"' in labels]


@pytest.mark.parametrize("rule", rules("alerts.yml"), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(rule: Mapping[str, Any]) -> None:
    assert rule["annotations"].keys() == {"summary", "meaning", "action"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_only_metrics_that_exist_are_asked_for() -> None:
    recorded = {rule["record"] for rule in rules("recording.yml")}
    known = {name + suffix for name in BY_NAME for suffix in ("", "_bucket")} | PROCESS | recorded
    asked = [rule["expr"] for file in ("alerts.yml", "recording.yml") for rule in rules(file)]
    asked += [query.expr for query in queries()]
    asked += [variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable]
    for expr in asked:
        for names in _names(expr):
            assert names & known, f"{names} in {expr}"


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.title)
def test_only_labels_that_exist_are_grouped_by_and_shown(query: Query) -> None:
    named = {name.removesuffix("_bucket") for names in _names(query.expr) for name in names}
    known = {label for name in named & BY_NAME.keys() for label in BY_NAME[name].labels} | {"instance", "job", "le"}
    if "export.labels" in known:
        known |= set(get_args(Label))
    grouped = ",".join(re.findall(r"by \(([^)]*)\)", query.expr)).replace(" ", "").split(",")
    assert {*filter(None, grouped), *re.findall(r"{{(\w+)}}", query.title)} <= known


def _names(expr: str) -> Iterator[set[str]]:
    """The metrics an expression names; a pattern as the set of those it stands for."""
    for pattern in re.findall(r'__name__=~"([^"]*)"', expr):
        yield {name for name in BY_NAME if re.fullmatch(pattern, name)}
    bare = re.sub(r'"[^"]*"', '""', expr)
    for name in re.findall(r"\b(?:[a-z_]+:)?(?:flowmap|process)_[a-z_]+(?::[a-z0-9_]+)?", bare):
        yield {name}


class Prometheus:
    """A real one, scraping ``target`` every second with the rules of this project."""

    def __init__(self, directory: Path, target: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            place = f"127.0.0.1:{free.getsockname()[1]}"
        self._url = f"http://{place}"
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [{"job_name": "flowmap", "static_configs": [{"targets": [target]}]}],
            "rule_files": [str(RULES / "alerts.yml"), str(RULES / "recording.yml")],
        }
        (directory / "prometheus.yml").write_text(json.dumps(settings))
        self.process = subprocess.Popen(
            ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={place}"],
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.loads(reply.read())["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it is not ready yet
                raise
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def find(self, expr: str) -> list[Any]:
        """The samples of an instant query."""
        return list(self.get("query", query=expr)["result"])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with Demo("127.0.0.1", 0) as demo:
        running = Prometheus(tmp_path_factory.mktemp("prometheus"), demo.url.removeprefix("http://"))
        try:
            _wait(running, "sum(instance:flowmap_named_bytes:ratio_rate5m) > 0")
            _wait(
                running,
                "count(rate(flowmap_api_requests_total[10s])) > 0 and sum(flowmap_shared_transmit_bytes_total) > 0",
            )
            yield running
        finally:
            running.process.terminate()
            running.process.wait(timeout=20)


def _wait(running: Prometheus, expr: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if running.find(expr):
                return
        except OSError:
            assert running.process.poll() is None, "prometheus has ended"
        assert time.monotonic() < deadline, f"{expr} finds nothing"
        time.sleep(0.2)


@needs_prometheus
def test_every_query_of_the_dashboard_finds_something(prometheus: Prometheus) -> None:
    values = {"job": ".*", "instance": ".*", "namespace": ".*", "deployment": ".*"}
    values |= {"__rate_interval": "20s", "__range": "60s"}
    for query in queries():
        expr = re.sub(r"\$(\w+)", lambda match: values[match[1]], query.expr)
        found = prometheus.find(expr)
        assert found or any(part in query.title for part in QUIET), f"{query.title}: {expr}"


@needs_prometheus
def test_a_daemon_in_good_health_raises_no_alarm(prometheus: Prometheus) -> None:
    groups = prometheus.get("rules")["groups"]
    states = {rule["name"]: (rule["health"], rule.get("state")) for group in groups for rule in group["rules"]}
    assert {name: state for name, state in states.items() if state[0] != "ok" or state[1] == "firing"} == {}
    assert len(states) == len(rules("alerts.yml")) + len(rules("recording.yml"))


@needs_prometheus
def test_the_balance_of_the_dashboard_is_zero(prometheus: Prometheus) -> None:
    (balance, _) = [query for query in queries() if query.title.startswith("Out of balance")]
    expr = re.sub(r"\$\w+", ".*", balance.expr)
    assert [sample["value"][1] for sample in prometheus.find(expr)] == ["0"]
