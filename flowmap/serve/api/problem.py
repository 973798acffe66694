"""Errors as application/problem+json (RFC 9457), with each parameter at fault.

The handlers are coroutines: starlette runs plain functions in threads that it starts on demand.
"""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence

from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from flowmap.errors import ControlError, HistoryError, QueryError, StoreError
from flowmap.serve.api.models import Answer, Text

MEDIA_TYPE = "application/problem+json"

SAFE_HEADERS = {
    # A browser must not run, load, frame or share any answer, whatever type it guesses.
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "deny",
    "cache-control": "no-store",
}
"""Headers of every answer; an answer may replace them."""


class FieldProblem(Answer):
    """What is wrong with one parameter."""

    field: str
    reason: Text


class Problem(Answer):
    """An error, as RFC 9457 describes it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: Text
    errors: list[FieldProblem] = Field(default=[], description="Each parameter at fault.")


def problem(
    status: int,
    detail: str,
    errors: Sequence[FieldProblem] = (),
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error answer; ``detail`` is one sentence that says what to do."""
    body = Problem(title=http.HTTPStatus(status).phrase, status=status, detail=detail, errors=list(errors))
    return Response(body.model_dump_json(by_alias=True), status, headers, media_type=MEDIA_TYPE)


class BadParameters(Exception):
    """Parameters that cannot be read; ``problems`` has each."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{one.field}: {one.reason}" for one in problems))
        self.problems = problems


async def on_bad_parameters(request: Request, error: Exception) -> Response:
    """400: the parameters cannot be read."""
    assert isinstance(error, BadParameters)
    return problem(400, str(error), error.problems)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, and what a body is rejected for."""
    assert isinstance(error, HTTPException)
    allowed = " or ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
    detail = {
        404: "This path does not exist; /openapi.json lists all paths.",
        405: f"{request.method} is not allowed here; use {allowed}.",
    }.get(error.status_code, error.detail)
    return problem(error.status_code, detail, headers=error.headers)


async def on_query_error(request: Request, error: Exception) -> Response:
    """400: the query cannot be answered."""
    assert isinstance(error, QueryError)
    fields = [FieldProblem(field=error.field, reason=str(error))] if error.field else []
    return problem(400, str(error), fields)


async def on_control_error(request: Request, error: Exception) -> Response:
    """502: the answer needs the control plane, which gave no usable answer."""
    assert isinstance(error, ControlError)
    return problem(502, f"The control plane gave no usable answer ({error.reason}).")


async def on_history_error(request: Request, error: Exception) -> Response:
    """503: the history file, or the ClickHouse in its place, cannot be read."""
    assert isinstance(error, HistoryError)
    if isinstance(error, StoreError):
        advice = "run `flowmap fleet check`, or set history.clickhouse.read to false to ask what this host saw only"
        return problem(503, f"ClickHouse, the history of this daemon, cannot be read ({error.reason}); {advice}.")
    return problem(503, f"The history cannot be read ({error.reason}); see /api/v1/status.")


async def on_defect(request: Request, error: Exception) -> Response:
    """500: a defect of flowmap. The log has the traceback; the client gets no details."""
    return problem(500, "flowmap failed to answer; see its log.", headers=SAFE_HEADERS)
