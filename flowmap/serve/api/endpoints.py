"""The endpoints of /api/v1, each declared once: path, parameters, answer, and the question to the backend.

Routing, OpenAPI, the links of the page and the table in the README are made from this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from flowmap.model import views
from flowmap.model.findings import StaleView
from flowmap.model.lineage import LineageView
from flowmap.serve.api import findings, models
from flowmap.serve.api.backend import Backend
from flowmap.serve.api.bodies import AttributionBatch, Body
from flowmap.serve.api.events import Event
from flowmap.serve.api.map import TrafficMap
from flowmap.serve.api.map_parameters import MapParameters, StreamParameters
from flowmap.serve.api.parameters import (
    AttributionParameters,
    ChangesParameters,
    DeploymentParameters,
    FlowParameters,
    LineageParameters,
    Parameters,
    StaleParameters,
    WindowParameters,
)
from flowmap.serve.api.status import Status


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One GET of the API, or one POST with a body. No request changes anything."""

    path: str
    summary: str
    parameters: type[Parameters]
    answer: type[models.Answer]
    ask: Callable[[Backend, Any], Awaitable[object]]
    """Returns the value that the answer is made of; None becomes 404."""
    statuses: tuple[int, ...] = (400, 503)
    """Errors that it can answer with, besides those of every path."""
    body: type[Body] | None = None
    """The body of a POST, which ``ask`` gets in place of the parameters; None for a GET."""

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"

    def names(self) -> list[str]:
        """Names of the parameters, those in the path left out."""
        names = [str(field.alias) for field in self.parameters.model_fields.values()]
        return [name for name in names if f"{{{name}}}" not in self.path]


async def _attribution(backend: Backend, asked: AttributionParameters) -> views.AttributionView:
    return await backend.attribution(asked.connection(), asked.at, explain=asked.explain)


async def _attributions(backend: Backend, asked: AttributionBatch) -> object:
    views = await backend.attributions(asked.lookups(), asked.at)
    # The evidence of a thousand connections is megabytes, most of it the same. A single question has it.
    return {"attributions": [replace(view, evidence=()) for view in views]}


async def _flows(backend: Backend, asked: FlowParameters) -> views.FlowPage:
    return await backend.flows(asked.filter(), asked.limit, asked.cursor)


async def _deployments(backend: Backend, _: Parameters) -> object:
    return {"deployments": await backend.deployments()}


async def _deployment(backend: Backend, asked: DeploymentParameters) -> views.DeploymentView | None:
    return await backend.deployment(asked.deployment_id)


async def _deployment_peers(backend: Backend, asked: WindowParameters) -> views.PeerWindow:
    return await backend.deployment_peers(asked.deployment_id, *asked.window())


async def _peer_changes(backend: Backend, asked: ChangesParameters) -> views.PeerChanges:
    window = asked.window()
    return await backend.peer_changes(asked.deployment_id, asked.before(window), window)


async def _peers(backend: Backend, _: Parameters) -> object:
    return {"peers": await backend.peers()}


async def _map(backend: Backend, asked: MapParameters) -> object:
    window, before = (None, None) if asked.is_live else asked.windows()
    return await backend.traffic_map(asked.query(), window, before)


async def _lineage(backend: Backend, asked: LineageParameters) -> LineageView:
    return await backend.lineage(asked.selection())


async def _stale(backend: Backend, asked: StaleParameters) -> StaleView:
    return await backend.stale(asked.selection(), idle=asked.idle, connections=asked.connections, limit=asked.limit)


async def _status(backend: Backend, _: Parameters) -> object:
    return backend.status()


_DEPLOYMENT = "/api/v1/deployments/{deploymentId}"

ENDPOINTS = (
    Endpoint(
        "/api/v1/attribution",
        "Which deployments own a connection",
        AttributionParameters,
        models.Attribution,
        _attribution,
        (400, 502, 503),
    ),
    Endpoint(
        "/api/v1/attribution/batch",
        "The same for up to 1,000 connections, also without their server endpoints",
        Parameters,
        models.Attributions,
        _attributions,
        (400, 408, 415, 502, 503),
        body=AttributionBatch,
    ),
    Endpoint("/api/v1/flows", "Flows that the daemon sees or saw", FlowParameters, models.Flows, _flows),
    Endpoint("/api/v1/deployments", "Deployments seen in traffic", Parameters, models.Deployments, _deployments),
    Endpoint(
        _DEPLOYMENT,
        "One deployment with its traffic by peer, jobs and packages",
        DeploymentParameters,
        models.DeploymentTraffic,
        _deployment,
        (400, 404, 503),
    ),
    Endpoint(
        f"{_DEPLOYMENT}/peers",
        "Peers of a deployment in a window of time",
        WindowParameters,
        models.PeerWindow,
        _deployment_peers,
    ),
    Endpoint(
        f"{_DEPLOYMENT}/peers/changes",
        "Peers that are new or gone between two windows of time",
        ChangesParameters,
        models.PeerChanges,
        _peer_changes,
    ),
    Endpoint("/api/v1/peers", "Peers and the deployments that talk to them", Parameters, models.Peers, _peers),
    Endpoint(
        "/api/v1/map",
        "Deployments, peers and the traffic between them: now with rates, or in a window of time",
        MapParameters,
        TrafficMap,
        _map,
    ),
    Endpoint(
        "/api/v1/lineage",
        "Which deployment reads from and writes to which peer, as observed; with from or to: in a window of time",
        LineageParameters,
        findings.Lineage,
        _lineage,
    ),
    Endpoint(
        "/api/v1/stale",
        "Open connections that are stale: left by an earlier run, of ended jobs, idle; and too many to one peer",
        StaleParameters,
        findings.Stale,
        _stale,
    ),
    Endpoint("/api/v1/status", "State of the daemon", Parameters, Status, _status),
)

STREAM = Endpoint(
    "/api/v1/stream",
    "The map, flows and state as they change (server-sent events)",
    StreamParameters,
    Event,
    _map,
)
"""Answered by ``flowmap.serve.stream``: one :class:`Event` after the other."""
