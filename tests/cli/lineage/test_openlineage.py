"""Events, read back with the client library of OpenLineage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openlineage.client.event_v2 import InputDataset, Job, JobEvent, OutputDataset
from openlineage.client.serde import Serde

from flowmap.cli.lineage.openlineage import events
from tests.support.observed_edges import deployment, edge


def answer(*edges: dict[str, Any]) -> dict[str, Any]:
    return {"from": None, "to": "2026-11-21T20:16:07.000Z", "edges": list(edges)}


def read_back(event: dict[str, Any]) -> JobEvent:
    """The event as the client library has it. Its own checks of times, URIs and types apply."""
    job = Job(namespace=event["job"]["namespace"], name=event["job"]["name"])
    inputs = [InputDataset(namespace=one["namespace"], name=one["name"]) for one in event["inputs"]]
    outputs = [OutputDataset(namespace=one["namespace"], name=one["name"]) for one in event["outputs"]]
    return JobEvent(eventTime=event["eventTime"], producer=event["producer"], job=job, inputs=inputs, outputs=outputs)


def test_an_event_for_each_deployment() -> None:
    orders, report = deployment("orders"), deployment("report")
    edges = [
        edge("orders-kafka", orders),
        edge("warehouse-mysql", orders) | {"direction": "writes", "endpoints": ["10.0.0.9:3306"]},
        edge("features", report) | {"direction": "reads and writes"},
        edge("shared", orders, report),
    ]
    found, left_out = events(answer(*edges), None)
    assert left_out == 1
    for event in found:
        known = json.loads(Serde.to_json(read_back(event)))
        without_facets = {
            key: [{"namespace": one["namespace"], "name": one["name"]} for one in event[key]]
            for key in ("inputs", "outputs")
        }
        plain = event | without_facets | {"job": {key: event["job"][key] for key in ("namespace", "name")}}
        for key, value in plain.items():
            assert drop_empty(known[key]) == value, key
        for one in (event["job"], *event["inputs"], *event["outputs"]):
            for name, facet in one["facets"].items():
                assert name.startswith("flowmap_") and {"_producer", "_schemaURL"} <= facet.keys()
    shown = [
        (one["job"]["name"], [d["name"] for d in one["inputs"]], [d["name"] for d in one["outputs"]]) for one in found
    ]
    assert shown == [
        ("orders", ["orders-kafka"], ["warehouse-mysql"]),
        ("report", ["features"], ["features"]),
    ]


def drop_empty(value: Any) -> Any:
    """The library writes empty facets; they say nothing."""
    if isinstance(value, list):
        return [drop_empty(one) for one in value]
    if isinstance(value, dict):
        return {key: drop_empty(one) for key, one in value.items() if "acets" not in key or one}
    return value


@pytest.mark.parametrize(("given", "expected"), [(None, "ns"), ("prod", "prod")])
def test_the_namespace_of_jobs(given: str | None, expected: str) -> None:
    (event,), _ = events(answer(edge("kafka", deployment("orders"))), given)
    assert event["job"]["namespace"] == expected
