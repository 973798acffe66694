"""The HTTP surface: thin adapters between a request and one method of the backend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from flowmap import __version__
from flowmap.config import HttpConfig
from flowmap.errors import ControlError, HistoryError, QueryError
from flowmap.export.exposition import Exposition
from flowmap.model.views import FlowFilter
from flowmap.serve.api import models, openapi, parameters
from flowmap.serve.api.backend import Backend
from flowmap.serve.api.page import HEADERS, landing_page
from flowmap.serve.api.pages import THREADS, Pages
from flowmap.serve.api.parameters import Parameter, read_parameters
from flowmap.serve.api.problem import (
    bad_parameters,
    on_control_error,
    on_defect,
    on_history_error,
    on_http_exception,
    on_query_error,
    problem,
)
from flowmap.serve.api.status import Status
from flowmap.serve.server.access import Guard
from flowmap.serve.server.hosts import AllowedHosts
from flowmap.serve.server.limits import SafeHeaders, Sizes, TargetLimit
from flowmap.serve.server.request_target import OriginForm
from flowmap.serve.server.web import Web
from flowmap.system.workers import Workers

Endpoint = Callable[[Request], Awaitable[Response]]
Made = Callable[[], models.Answer]
"""Makes the answer of what was found."""


def build_app(
    backend: Backend, exposition: Exposition, web: Web | None = None, *, page_workers: Workers | None = None
) -> Starlette:
    """The ASGI application, guarded as ``web`` says; without it, as for the defaults of the configuration.

    ``page_workers`` build the page of metrics.
    """
    web = web or Web(HttpConfig())
    refused = exposition.metrics.http_refused
    site = _Site(backend, exposition, page_workers or Workers("page", THREADS))
    endpoints: dict[str, Endpoint] = {
        "/": site.landing,
        "/metrics": site.pages.answer,
        "/openapi.json": site.openapi,
        "/-/healthy": site.healthy,
        "/-/ready": site.ready,
        "/api/v1/attribution": site.attribution,
        "/api/v1/flows": site.flows,
        "/api/v1/deployments": site.deployments,
        "/api/v1/deployments/{deploymentId}": site.deployment,
        "/api/v1/deployments/{deploymentId}/peers": site.deployment_peers,
        "/api/v1/deployments/{deploymentId}/peers/changes": site.peer_changes,
        "/api/v1/peers": site.peers,
        "/api/v1/status": site.status,
    }
    app = Starlette(
        routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()],
        middleware=[
            Middleware(SafeHeaders, chosen=lambda: web.headers),
            Middleware(Sizes, refused=refused),
            Middleware(OriginForm, refuse=partial(_refuse_target, refused)),
            Middleware(AllowedHosts, allowed=web.http.allowed_hosts, refused=refused),
            Middleware(Guard, access=web.http.access, passwords=lambda: web.passwords, refused=refused),
            Middleware(TargetLimit, refused=refused),
        ],
        exception_handlers={
            HTTPException: on_http_exception,
            QueryError: on_query_error,
            ControlError: on_control_error,
            HistoryError: on_history_error,
            Exception: on_defect,
        },
    )
    app.router.redirect_slashes = False
    return app


class _Site:
    """The endpoints of one backend."""

    def __init__(self, backend: Backend, exposition: Exposition, page_workers: Workers) -> None:
        self._backend = backend
        self.pages = Pages(backend.snapshot, exposition, page_workers)

    async def landing(self, request: Request) -> Response:
        page = await asyncio.to_thread(landing_page, self._backend.status(), await self._backend.deployments())
        return HTMLResponse(page, headers=HEADERS)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(_document())

    async def healthy(self, request: Request) -> Response:
        return _condition(self._backend.healthy(), "healthy", "not healthy: the reader of flows makes no progress")

    async def ready(self, request: Request) -> Response:
        return _condition(self._backend.ready(), "ready", "not ready: the first full read is not done")

    async def attribution(self, request: Request) -> Response:
        async def ask(values: dict[str, Any]) -> Made:
            found = await self._backend.attribution(
                values["srcIp"],
                values["srcPort"],
                values["dstIp"],
                values["dstPort"],
                values["protocol"],
                values["at"],
                explain=values["explain"],
            )
            return partial(models.Attribution.of, found)

        return await _answer(request, parameters.ATTRIBUTION, ask)

    async def flows(self, request: Request) -> Response:
        async def ask(values: dict[str, Any]) -> Made:
            limit, cursor = values.pop("limit"), values.pop("cursor")
            since, until = values.pop("from"), values.pop("to")
            if since is not None and until is not None:
                parameters.in_order(since, until, "from")
            wanted = FlowFilter(**values, since=since, until=until)
            return partial(models.Flows.of, await self._backend.flows(wanted, limit, cursor))

        return await _answer(request, parameters.FLOWS, ask)

    async def deployments(self, request: Request) -> Response:
        async def ask(values: dict[str, Any]) -> Made:
            return partial(models.Deployments.of, {"deployments": await self._backend.deployments()})

        return await _answer(request, (), ask)

    async def deployment(self, request: Request) -> Response:
        async def ask(values: dict[str, Any]) -> Made | None:
            seen = await self._backend.deployment(_deployment(request))
            return partial(models.DeploymentTraffic.of, seen) if seen else None

        return await _answer(request, (), ask)

    async def deployment_peers(self, request: Request) -> Response:
        async def ask(values: dict[str, Any]) -> Made:
            window = parameters.window_of(values)
            return partial(models.PeerWindow.of, await self._backend.deployment_peers(_deployment(request), *window))

        return await _answer(request, parameters.WINDOW, ask)

    async def peer_changes(self, request: Request) -> Response:
        async def ask(values: dict[str, Any]) -> Made:
            window = parameters.window_of(values)
            before = parameters.window_before(values, window)
            return partial(
                models.PeerChanges.of, await self._backend.peer_changes(_deployment(request), before, window)
            )

        return await _answer(request, parameters.CHANGES, ask)

    async def peers(self, request: Request) -> Response:
        async def ask(values: dict[str, Any]) -> Made:
            return partial(models.Peers.of, {"peers": await self._backend.peers()})

        return await _answer(request, (), ask)

    async def status(self, request: Request) -> Response:
        async def ask(values: dict[str, Any]) -> Made:
            return partial(Status.of, self._backend.status())

        return await _answer(request, (), ask)


def _deployment(request: Request) -> str:
    text: str = request.path_params["deploymentId"]
    return text


async def _answer(
    request: Request,
    known: Sequence[Parameter],
    ask: Callable[[dict[str, Any]], Awaitable[Made | None]],
) -> Response:
    """Read the parameters, ask, and write the answer as JSON; 404 for None."""
    values, problems = read_parameters(request.query_params, known)
    if problems:
        return bad_parameters(problems)
    make = await ask(values)
    if make is None:
        return problem(404, "flowmap has seen no such deployment in traffic.")
    # In a thread: ten thousand peers take 0.2 s to write, and the loop has scrapes to answer.
    body = await asyncio.to_thread(lambda: make().model_dump_json(by_alias=True))
    return Response(body, media_type="application/json")


def _refuse_target(refused: Callable[[str], None], status: int, detail: str) -> Response:
    refused("malformed")
    return problem(status, detail, headers={"allow": "GET, HEAD"} if status == 405 else None)


def _condition(holds: bool, yes: str, no: str) -> Response:
    return PlainTextResponse(f"{yes if holds else no}\n", 200 if holds else 503)


@cache
def _document() -> dict[str, object]:
    return openapi.document(__version__)
