"""The catalog in the daemon: what stands between its refresh on the event loop and the writer's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from flowmap.attribute.budget import Permits
from flowmap.attribute.jobs import latest
from flowmap.attribute.view import DeploymentInfo, Job, Jobs, JobsAre, Owner
from flowmap.control.catalog import OVER, Catalog, CatalogEntry, JobRun, JobsListing, Key
from flowmap.engine import Engine
from flowmap.errors import QueryError
from flowmap.export.snapshot import CatalogReport

BY_IP = "GetDeploymentsByIp"
"""The operation of the writer's questions."""


class Gate:
    """Lets HTTP exchanges begin as the writer's budget allows. Used in one event loop."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits

    async def admit(self, operation: str, exchange: int) -> Callable[[], None]:
        """As ``control.caller.Admit``: the writer has paid for the first exchange of a question before it asked."""
        is_question = operation == BY_IP
        if is_question and exchange == 1:
            return _nothing
        permit = self._permits.wait(repeat=is_question)
        try:
            await asyncio.wrap_future(permit)
        except asyncio.CancelledError:
            if not permit.cancel() and not is_question:  # granted at that very moment
                self._permits.give_back()
            raise
        return _nothing if is_question else self._permits.give_back


def _nothing() -> None:
    """A repeat's place in flight is its question's."""


class Directory:
    """Implements ``flowmap.books.Directory``: look-ups in the catalog, from any thread."""

    def __init__(self, catalog: Catalog, workspace: str) -> None:
        self._catalog = catalog
        self._workspace = workspace

    @property
    def generation(self) -> int:
        """Grows whenever a description may have changed."""
        return self._catalog.generation

    def describe(self, namespace: str, deployment_id: str, told: DeploymentInfo | None) -> DeploymentInfo | None:
        """What is known of a deployment, with ``told``, what the last answer about an address said of it."""
        found = self._catalog.entry(namespace, deployment_id)
        info = told
        if found is not None:
            entry, seen_at = found
            info = _described(entry, seen_at, told, self._workspace)
        listing = self._catalog.jobs(namespace, deployment_id)
        if info is None or listing is None:
            return info
        listed = _jobs(listing)
        return replace(info, jobs=latest(listed), jobs_are=JobsAre.LATEST, listed=listed)

    def report(self) -> CatalogReport:
        """Figures for the page and the status."""
        catalog = self._catalog
        return CatalogReport(len(catalog), catalog.left_out, bool(catalog.suspicious), catalog.succeeded_at)


async def owners_seen(engine: Engine, limit: int) -> Sequence[Key] | None:
    """Deployments seen in traffic, the most recently seen first; None if the writer is too busy to say."""
    try:
        return await asyncio.wrap_future(engine.call(lambda: engine.books.owners_seen(limit)))
    except QueryError:
        return None


def _described(entry: CatalogEntry, seen_at: float, told: DeploymentInfo | None, workspace: str) -> DeploymentInfo:
    packages = tuple(dict.fromkeys(use.uri for use in entry.files))
    if told is not None and told.seen_at > seen_at:
        return replace(told, packages=packages)
    usual = told or DeploymentInfo(Owner("", "", "", ""))
    return DeploymentInfo(
        owner=Owner(entry.workspace or workspace, entry.namespace, entry.deployment_id, entry.name),
        execution_mode=entry.execution_mode,
        engine_version=entry.engine_version,
        creator=entry.creator,
        labels=usual.labels if entry.labels is None else entry.labels,
        jobs_by_state=usual.jobs_by_state if entry.jobs_by_state is None else entry.jobs_by_state,
        seen_at=seen_at,
        packages=packages,
    )


def _jobs(listing: JobsListing) -> Jobs:
    return Jobs(
        tuple(_job(run) for run in listing.jobs), listing.asked_at, listing.complete, listing.known_from, listing.skew
    )


def _job(run: JobRun) -> Job:
    over = run.status in OVER
    return Job(run.job_id, run.status, run.started_at, run.ended_at, over)
