"""The OpenAPI 3.1 document, built from the models and the parameter tables the answers are made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from flowmap.serve.api import models, parameters
from flowmap.serve.api.parameters import Parameter
from flowmap.serve.api.status import Status

_ANYWHERE = (401, 403, 413, 414, 429, 500)
_REF = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Operation:
    """One GET of the API."""

    path: str
    summary: str
    answer: type[models.Answer] | str
    """Model of the JSON answer, or another media type."""
    parameters: Sequence[Parameter] = ()
    statuses: Sequence[int] = ()
    """Errors it can answer with, besides those that any can."""


OPERATIONS = (
    Operation("/metrics", "Metrics, as Prometheus text or OpenMetrics", "text/plain"),
    Operation("/-/healthy", "Whether the process works", "text/plain", statuses=(503,)),
    Operation("/-/ready", "Whether the first full read is done", "text/plain", statuses=(503,)),
    Operation(
        "/api/v1/attribution",
        "Who owns this connection?",
        models.Attribution,
        parameters.ATTRIBUTION,
        (400, 502, 503),
    ),
    Operation("/api/v1/flows", "Flows the daemon sees, or saw", models.Flows, parameters.FLOWS, (400, 503)),
    Operation("/api/v1/deployments", "Deployments seen in traffic", models.Deployments, (), (400, 503)),
    Operation(
        "/api/v1/deployments/{deploymentId}",
        "One deployment with its traffic by peer",
        models.DeploymentTraffic,
        (),
        (400, 404, 503),
    ),
    Operation(
        "/api/v1/deployments/{deploymentId}/peers",
        "Whom a deployment, by id or name, talked to in a window of time",
        models.PeerWindow,
        parameters.WINDOW,
        (400, 503),
    ),
    Operation(
        "/api/v1/deployments/{deploymentId}/peers/changes",
        "Which of its peers came and went between two windows of time",
        models.PeerChanges,
        parameters.CHANGES,
        (400, 503),
    ),
    Operation("/api/v1/peers", "Peers and the deployments that talk to them", models.Peers, (), (400, 503)),
    Operation("/api/v1/status", "The daemon's own state", Status, (), (400, 503)),
)


def document(version: str) -> dict[str, object]:
    """The whole document."""
    wanted: dict[str, type[models.Answer]] = {"Problem": models.Problem}
    for operation in OPERATIONS:
        if not isinstance(operation.answer, str):
            wanted[operation.answer.__name__] = operation.answer
    mode: JsonSchemaMode = "serialization"
    _, schemas = models_json_schema([(model, mode) for model in wanted.values()], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "flowmap",
            "version": version,
            "description": "Which Flink job is behind this network connection?",
        },
        "paths": {operation.path: {"get": _describe(operation)} for operation in OPERATIONS},
        "components": {"schemas": schemas["$defs"]},
    }


def _describe(operation: Operation) -> dict[str, object]:
    described = [_parameter(parameter) for parameter in operation.parameters]
    if "{deploymentId}" in operation.path:
        described.append({"name": "deploymentId", "in": "path", "required": True, "schema": {"type": "string"}})
    return {
        "summary": operation.summary,
        "parameters": described,
        "responses": {"200": _success(operation.answer)}
        | {str(status): _error(operation, status) for status in (*operation.statuses, *_ANYWHERE)},
    }


def _parameter(parameter: Parameter) -> dict[str, object]:
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "allowEmptyValue": not parameter.required,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _success(answer: type[models.Answer] | str) -> dict[str, object]:
    if isinstance(answer, str):
        return {"description": "As asked.", "content": {answer: {"schema": {"type": "string"}}}}
    schema = {"$ref": _REF.format(model=answer.__name__)}
    return {"description": "As asked.", "content": {"application/json": {"schema": schema}}}


def _error(operation: Operation, status: int) -> dict[str, object]:
    if status == 503 and operation.answer == "text/plain":
        return {"description": "Not so.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    schema = {"$ref": _REF.format(model="Problem")}
    return {"description": "An error.", "content": {"application/problem+json": {"schema": schema}}}
