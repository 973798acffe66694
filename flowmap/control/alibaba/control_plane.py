"""Realtime Compute for Apache Flink as a control plane: the API's elements as the values of the port."""

from __future__ import annotations

from typing import NamedTuple

from flowmap.control.alibaba.api.client import ControlClient, DeploymentsAnswer
from flowmap.control.alibaba.api.models import Deployment, Job
from flowmap.control.alibaba.api.packages import files_of
from flowmap.control.alibaba.api.requests import GET_DEPLOYMENTS_BY_LABEL
from flowmap.control.alibaba.credentials.base import Credentials, CredentialsProvider
from flowmap.control.http.route import Route
from flowmap.control.port import ControlStatus, ListedDeployment, Listing, OwnersAnswer
from flowmap.errors import BadRequest, ConfigError, ControlError
from flowmap.model import deployment as model
from flowmap.model.address import Endpoint
from flowmap.model.deployment import ENDED, DeploymentInfo, Owner


class Label(NamedTuple):
    """``control_plane.catalog.label``: a label and its alternative values."""

    key: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Label:
        """Read ``key=value1,value2``; ConfigError if the API cannot be asked about it."""
        key, _, values = text.partition("=")
        label = cls(key.strip(), tuple(value.strip() for value in values.split(",")))
        try:
            GET_DEPLOYMENTS_BY_LABEL.request("any", key=label.key, values=label.values)
        except BadRequest as error:
            raise ConfigError(f"control_plane.catalog.label: {error}") from error
        return label


class AlibabaControlPlane:
    """Implements ``flowmap.control.port.ControlPlane`` with a client of the 2022-07-18 API."""

    def __init__(self, client: ControlClient, *, label: Label | None = None) -> None:
        """``label`` narrows the listing of deployments."""
        self._client = client
        self._label = label

    @property
    def endpoint(self) -> str:
        return self._client.endpoint

    @property
    def workspace(self) -> str:
        return self._client.workspace

    def start(self) -> None:
        """Nothing: every question is a call."""

    async def find_owners(
        self, workspace: str, namespace: str, source: Endpoint | None, destination: Endpoint | None
    ) -> OwnersAnswer:
        """``GetDeploymentsByIp``."""
        answer = await ask_owners(self._client, workspace, namespace, source, destination)
        infos = tuple(describe(one, workspace or self.workspace, namespace, answer) for one in answer.deployments)
        return OwnersAnswer(infos, answer.asked_at, answer.answered_at, answer.dropped)

    async def list_deployments(self, workspace: str, namespace: str) -> Listing[ListedDeployment]:
        """``ListDeployments``, or ``GetDeploymentsByLabel`` with a label. A listing that fails on a later page is
        incomplete; one that fails on the first raises."""
        client, home = self._client.of_workspace(workspace), workspace or self.workspace
        if self._label is not None:
            answer = await client.get_deployments_by_label(
                namespace=namespace, key=self._label.key, values=self._label.values
            )
            found = tuple(listed(one, home, namespace) for one in answer.deployments)
            return Listing(found, _unreadable(answer.dropped))
        listing, items = client.list_deployments(namespace=namespace), list[ListedDeployment]()
        try:
            async for page in listing:  # page by page: an element of the API is much larger than what is kept of it
                items.extend(listed(one, home, namespace) for one in page)
        except ControlError as error:
            if not items:
                raise
            return Listing(tuple(items), str(error))
        return Listing(tuple(items), _gap(listing.dropped, listing.complete))

    async def list_jobs(self, workspace: str, namespace: str, deployment_id: str) -> Listing[model.Job]:
        """``ListJobs``. A server that ignores the filter lists the jobs of other deployments, too; they are dropped."""
        client = self._client.of_workspace(workspace)
        listing = client.list_jobs(namespace=namespace, deployment_id=deployment_id)
        own = (None, deployment_id)
        items = tuple([run(job) async for page in listing for job in page if job.deployment_id in own])
        return Listing(items, _gap(listing.dropped, listing.complete))

    async def keys(self) -> Credentials:
        """The access key of the next call; AuthError or Transient if there is none."""
        return await self._client.keys()

    def status(self) -> ControlStatus:
        client = self._client
        return ControlStatus(client.breaker_open, client.resting_for, client.clock_skew)

    def configure(
        self, *, timeout: float, credentials: CredentialsProvider | None, route: Route | None, label: Label | None
    ) -> None:
        """Apply settings from the next call on. Without ``credentials`` or ``route`` the present one stays."""
        self._client.configure(timeout=timeout, credentials=credentials)
        if route is not None:
            self._client.transport.configure(route)
        self._label = label

    async def aclose(self) -> None:
        await self._client.aclose()


async def ask_owners(
    client: ControlClient, workspace: str, namespace: str, source: Endpoint | None, destination: Endpoint | None
) -> DeploymentsAnswer:
    """As :meth:`AlibabaControlPlane.find_owners`, with the answer as the API gave it."""
    return await client.of_workspace(workspace).get_deployments_by_ip(
        namespace=namespace,
        src_ip=_address(source),
        src_port=_port(source),
        dst_ip=_address(destination),
        dst_port=_port(destination),
    )


PER_JOB = "PER_JOB"
"""Mode of a deployment with a cluster of its own; the other is ``SESSION``."""


def describe(deployment: Deployment, workspace: str, namespace: str, answer: DeploymentsAnswer) -> DeploymentInfo:
    """An element of an answer about endpoints."""
    found = listed(deployment, workspace, namespace)
    return DeploymentInfo(
        owner=found.owner,
        execution_mode=found.execution_mode,
        engine_version=found.engine_version,
        creator=found.creator,
        labels=found.labels or {},
        jobs_by_state=found.jobs_by_state or {},
        seen_at=answer.answered_at,
        own_cluster=deployment.deployment_target is not None and deployment.deployment_target.mode == PER_JOB,
    )


def listed(deployment: Deployment, workspace: str, namespace: str) -> ListedDeployment:
    """An element of a listing of ``namespace``."""
    uses = [use for use in files_of(deployment.artifact) if use is not None]
    return ListedDeployment(
        owner=Owner(
            deployment.workspace or workspace,
            deployment.namespace or namespace,
            deployment.deployment_id,
            deployment.name or deployment.deployment_id,
        ),
        execution_mode=deployment.execution_mode or "",
        engine_version=deployment.engine_version or "",
        creator=deployment.creator_name or deployment.creator or "",
        labels=deployment.labels,
        jobs_by_state=_jobs_by_state(deployment),
        packages=tuple(dict.fromkeys(use.uri for use in uses)),
    )


def run(job: Job) -> model.Job:
    """An element of ``ListJobs``. The example in the API's documents has an end for a running job; it is dropped."""
    status = (job.status.current_job_status or "").upper() if job.status else ""
    ended = status in ENDED
    return model.Job(job.job_id, status, job.start_time or None, (job.end_time or None) if ended else None, ended)


def _jobs_by_state(deployment: Deployment) -> dict[str, int] | None:
    summary = deployment.job_summary
    if summary is None:
        return None
    return {state: count for state, count in summary.model_dump().items() if isinstance(count, int)}


def _gap(dropped: int, complete: bool) -> str:
    return _unreadable(dropped) or ("" if complete else "it changed while it was read")


def _unreadable(dropped: int) -> str:
    return f"{dropped} of its elements could not be read" if dropped else ""


def _address(endpoint: Endpoint | None) -> str | None:
    return None if endpoint is None else str(endpoint.address)


def _port(endpoint: Endpoint | None) -> int | None:
    return endpoint.port or None if endpoint is not None else None
