"""Lineage as events of OpenLineage: a JobEvent for each deployment, with the datasets that it was seen to use."""

from __future__ import annotations

from typing import Any

from flowmap import __version__
from flowmap.cli.lineage.naming import dataset

PRODUCER = f"urn:flowmap:{__version__}"
_SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/"

Event = dict[str, Any]


def events(answer: dict[str, Any], namespace: str | None) -> tuple[list[Event], int]:
    """The events, and how many edges are in none: those of deployments that cannot be told apart.

    ``namespace``: of the jobs; None: the namespace of each deployment.
    """
    by_job: dict[tuple[str, str, str], Event] = {}
    left_out = 0
    for edge in answer["edges"]:
        if len(edge["deployments"]) != 1:
            left_out += 1
            continue
        (one,) = edge["deployments"]
        key = one["workspace"], one["namespace"], one["deploymentId"]
        event = by_job.setdefault(key, _event(answer["to"], namespace or one["namespace"] or "flink", one))
        if edge["direction"] != "writes":
            event["inputs"].append(_dataset(edge))
        if edge["direction"] != "reads":
            event["outputs"].append(_dataset(edge))
    return list(by_job.values()), left_out


def _event(at: str, namespace: str, deployment: dict[str, Any]) -> Event:
    facet = _facet("JobFacet", deploymentId=deployment["deploymentId"], workspace=deployment["workspace"])
    return {
        "eventTime": at,
        "producer": PRODUCER,
        "schemaURL": f"{_SPEC}JobEvent",
        "job": {
            "namespace": namespace,
            "name": deployment["name"] or deployment["deploymentId"],
            "facets": {"flowmap_deployment": facet},
        },
        "inputs": [],
        "outputs": [],
    }


def _dataset(edge: dict[str, Any]) -> dict[str, Any]:
    found, traffic = dataset(edge), edge["traffic"]
    facet = _facet(
        "DatasetFacet",
        observed="connections, not topics or tables",
        directionGuessed=edge["guessed"],
        endpoints=edge["endpoints"],
        transmitBytes=traffic["transmitBytes"],
        receiveBytes=traffic["receiveBytes"],
        firstSeen=edge["firstSeen"],
        lastSeen=edge["lastSeen"],
    )
    return {"namespace": found.namespace, "name": found.name, "facets": {"flowmap_traffic": facet}}


def _facet(kind: str, **fields: object) -> dict[str, object]:
    return {"_producer": PRODUCER, "_schemaURL": f"{_SPEC}{kind}", **fields}
