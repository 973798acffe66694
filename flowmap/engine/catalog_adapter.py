"""The catalog in the daemon: what stands between its refresh on the event loop and the writer's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from flowmap.attribute.calls.budget import Permits
from flowmap.attribute.jobs import latest
from flowmap.control.catalog.catalog import OVER, CatalogEntry, DeploymentCatalog, JobRun, JobsListing, Key
from flowmap.control.catalog.refresh import CatalogRefresher, Label
from flowmap.engine.engine import Engine
from flowmap.errors import QueryError
from flowmap.export.snapshot import CatalogReport
from flowmap.model.deployment import DeploymentInfo, Job, Jobs, JobSelection, Owner

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


class CatalogDirectory:
    """Implements ``flowmap.engine.accounting.CatalogDirectory``: look-ups in the catalog, from any thread."""

    def __init__(self, catalog: DeploymentCatalog, workspace: str) -> None:
        self._catalog = catalog
        self.workspace = workspace

    def lists(self, namespace: str, deployment_id: str) -> bool:
        """Whether the catalog has the deployment."""
        return self._catalog.entry(namespace, deployment_id) is not None

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
            info = _described(entry, seen_at, told, self.workspace)
        listing = self._catalog.jobs(namespace, deployment_id)
        if info is None or listing is None:
            return info
        listed = _jobs(listing)
        return replace(info, jobs=latest(listed), job_selection=JobSelection.LATEST, listed=listed)

    def report(self) -> CatalogReport:
        """Figures for the page and the status."""
        catalog = self._catalog
        return CatalogReport(len(catalog), catalog.left_out, bool(catalog.suspicious), catalog.succeeded_at)


class CatalogDirectories:
    """The directories of several workspaces as one."""

    def __init__(self, parts: Sequence[CatalogDirectory]) -> None:
        self._parts = parts

    @property
    def generation(self) -> int:
        """Grows whenever a description may have changed."""
        return sum(part.generation for part in self._parts)

    def describe(self, namespace: str, deployment_id: str, told: DeploymentInfo | None) -> DeploymentInfo | None:
        """As :meth:`Directory.describe`, from the workspace that was told of, or else that lists the deployment."""
        workspace = told.owner.workspace if told is not None else None
        by_name = (part for part in self._parts if part.workspace == workspace)
        by_list = (part for part in self._parts if part.lists(namespace, deployment_id))
        part = next(by_name, None) or next(by_list, self._parts[0])
        return part.describe(namespace, deployment_id, told)

    def report(self) -> CatalogReport:
        """Figures for the page and the status, all workspaces together."""
        reports = [part.report() for part in self._parts]
        times = [one.succeeded_at for one in reports]
        known = [time for time in times if time is not None]
        return CatalogReport(
            sum(one.deployments for one in reports),
            sum(one.left_out for one in reports),
            any(one.suspicious for one in reports),
            min(known) if len(known) == len(times) else None,
        )


class CatalogRefreshers:
    """The refreshers of several workspaces as one."""

    def __init__(self, parts: Sequence[CatalogRefresher]) -> None:
        self.parts = tuple(parts)

    @property
    def runs(self) -> bool:
        """Whether none of the tasks has ended."""
        return all(part.runs for part in self.parts)

    def start(self) -> None:
        """Begin, soon."""
        for part in self.parts:
            part.start()

    async def aclose(self) -> None:
        """End the tasks and the calls under way."""
        await asyncio.gather(*(part.aclose() for part in self.parts))

    def configure(self, *, every: float, label: Label | None) -> None:
        """Other settings, from the next listing on."""
        for part in self.parts:
            part.configure(every=every, label=label)

    def status(self) -> dict[str, object]:
        """Facts for the status answer: numbers added up, else the worst of them."""
        statuses = [part.status() for part in self.parts]
        return {name: _together(name, [status[name] for status in statuses]) for name in statuses[0]}


def _together(name: str, values: Sequence[object]) -> object:
    if name.endswith(("_deployments", "_left_out")):
        return sum(value for value in values if isinstance(value, int))
    if name.endswith(("_at", "_seconds")):
        times = [value for value in values if isinstance(value, float)]
        oldest = min if name.endswith("_at") else max
        return oldest(times) if len(times) == len(values) else None
    return "; ".join(str(value) for value in values if value is not None) or None


async def owners_seen(engine: Engine, limit: int, workspace: str | None = None) -> Sequence[Key] | None:
    """Deployments seen in traffic (of one workspace), the most recently seen first; None if the writer is too busy to
    say."""

    def look() -> Sequence[Key]:
        seen, told = engine.accounting.owners_seen(limit), engine.accounting.deployments
        return [key for key in seen if workspace is None or (key in told and told[key].owner.workspace == workspace)]

    try:
        return await asyncio.wrap_future(engine.call(look))
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
