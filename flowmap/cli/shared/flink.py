"""Clusters of open-source Flink for commands: listings in the values of the API, so that every listing looks alike."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from flowmap.cli.shared.asking import Losses
from flowmap.config import Config
from flowmap.control.alibaba.api.models import Deployment, Job
from flowmap.control.flink.control_plane import FlinkControlPlane
from flowmap.control.port import ListedDeployment
from flowmap.daemon.flink_clients import flink_control_plane
from flowmap.errors import ControlError
from flowmap.model import deployment as model
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import FLINK, DeploymentInfo

T = TypeVar("T")


def wanted_namespaces(arguments: argparse.Namespace, config: Config) -> tuple[str, ...]:
    """The namespaces of the control plane that a command asks: those given, without the names of clusters."""
    clusters = {one.name for one in config.flink.clusters}
    if not config.control_plane.enabled:
        return ()
    given = tuple(dict.fromkeys(arguments.namespace or config.control_plane.namespaces))
    return tuple(name for name in given if name not in clusters or name in config.control_plane.namespaces)


async def list_flink(arguments: argparse.Namespace, config: Config, losses: Losses) -> list[tuple[str, Deployment]]:
    """The deployments of every cluster, or of those of ``--namespace``."""

    async def read(plane: FlinkControlPlane, cluster: str) -> list[tuple[str, Deployment]]:
        listing = await plane.list_deployments(FLINK, cluster)
        return [(cluster, as_element(one)) for one in listing.items]

    return await each_cluster(arguments, config, losses, read)


async def flink_jobs(arguments: argparse.Namespace, config: Config, losses: Losses) -> list[tuple[str, Job]]:
    """The jobs of ``arguments.deployment_id`` in every cluster."""

    async def read(plane: FlinkControlPlane, cluster: str) -> list[tuple[str, Job]]:
        listing = await plane.list_jobs(FLINK, cluster, arguments.deployment_id)
        return [(cluster, _job_element(cluster, arguments.deployment_id, one)) for one in listing.items]

    return await each_cluster(arguments, config, losses, read)


async def flink_owners(arguments: argparse.Namespace, config: Config) -> list[tuple[str, Deployment]]:
    """The deployments with a job at the source address. Flink does not know destinations."""
    if not config.flink.enabled or arguments.src_ip is None:
        return []
    async with opened(config) as plane:
        answer = await plane.find_owners(FLINK, "", Endpoint(Address.parse(arguments.src_ip), 0), None)
        return [(one.owner.namespace, _described_element(one)) for one in answer.deployments]


def as_element(one: ListedDeployment) -> Deployment:
    """A listed deployment as the API's element."""
    counts = one.jobs_by_state or {}
    return Deployment.model_validate(
        {
            "deploymentId": one.owner.deployment_id,
            "name": one.owner.name,
            "namespace": one.owner.namespace,
            "workspace": one.owner.workspace,
            "executionMode": one.execution_mode,
            "engineVersion": one.engine_version,
            "labels": dict(one.labels or {}),
            "jobSummary": {
                "running": sum(count for state, count in counts.items() if state.upper() not in model.ENDED),
                **{state.lower(): counts.get(state.lower(), 0) for state in sorted(model.ENDED)},
            },
        }
    )


def _described_element(info: DeploymentInfo) -> Deployment:
    return as_element(ListedDeployment(info.owner, info.execution_mode, info.engine_version, "", info.labels))


def _job_element(cluster: str, deployment_id: str, job: model.Job) -> Job:
    times = {"startTime": job.started_at, "endTime": job.ended_at}
    return Job.model_validate(
        {
            "jobId": job.job_id,
            "deploymentId": deployment_id,
            "namespace": cluster,
            "workspace": FLINK,
            "status": {"currentJobStatus": job.status},
            **{name: int(at * 1000) for name, at in times.items() if at is not None},
        }
    )


async def each_cluster(
    arguments: argparse.Namespace,
    config: Config,
    losses: Losses,
    read: Callable[[FlinkControlPlane, str], Awaitable[list[T]]],
) -> list[T]:
    """What ``read`` finds in the clusters, or in those of ``--namespace``. One that cannot be read is a loss, unless it
    is the only one."""
    if not config.flink.enabled:
        return []
    found: list[T] = []
    async with opened(config) as plane:
        if config.flink.kubernetes.enabled:
            await plane.look_for_clusters()
            if plane.discovery_error is not None:
                losses.add(f"flink.kubernetes: {plane.discovery_error}")
        names = [name for name in plane.clusters if not arguments.namespace or name in arguments.namespace]
        for name in names:
            try:
                found += await read(plane, name)
            except ControlError as error:
                if len(names) == 1 and not config.control_plane.enabled:
                    raise
                losses.add(f"{name}: {error}")
    return found


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[FlinkControlPlane]:
    plane = flink_control_plane(config.flink)
    try:
        yield plane
    finally:
        await plane.aclose()
