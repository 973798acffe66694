"""Async client of the 2022-07-18 API: typed parameters in, typed answers or an error of flowmap out."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from flowmap.control.alibaba.api import requests
from flowmap.control.alibaba.api.caller import (
    USER_AGENT,
    Admit,
    Caller,
    CallResult,
    Observe,
    Outgoing,
    default_transport,
    no_limit,
    no_observer,
)
from flowmap.control.alibaba.api.envelope import Element, Elements, read_answer
from flowmap.control.alibaba.api.listing import Listing
from flowmap.control.alibaba.api.models import Deployment, Job
from flowmap.control.alibaba.api.requests import Operation, Request
from flowmap.control.alibaba.api.signing import EMPTY_SHA256, default_signed_headers, sign_acs3
from flowmap.control.alibaba.credentials.base import Credentials, CredentialsProvider
from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.http.endpoint import parse_endpoint
from flowmap.control.http.transport_api import HttpReply, Transport

STABLE_ORDER = "gmt_create"
"""``sortName`` of listings: by creation, so that deployments created meanwhile come last."""


@dataclass(frozen=True, slots=True)
class DeploymentsAnswer:
    """The deployments in an answer."""

    deployments: tuple[Deployment, ...]
    request_id: str
    dropped: int
    """Elements that could not be read. If there are any, ``deployments`` may be incomplete."""
    asked_at: float
    """Epoch seconds at which the answered request was sent. The answer was true at a moment between this and
    ``answered_at``."""
    answered_at: float


class ControlClient:
    """The 2022-07-18 API of one workspace. Use it in one event loop and close it."""

    def __init__(
        self,
        *,
        endpoint: str,
        workspace: str,
        credentials: CredentialsProvider,
        timeout: float = 10.0,
        user_agent: str = USER_AGENT,
        observe: Observe = no_observer,
        admit: Admit = no_limit,
        transport: Transport | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``endpoint``: ``https://host[:port]``. ``timeout``: seconds for one call with all its attempts, from the
        admission of the first. ``admit``: awaited before every HTTP exchange. ConfigError for an invalid endpoint,
        BadRequest for an invalid workspace."""
        self._endpoint = parse_endpoint(endpoint)
        self._workspace = requests.workspace(workspace)
        self._user_agent = user_agent
        self._caller = Caller(
            transport=transport or default_transport(),
            credentials=credentials,
            timeout=timeout,
            observe=observe,
            admit=admit,
            clock=clock,
        )

    @property
    def endpoint(self) -> str:
        return self._endpoint.url

    @property
    def workspace(self) -> str:
        return self._workspace

    def of_workspace(self, workspace: str) -> ControlClient:
        """A client of another workspace of the same account and endpoint. Both share connections, breaker and pauses;
        closing one closes both. An empty name is this workspace. BadRequest for an invalid one."""
        if not workspace:
            return self
        other = copy(self)
        other._workspace = requests.workspace(workspace)
        return other

    @property
    def breaker_open(self) -> bool:
        """Whether calls are suspended after failures in a row (``flowmap_api_breaker_open``)."""
        return self._caller.breaker_open

    @property
    def paused_for(self) -> float:
        """Seconds left of the pause that the server asked for."""
        return self._caller.paused_for

    @property
    def resting_for(self) -> float:
        """Seconds until the next call makes sense: the rest of the pause or of an open breaker."""
        return self._caller.resting_for

    @property
    def clock_skew(self) -> float | None:
        """Seconds by which the server's clock is ahead of this host's; None before the first answer."""
        return self._caller.clock_skew

    async def get_deployments_by_ip(
        self,
        *,
        namespace: str,
        src_ip: str | None = None,
        src_port: int | None = None,
        dst_ip: str | None = None,
        dst_port: int | None = None,
        ignore_job_summary: bool | None = None,
        ignore_resource_setting: bool | None = True,
    ) -> DeploymentsAnswer:
        """``GetDeploymentsByIp``. An answer without deployments means "not known": the document does not define what
        is matched. BadRequest for an invalid parameter, before any call; otherwise any ControlError."""
        return await self._deployments(
            requests.GET_DEPLOYMENTS_BY_IP.request(
                namespace,
                src_ip=src_ip,
                src_port=src_port,
                dst_ip=dst_ip,
                dst_port=dst_port,
                ignore_job_summary=ignore_job_summary,
                ignore_resource_setting=ignore_resource_setting,
            )
        )

    async def get_deployments_by_label(
        self,
        *,
        namespace: str,
        key: str,
        values: Sequence[str],
        ignore_job_summary: bool | None = None,
        ignore_resource_setting: bool | None = True,
    ) -> DeploymentsAnswer:
        """``GetDeploymentsByLabel``: deployments whose label ``key`` has any of ``values``. Errors as above.

        The document calls it an exact match. Deployments whose labels differ are dropped.
        """
        answer = await self._deployments(
            requests.GET_DEPLOYMENTS_BY_LABEL.request(
                namespace,
                key=key,
                values=values,
                ignore_job_summary=ignore_job_summary,
                ignore_resource_setting=ignore_resource_setting,
            )
        )
        wanted = tuple(item for item in answer.deployments if item.labels is None or item.labels.get(key) in values)
        return replace(answer, deployments=wanted)

    def list_deployments(
        self,
        *,
        namespace: str,
        name: str | None = None,
        status: str | None = None,
        creator: str | None = None,
        modifier: str | None = None,
        execution_mode: str | None = None,
        label: tuple[str, Sequence[str]] | None = None,
        page_size: int = requests.PAGE_SIZE,
    ) -> Listing[Deployment]:
        """``ListDeployments``, all pages; ``label`` is a key and its alternative values. Raises BadRequest at once."""
        key, values = label or (None, None)
        filters = {"name": name, "status": status, "creator": creator, "modifier": modifier}
        filters |= {"execution_mode": execution_mode}
        return self._list(
            requests.LIST_DEPLOYMENTS, namespace, page_size, **filters, label_key=key, label_values=values
        )

    def list_jobs(self, *, namespace: str, deployment_id: str, page_size: int = requests.PAGE_SIZE) -> Listing[Job]:
        """``ListJobs``, all pages: the jobs of one deployment. Raises BadRequest at once."""
        return self._list(requests.LIST_JOBS, namespace, page_size, deployment_id=deployment_id)

    @property
    def transport(self) -> Transport:
        """The transport of the calls."""
        return self._caller.transport

    async def keys(self) -> Credentials:
        """The access key that the next call is signed with; AuthError or Transient if there is none."""
        return await self._caller.keys()

    def configure(self, *, timeout: float, credentials: CredentialsProvider | None = None) -> None:
        """Apply another timeout, and other keys if given, from the next call on."""
        self._caller.configure(timeout=timeout, credentials=credentials)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._caller.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _list(
        self, operation: Operation[Element], namespace: str, page_size: int, **parameters: object
    ) -> Listing[Element]:
        def page(index: int) -> Request:
            paging = {"page_index": index, "page_size": page_size, "sort_name": STABLE_ORDER}
            return operation.request(namespace, **parameters, **paging)

        async def ask(index: int) -> Elements[Element]:
            return (await self._ask(page(index), operation.element)).value

        page(1)  # raises BadRequest now and not when the first page is read
        assert operation.identity is not None, "its answer comes in pages"
        return Listing(ask, operation.identity, page_size=page_size)

    async def _deployments(self, request: Request) -> DeploymentsAnswer:
        call = await self._ask(request, Deployment)
        answer = call.value
        return DeploymentsAnswer(answer.items, answer.request_id, answer.dropped, call.asked_at, call.answered_at)

    async def _ask(self, request: Request, element: type[Element]) -> CallResult[Elements[Element]]:
        def sign(credentials: Credentials, now: float) -> Outgoing:
            return self._sign(request, credentials, now)

        def read(reply: HttpReply) -> Elements[Element]:
            return read_answer(reply.body, element, status=reply.status)

        return await self._caller.call(request.action, sign=sign, read=read, scope=f"{self._workspace} {request.path}")

    def _sign(self, request: Request, credentials: Credentials, now: float) -> Outgoing:
        headers = {
            "host": self._endpoint.authority,
            "accept": "application/json",
            "user-agent": self._user_agent,
            "workspace": self._workspace,
            "x-acs-action": request.action,
            "x-acs-version": request.version,
            "x-acs-date": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": secrets.token_hex(16),
            "x-acs-content-sha256": EMPTY_SHA256,
        }
        if credentials.security_token:
            headers["x-acs-accesskey-id"] = credentials.access_key_id
            headers["x-acs-security-token"] = credentials.security_token
        signature = sign_acs3(
            method="GET",
            path=request.path,
            query=request.canonical_query,
            headers=headers.items(),
            signed_headers=default_signed_headers(headers),
            payload_sha256=EMPTY_SHA256,
            access_key_id=credentials.access_key_id,
            access_key_secret=credentials.access_key_secret,
        )
        headers["authorization"] = signature.authorization
        return Outgoing(self._endpoint.url + request.target, headers)
