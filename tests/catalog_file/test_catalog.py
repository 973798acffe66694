"""Catalogs: what is accepted, and that a bad one says where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowmap.catalog_file.catalog import (
    ServiceEndpoint,
    example_catalog,
    load_catalog,
    parse_catalog,
    parse_service_endpoint,
)
from flowmap.errors import ConfigError

GOOD = """\
workspace: w
namespaces: [a, b]
semantics: dataflow
deployments:
  - id: d1
    name: one
    namespace: a
    labels: {team: x, tier: 2}
    executionMode: BATCH
    artifact: {kind: JAR, jarArtifact: {jarUri: "oss://b/x.jar"}}
    jobs: [{id: j1, status: FAILED, startTime: 2026-01-01T00:00:00Z, endTime: 1767225660}]
    addresses: [10.0.0.1, {ip: "::ffff:10.0.0.2", since: 2026-01-01T00:00:00Z}]
    reads: ["10.9.0.1:9092", "[2001:db8::1]:1", 10.9.0.2]
"""

BAD = [
    ("deployments: [{id: a}]", ":1: ", "deployments.0.name"),
    ("workspace: w\ndeployments:\n- id: a\n  name: n\n  addresses: [10.0.0.300]\n", ":5: ", "addresses.0"),
    ("deployments:\n- {id: a, name: n}\n- {id: a, name: m}\n", "", "'a' occurs twice"),
    ("deployments:\n- {id: a, name: n, namespace: x}\n", "", "namespace 'x'"),
    ("workspace: w\n\nunheard: 1\n", ":3: ", "unheard"),
    ("deployments:\n- {id: a, name: n, reads: ['10.0.0.1:99999']}\n", ":2: ", "is not ip:port"),
    ("deployments:\n- {id: a, name: n, writes: ['kafka:9092']}\n", ":2: ", "writes.0"),
    ("semantics: maybe\n", ":1: ", "semantics"),
    ("a: [\n", ":2: ", "not YAML"),
    ("7\n", ":1: ", "the catalog"),
    ("workspace: w\nworkspace: v\n", ":2: ", "workspace: given twice"),
    ("deployments:\n- id: 1\n", ":2: ", "this is a number in YAML, not text; quote it"),
    ("x: *nowhere\n", ":1: ", "not YAML"),
]


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    catalog = load_catalog(path)
    (entry,) = catalog.deployments
    assert (catalog.semantics, entry.execution_mode) == ("dataflow", "BATCH")
    assert [address.ip for address in entry.addresses] == ["10.0.0.1", "10.0.0.2"]
    assert entry.addresses[1].since == entry.jobs[0].start_time == 1767225600.0
    assert entry.reads == (("10.9.0.1", 9092), ("2001:db8::1", 1), ("10.9.0.2", None))
    assert entry.artifact.jar_artifact is not None and entry.artifact.jar_artifact.jar_uri == "oss://b/x.jar"


def test_json_is_yaml_and_what_is_dumped_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(example_catalog().model_dump(mode="json", by_alias=True)))
    assert load_catalog(path) == example_catalog()


@pytest.mark.parametrize(("text", "line", "what"), BAD, ids=[row[2] for row in BAD])
def test_a_bad_file_says_where(tmp_path: Path, text: str, line: str, what: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_catalog(path)
    message = str(caught.value)
    assert str(path) in message and line in message and what in message and "\n" not in message


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_catalog(tmp_path / "none")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_catalog(binary)


def test_python_names_are_understood() -> None:
    catalog = parse_catalog({"deployments": [{"id": "d", "name": "n", "engine_version": "e"}]})
    assert catalog.deployments[0].engine_version == "e"
    assert parse_catalog(catalog) is catalog


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("10.0.0.1:1", ServiceEndpoint("10.0.0.1", 1)),
        ("10.0.0.1", ServiceEndpoint("10.0.0.1", None)),
        ("[2001:DB8::1]:2", ServiceEndpoint("2001:db8::1", 2)),
        ("2001:db8::1", ServiceEndpoint("2001:db8::1", None)),
        ("[::ffff:10.0.0.1]:65535", ServiceEndpoint("10.0.0.1", 65535)),
    ],
)
def test_service_ends(text: str, end: ServiceEndpoint) -> None:
    assert parse_service_endpoint(text) == end


@pytest.mark.parametrize("text", ["", ":", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:x", "[::1]:70000", "host:1"])
def test_bad_service_ends(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_service_endpoint(text)
