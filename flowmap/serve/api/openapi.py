"""The OpenAPI 3.1 document, made from the declarations of the pages and endpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from flowmap.serve.api.endpoints import Endpoint
from flowmap.serve.api.models import Answer
from flowmap.serve.api.problem import MEDIA_TYPE, Problem

_EVERYWHERE = (401, 403, 413, 414, 429, 500)
_REF = "#/components/schemas/{model}"


def document(
    version: str, pages: Mapping[str, object], endpoints: Sequence[Endpoint], stream: Endpoint
) -> dict[str, object]:
    """The whole document. ``pages``: the operation of each path outside /api/v1."""
    mode: JsonSchemaMode = "serialization"
    answers: list[type[Answer]] = [Problem, *(endpoint.answer for endpoint in (*endpoints, stream))]
    described: list[tuple[type[BaseModel], JsonSchemaMode]] = [(answer, mode) for answer in answers]
    described += [(endpoint.body, "validation") for endpoint in endpoints if endpoint.body is not None]
    _, schemas = models_json_schema(described, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "flowmap",
            "version": version,
            "description": "Which Flink job is behind this network connection?",
        },
        "paths": {path: {"get": operation} for path, operation in pages.items()}
        | {endpoint.path: {endpoint.method.lower(): _operation(endpoint, "application/json")} for endpoint in endpoints}
        | {stream.path: {"get": _operation(stream, "text/event-stream")}},
        "components": {"schemas": schemas["$defs"]},
    }


def page(summary: str, media_type: str, statuses: Sequence[int], path: str = "") -> dict[str, object]:
    """The operation of a path outside /api/v1; its own errors are text, except for a path with a name in it."""
    schema = {"type": "object" if media_type == "application/json" else "string"}
    errors = {str(status): _response("The condition is not met.", media_type, schema) for status in statuses}
    responses = {"200": _response("Success.", media_type, schema)} | errors | _problems(_EVERYWHERE)
    names = re.findall(r"{(\w+)}", path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    if parameters:
        responses |= _problems((404,))
    return {"summary": summary, "parameters": parameters, "responses": responses}


def _operation(endpoint: Endpoint, media_type: str) -> dict[str, object]:
    schema = {"$ref": _REF.format(model=endpoint.answer.__name__)}
    return {
        "summary": endpoint.summary,
        "parameters": list(_parameters(endpoint)),
        **_body(endpoint),
        "responses": {"200": _response("Success.", media_type, schema)} | _problems((*endpoint.statuses, *_EVERYWHERE)),
    }


def _body(endpoint: Endpoint) -> dict[str, object]:
    if endpoint.body is None:
        return {}
    schema = {"$ref": _REF.format(model=endpoint.body.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _parameters(endpoint: Endpoint) -> Iterator[dict[str, object]]:
    declared = endpoint.parameters.model_json_schema()
    queried = endpoint.names()
    for name, schema in declared.get("properties", {}).items():
        required = name in declared.get("required", ())
        yield {
            "name": name,
            "in": "query" if name in queried else "path",
            "required": required,
            "description": schema["description"],
            "schema": {
                key: value
                for key, value in schema.items()
                if key not in ("title", "description") and (key, value) != ("default", None)
            },
        } | ({"allowEmptyValue": not required} if name in queried else {})


def _problems(statuses: Sequence[int]) -> dict[str, object]:
    schema = {"$ref": _REF.format(model=Problem.__name__)}
    return {str(status): _response("An error.", MEDIA_TYPE, schema) for status in statuses}


def _response(description: str, media_type: str, schema: Mapping[str, object]) -> dict[str, object]:
    return {"description": description, "content": {media_type: {"schema": schema}}}
