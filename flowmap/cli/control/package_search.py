"""Reads all deployments and jobs into an index of the files that they use."""

from __future__ import annotations

import argparse
import asyncio
import re
from typing import NamedTuple

from flowmap.cli.control.flink_packages import search_flink
from flowmap.cli.output.progress import Progress
from flowmap.cli.shared.asking import Losses, Pace, blink_client, checked, read_all
from flowmap.cli.shared.flink import wanted_namespaces
from flowmap.config import Config
from flowmap.control.alibaba.api.client import ControlClient
from flowmap.control.alibaba.api.models import JobSummary
from flowmap.control.alibaba.api.packages import Found, PackageIndex, file_name, read_uri
from flowmap.daemon.clients import control_client
from flowmap.errors import AuthError, ControlError, QueryError


async def search(arguments: argparse.Namespace, config: Config, losses: Losses) -> tuple[Found, ...]:
    """Read everything at the configured call rate and find ``arguments.file`` in it.

    QueryError for a pattern that names no file. ControlError if nothing could be read; partial failures are losses.
    """
    pattern = arguments.file
    if read_uri(pattern) is None:
        raise QueryError("FILE_NAME: empty, or too long for a file name", field="file")
    of_flink = await search_flink(arguments, config, losses)
    asked = checked(wanted_namespaces(arguments, config))
    if not asked:
        return of_flink
    pace, index = Pace(config.control_plane), PackageIndex()
    legacy: tuple[Found, ...] = ()
    with Progress() as progress:
        async with control_client(config.control_plane) as client:
            reader = _Reader(client, index, pace, progress, losses)
            every = [one for namespace in asked for one in await reader.deployments(namespace)]
            if not arguments.no_jobs:
                await reader.jobs([one for one in every if one.may_have_jobs])
        if config.control_plane.blink.enabled:
            legacy = await _legacy(pattern, config, pace, losses, progress)
    if index.shed:
        losses.add(f"{index.shed} uses of files were left out: the index is full")
    return (*of_flink, *index.find(pattern), *legacy)


class _Listed(NamedTuple):
    """A listed deployment."""

    namespace: str
    identity: str
    name: str | None
    may_have_jobs: bool


class _Reader:
    """Reads the listings of one workspace into an index."""

    def __init__(
        self, client: ControlClient, index: PackageIndex, pace: Pace, progress: Progress, losses: Losses
    ) -> None:
        self._client = client
        self._index = index
        self._pace = pace
        self._progress = progress
        self._losses = losses

    async def deployments(self, namespace: str) -> list[_Listed]:
        """Read every deployment of a namespace."""
        listing = self._client.list_deployments(namespace=namespace)
        every: list[_Listed] = []
        async for page in self._pace.pages(listing):
            for one in page:
                self._index.add_deployment(one, namespace=namespace)
                every.append(_Listed(namespace, one.deployment_id, one.name, may_have_jobs(one.job_summary)))
            self._progress.show(f"{len(every)} of {listing.total} deployments of {namespace}")
        self._losses.of_listing(listing, f"deployments of {namespace}")
        return every

    async def jobs(self, those: list[_Listed]) -> None:
        """Read the jobs of those deployments, several at a time. AuthError is raised; other failures are counted."""
        waiting, failures = iter(those), []
        done = 0

        async def work() -> None:
            nonlocal done
            for one in waiting:
                try:
                    await self._jobs_of(one)
                except AuthError:
                    raise  # the next call would be refused too
                except ControlError as error:
                    failures.append(error)
                done += 1
                self._progress.show(f"jobs of {done} of {len(those)} deployments")

        workers = [asyncio.ensure_future(work()) for _ in range(self._pace.at_once)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if failures:
            self._losses.add(f"jobs of {len(failures)} deployments could not be read: {failures[0]}")

    async def _jobs_of(self, one: _Listed) -> None:
        listing = self._client.list_jobs(namespace=one.namespace, deployment_id=one.identity)
        async for page in self._pace.pages(listing):
            for job in page:
                self._index.add_job(job, namespace=one.namespace, deployment_id=one.identity, name=one.name)
        self._losses.of_listing(listing, f"jobs of {one.identity}")


def may_have_jobs(summary: JobSummary | None) -> bool:
    """Whether ``ListJobs`` can return jobs; False only if all counts are present and 0."""
    if summary is None:
        return True
    counts = (
        *(summary.starting, summary.running, summary.cancelling),
        *(summary.cancelled, summary.finished, summary.failed),
    )
    return any(count != 0 for count in counts)


async def _legacy(pattern: str, config: Config, pace: Pace, losses: Losses, progress: Progress) -> tuple[Found, ...]:
    """Jobs of the configured legacy projects. The legacy API finds exact file names only."""
    name, projects = file_name(read_uri(pattern) or ""), config.control_plane.blink.projects
    if not projects:
        losses.add("legacy API: no project was searched; set control_plane.blink.projects")
        return ()
    if re.search(r"[*?]", name):
        losses.add("legacy API: no project was searched; it does not support patterns, give an exact file name")
        return ()
    index = PackageIndex()
    async with blink_client(config.control_plane) as client:
        for project in projects:
            try:
                listing = client.get_ref_package_job(project=project, package=name)
                for job in await read_all(pace, listing, progress, f"jobs of {project}"):
                    index.add_blink_job(job, project=project, package=name)
            except ControlError as error:
                losses.add(f"legacy project {project}: {error}")
                continue
            losses.of_listing(listing, f"jobs of {project}")
    return index.find(name)
