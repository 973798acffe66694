"""Connects the catalog, which is refreshed on the event loop, with the engine's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowmap.attribute.calls.budget import Permits
from flowmap.attribute.jobs import latest
from flowmap.control.alibaba.catalog.catalog import OVER, CatalogEntry, DeploymentCatalog, JobRun, JobsListing, Key
from flowmap.control.alibaba.catalog.refresh import CatalogRefresher, Label
from flowmap.engine.engine import Engine
from flowmap.errors import QueryError
from flowmap.export.snapshot import CatalogReport
from flowmap.model.deployment import DeploymentInfo, DeploymentKey, Job, Jobs, JobSelection, Owner

BY_IP = "GetDeploymentsByIp"
"""The operation of the engine's questions."""


class Gate:
    """Delays HTTP exchanges until the engine's call budget allows them. Used in one event loop."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits

    async def admit(self, operation: str, exchange: int) -> Callable[[], None]:
        """Wait for a permit; the result ends the call. The engine has charged the first exchange of a question."""
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
    """Ends nothing: a repeat has no place in flight of its own."""


class CatalogDirectory:
    """Descriptions from one catalog, from any thread; a ``flowmap.engine.accounting.DeploymentDirectory``."""

    def __init__(self, catalog: DeploymentCatalog, workspace: str) -> None:
        self._catalog = catalog
        self.workspace = workspace

    def lists(self, key: DeploymentKey) -> bool:
        """Whether the catalog has a deployment of that namespace and id."""
        return self._catalog.entry(key.namespace, key.deployment_id) is not None

    @property
    def generation(self) -> int:
        """Grows whenever a description may have changed."""
        return self._catalog.generation

    def describe(self, key: DeploymentKey, reported: DeploymentInfo | None) -> DeploymentInfo | None:
        """The newer of a deployment's entry in the catalog and ``reported``, with its jobs.

        ``reported`` is from the last answer about an address that named it.
        """
        found = self._catalog.entry(key.namespace, key.deployment_id)
        info = reported
        if found is not None:
            entry, seen_at = found
            info = _described(entry, seen_at, reported, self.workspace)
        listing = self._catalog.jobs(key.namespace, key.deployment_id)
        if info is None or listing is None:
            return info
        listed = _jobs(listing)
        return replace(info, jobs=latest(listed), job_selection=JobSelection.LATEST, listed=listed)

    def report(self) -> CatalogReport:
        """Figures for the page and the status."""
        catalog = self._catalog
        return CatalogReport(len(catalog), catalog.left_out, bool(catalog.suspicious), catalog.succeeded_at)


class CatalogDirectories:
    """The catalogs of several workspaces as one directory."""

    def __init__(self, parts: Sequence[CatalogDirectory]) -> None:
        self._parts = parts

    @property
    def generation(self) -> int:
        """Grows whenever a description may have changed."""
        return sum(part.generation for part in self._parts)

    def describe(self, key: DeploymentKey, reported: DeploymentInfo | None) -> DeploymentInfo | None:
        """As :meth:`CatalogDirectory.describe`, from the catalog of the deployment's workspace.

        A control plane may name a workspace otherwise than the configuration does: then from the one that lists it.
        """
        own = (part for part in self._parts if part.workspace == key.workspace)
        listing = (part for part in self._parts if part.lists(key))
        part = next(own, None) or next(listing, self._parts[0])
        return part.describe(key, reported)

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
    """The refreshers of several workspaces as one task."""

    def __init__(self, parts: Sequence[CatalogRefresher]) -> None:
        self.parts = tuple(parts)

    @property
    def runs(self) -> bool:
        """Whether none of the tasks has ended."""
        return all(part.runs for part in self.parts)

    def start(self) -> None:
        """Start all tasks."""
        for part in self.parts:
            part.start()

    async def aclose(self) -> None:
        """Cancel the tasks and their calls."""
        await asyncio.gather(*(part.aclose() for part in self.parts))

    def configure(self, *, every: float, label: Label | None) -> None:
        """Change the settings from the next listing on."""
        for part in self.parts:
            part.configure(every=every, label=label)

    def status(self) -> dict[str, object]:
        """Facts for the status answer, each joined as :data:`JOINED` says."""
        statuses = [part.status() for part in self.parts]
        return {name: JOINED[name]([status[name] for status in statuses]) for name in statuses[0]}


def _sum(values: Sequence[Any]) -> object:
    return sum(values)


def _oldest(times: Sequence[Any]) -> object:
    return None if None in times else min(times)


def _longest(ages: Sequence[Any]) -> object:
    return None if None in ages else max(ages)


def _listed(texts: Sequence[Any]) -> object:
    return "; ".join(text for text in texts if text is not None) or None


JOINED: Mapping[str, Callable[[Sequence[Any]], object]] = {
    "catalog_deployments": _sum,
    "catalog_left_out": _sum,
    "catalog_listed_at": _oldest,
    "catalog_age_seconds": _longest,
    "catalog_suspicious": _listed,
    "catalog_error": _listed,
}
"""How each fact of ``CatalogRefresher.status`` is joined over all workspaces."""


async def owners_seen(engine: Engine, limit: int, workspace: str | None = None) -> Sequence[Key] | None:
    """Namespaces and ids of deployments seen in traffic (of one workspace, or of all), the most recently seen first;
    None if the engine is too busy to answer."""

    def keys() -> Sequence[Key]:
        seen = engine.accounting.owners_seen(limit)
        return [(key.namespace, key.deployment_id) for key in seen if workspace in (None, key.workspace)]

    try:
        return await asyncio.wrap_future(engine.call(keys))
    except QueryError:
        return None


def _described(entry: CatalogEntry, seen_at: float, reported: DeploymentInfo | None, workspace: str) -> DeploymentInfo:
    packages = tuple(dict.fromkeys(use.uri for use in entry.files))
    if reported is not None and reported.seen_at > seen_at:
        return replace(reported, packages=packages)
    usual = reported or DeploymentInfo(Owner("", "", "", ""))
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
