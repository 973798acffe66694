"""The ASGI application: the pages, and the endpoints of /api/v1 as ``endpoints.py`` declares them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from flowmap import __version__
from flowmap.config import HttpConfig
from flowmap.errors import ControlError, HistoryError, QueryError
from flowmap.export.exposition import Exposition
from flowmap.serve.api import openapi
from flowmap.serve.api.backend import Backend
from flowmap.serve.api.bodies import LARGEST, Body, read_body
from flowmap.serve.api.endpoints import ENDPOINTS, STREAM, Endpoint
from flowmap.serve.api.map_parameters import StreamParameters
from flowmap.serve.api.pages import THREADS, Pages
from flowmap.serve.api.parameters import Parameters, read_parameters
from flowmap.serve.api.problem import (
    BadParameters,
    on_bad_parameters,
    on_control_error,
    on_defect,
    on_history_error,
    on_http_exception,
    on_query_error,
    problem,
)
from flowmap.serve.server.access import Guard
from flowmap.serve.server.hosts import AllowedHosts
from flowmap.serve.server.limits import SafeHeaders, Sizes, TargetLimit
from flowmap.serve.server.request_target import OriginForm
from flowmap.serve.server.web import Web
from flowmap.serve.stream.streams import Streams
from flowmap.serve.ui.assets import INDEX, assets
from flowmap.system.workers import Workers


class Site:
    """What the pages are made of."""

    def __init__(self, backend: Backend, exposition: Exposition, page_workers: Workers) -> None:
        self._backend = backend
        self._pages = Pages(backend.snapshot, exposition, page_workers)

    async def metrics(self, request: Request) -> Response:
        return await self._pages.answer(request)

    async def healthy(self, request: Request) -> Response:
        return _condition(self._backend.healthy(), "healthy", "not healthy: the engine makes no progress")

    async def ready(self, request: Request) -> Response:
        return _condition(self._backend.ready(), "ready", "not ready: the first full read is not done")

    async def landing(self, request: Request) -> Response:
        return assets()[INDEX].respond(request)

    async def asset(self, request: Request) -> Response:
        found = assets().get(request.path_params["file"])
        return problem(404, "The page has no such file.") if found is None else found.respond(request)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(_document())


@dataclass(frozen=True, slots=True)
class Page:
    """One path outside /api/v1."""

    path: str
    summary: str
    media_type: str
    respond: Callable[[Site, Request], Awaitable[Response]]
    area: str = "query"
    """The key of ``http.access`` that says who may read it."""
    statuses: tuple[int, ...] = ()
    """Errors that it can answer with, besides those of every path."""


PAGES = (
    Page("/metrics", "Metrics, as Prometheus text or OpenMetrics, also gzip", "text/plain", Site.metrics, "scrape"),
    Page(
        "/-/healthy",
        "200, or 503 if the engine makes no progress",
        "text/plain",
        Site.healthy,
        area="health",
        statuses=(503,),
    ),
    Page(
        "/-/ready",
        "200 after the first full read, else 503; a control plane that does not answer delays it by at most 5 s",
        "text/plain",
        Site.ready,
        area="health",
        statuses=(503,),
    ),
    Page("/", "The page for people: map, connections, deployments, peers, state", "text/html", Site.landing),
    Page("/ui/{file}", "Scripts and styles of the page", "text/javascript", Site.asset),
    Page("/openapi.json", "Description of this API (OpenAPI 3.1)", "application/json", Site.openapi),
)


def build_app(
    backend: Backend,
    exposition: Exposition,
    web: Web | None = None,
    *,
    page_workers: Workers | None = None,
    streams: Streams | None = None,
) -> Starlette:
    """The ASGI application, guarded as ``web`` says; None: as with the defaults of the configuration.

    ``page_workers`` build the page of metrics. ``streams`` runs beside the server.
    """
    web = web or Web(HttpConfig())
    streams = streams or Streams(backend)
    refused = exposition.metrics.http_refused
    site = Site(backend, exposition, page_workers or Workers("page", THREADS))
    areas = {page.path: page.area for page in PAGES}
    app = Starlette(
        routes=[
            *(Route(page.path, partial(page.respond, site), methods=["GET"]) for page in PAGES),
            *(
                Route(endpoint.path, partial(_answer, backend, endpoint), methods=[endpoint.method])
                for endpoint in ENDPOINTS
            ),
            Route(STREAM.path, partial(_stream, streams), methods=["GET"]),
        ],
        middleware=[
            Middleware(SafeHeaders, chosen=lambda: web.headers),
            Middleware(Sizes, refused=refused, bodies={one.path: LARGEST for one in ENDPOINTS if one.body}),
            Middleware(OriginForm, refuse=partial(_refuse_target, refused)),
            Middleware(AllowedHosts, allowed=web.http.allowed_hosts, refused=refused),
            Middleware(Guard, access=web.http.access, passwords=lambda: web.passwords, areas=areas, refused=refused),
            Middleware(TargetLimit, areas=areas, refused=refused, except_for=(STREAM.path,)),
        ],
        exception_handlers={
            HTTPException: on_http_exception,
            BadParameters: on_bad_parameters,
            QueryError: on_query_error,
            ControlError: on_control_error,
            HistoryError: on_history_error,
            Exception: on_defect,
        },
    )
    app.router.redirect_slashes = False
    return app


async def _answer(backend: Backend, endpoint: Endpoint, request: Request) -> Response:
    """Read the parameters or the body, ask, and write the answer as JSON."""
    asked: Parameters | Body = read_parameters(endpoint.parameters, request.query_params, request.path_params)
    if endpoint.body is not None:
        asked = await read_body(endpoint.body, request)
    found = await endpoint.ask(backend, asked)
    if found is None:
        return problem(404, "flowmap has seen no such deployment in traffic.")
    # In a thread: it takes 0.1 to 0.2 s to write ten thousand peers, and the loop has scrapes to answer.
    body = await asyncio.to_thread(lambda: endpoint.answer.of(found).model_dump_json(by_alias=True))
    return Response(body, media_type="application/json")


async def _stream(streams: Streams, request: Request) -> Response:
    return streams.respond(read_parameters(StreamParameters, request.query_params, request.path_params))


def _refuse_target(refused: Callable[[str], None], status: int, detail: str) -> Response:
    refused("malformed")
    return problem(status, detail, headers={"allow": "GET, HEAD"} if status == 405 else None)


def _condition(holds: bool, yes: str, no: str) -> Response:
    return PlainTextResponse(f"{yes if holds else no}\n", 200 if holds else 503)


@cache
def _document() -> dict[str, object]:
    pages = {page.path: openapi.page(page.summary, page.media_type, page.statuses, page.path) for page in PAGES}
    return openapi.document(__version__, pages, ENDPOINTS, STREAM)
