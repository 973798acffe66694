"""Answers GET requests of the API without HTTP: for commands that ask a store and print what a daemon would answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote

from starlette.datastructures import QueryParams

from flowmap.errors import QueryError
from flowmap.serve.api.backend import Backend, PastBackend
from flowmap.serve.api.endpoints import ENDPOINTS, Endpoint
from flowmap.serve.api.parameters import read_parameters
from flowmap.serve.api.problem import BadParameters

_DEPLOYMENT = "/api/v1/deployments/{deploymentId}"
ANSWERED = (
    *("/api/v1/attribution", "/api/v1/flows", "/api/v1/map"),
    *(f"{_DEPLOYMENT}/peers", f"{_DEPLOYMENT}/peers/changes"),
)
"""The endpoints that ask nothing but what :class:`PastBackend` has."""


async def answer(backend: PastBackend, path: str, given: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object that ``GET /api/v1/<path>`` answers. QueryError for parameters that cannot be used."""
    endpoint, in_path = _route(f"/api/v1/{path}")
    try:
        asked = read_parameters(endpoint.parameters, QueryParams(dict(given)), in_path)
    except BadParameters as error:
        raise QueryError(str(error)) from error
    return endpoint.answer.of(await endpoint.ask(cast(Backend, backend), asked)).as_json()


def _route(path: str) -> tuple[Endpoint, dict[str, str]]:
    for endpoint in ENDPOINTS:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(endpoint.path))
        if endpoint.path in ANSWERED and (match := re.fullmatch(pattern, path)):
            return endpoint, {name: unquote(text) for name, text in match.groupdict().items()}
    raise QueryError(f"{path}: only a daemon answers this")
