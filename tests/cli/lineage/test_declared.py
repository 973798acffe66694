"""Declared lineage against the observed one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowmap.cli.lineage.declared import Declared, Difference, differences, read_declared
from flowmap.errors import QueryError
from tests.support.observed_edges import deployment, edge

KAFKA = {"namespace": "kafka://broker:9092", "name": "orders"}
EVENT = {"job": {"namespace": "n", "name": "orders"}, "inputs": [KAFKA], "outputs": [{"namespace": "f", "name": "x"}]}
DECLARED = [Declared("orders", "reads", "kafka://broker:9092", "orders"), Declared("orders", "writes", "f", "x")]

FORMS = [
    (json.dumps(EVENT), DECLARED),
    (json.dumps([EVENT, EVENT]), DECLARED),
    (f"{json.dumps(EVENT)}\n\n{json.dumps(EVENT)}\n", DECLARED),
    (json.dumps({"job": {"name": "a"}}), []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), FORMS)
def test_files(tmp_path: Path, text: str, expected: list[Declared]) -> None:
    file = tmp_path / "events"
    file.write_text(text)
    assert read_declared(str(file)) == expected


WRONG = [
    ("{}\nx\n", ":2: not JSON"),
    ("3", "events: no event of OpenLineage: it has no job"),
    ('[{"job": {"name": "a"}}, {"job": {"name": "a"}, "inputs": [{}]}]', "events: event 2: .*dataset"),
    ('{"job": {"name": "a"}}\n{"job": 3}', "events:2: no event"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_files_that_are_not_valid(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "events"
    file.write_text(text)
    with pytest.raises(QueryError, match=message):
        read_declared(str(file))
    with pytest.raises(QueryError, match="No such file"):
        read_declared(str(tmp_path / "none"))


def declared(direction: str = "reads", namespace: str = "kafka://broker:9092", job: str = "orders") -> Declared:
    return Declared(job, direction, namespace, "topic")


def seen(peer: str = "10.0.0.9:9092", *names: str, **changes: Any) -> dict[str, Any]:
    return edge(peer, *(deployment(name) for name in names or ("orders",))) | {"guessed": False} | changes


ONLY_SEEN = Difference("observed only", "orders", "reads", "10.0.0.9:9092")
ONLY_DECLARED = Difference("declared only", "orders", "reads", "kafka://broker:9092 topic")
COMPARED = [
    ([seen()], [declared()], []),  # the host name has this address
    ([seen("topic")], [declared()], []),
    ([seen("broker:9092")], [declared()], []),
    ([seen("k", endpoints=["10.0.0.9:9092"])], [declared()], []),
    ([seen()], [declared(job="id-orders")], []),
    ([seen()], [], [ONLY_SEEN]),
    ([], [declared()], [ONLY_DECLARED]),
    (
        [seen()],
        [declared(namespace="kafka://else:1")],
        [ONLY_SEEN, ONLY_DECLARED._replace(peer="kafka://else:1 topic")],
    ),
    ([seen()], [declared(job="other")], [ONLY_SEEN, ONLY_DECLARED._replace(job="other")]),
    ([seen()], [declared("writes")], [Difference("direction differs", "orders", "reads", "10.0.0.9:9092")]),
    ([seen(guessed=True)], [declared("writes")], []),
    ([seen(direction="reads and writes")], [declared("writes")], []),
    ([seen("10.0.0.9:9092", "orders", "report")], [declared()], []),  # one of the set is enough
]


@pytest.mark.parametrize(("edges", "given", "expected"), COMPARED)
def test_differences(edges: list[dict[str, Any]], given: list[Declared], expected: list[Difference]) -> None:
    addresses = {"broker:9092": ["10.0.0.9:9092"]}
    assert differences(edges, given, lambda authority: addresses.get(authority, [])) == expected
