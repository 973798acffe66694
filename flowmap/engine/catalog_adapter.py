"""The catalog in the daemon: what stands between its refresh on the event loop and the writer's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from flowmap.attribute.calls.budget import Permits
from flowmap.attribute.jobs import latest
from flowmap.control.catalog.catalog import DeploymentCatalog, DeploymentKey
from flowmap.control.port import ListedDeployment
from flowmap.engine.engine import Engine
from flowmap.errors import QueryError
from flowmap.export.snapshot import CatalogReport
from flowmap.model.deployment import DeploymentInfo, JobSelection


class Gate:
    """Lets HTTP exchanges begin as the writer's budget allows. Used in one event loop."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits

    async def admit(self, is_question: bool, exchange: int) -> Callable[[], None]:
        """As ``flowmap.control.port.Admit``. The engine paid for the first exchange of a question before it asked."""
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
    """A repeated exchange uses the place in flight of its question."""


class CatalogDirectory:
    """Implements ``flowmap.engine.accounting.DeploymentDirectory``: look-ups in the catalog, from any thread."""

    def __init__(self, catalog: DeploymentCatalog) -> None:
        self._catalog = catalog

    @property
    def generation(self) -> int:
        """Grows whenever a description may have changed."""
        return self._catalog.generation

    def describe(self, namespace: str, deployment_id: str, told: DeploymentInfo | None) -> DeploymentInfo | None:
        """What is known of a deployment; ``told`` is its description in the last answer about an address."""
        workspace = told.owner.workspace if told is not None else None
        key = self._catalog.resolve_key(workspace, namespace, deployment_id)
        found = self._catalog.entry(key)
        info = told if found is None else _described(*found, told)
        listed = self._catalog.jobs(key)
        if info is None or listed is None:
            return info
        return replace(info, jobs=latest(listed), job_selection=JobSelection.LATEST, listed=listed)

    def report(self) -> CatalogReport:
        """Figures for the page and the status."""
        catalog = self._catalog
        return CatalogReport(len(catalog), catalog.left_out, bool(catalog.suspicious), catalog.succeeded_at)


async def deployments_seen(engine: Engine, catalog: DeploymentCatalog, limit: int) -> list[DeploymentKey] | None:
    """Deployments seen in traffic, the most recently seen first; None if the engine is too busy to answer."""

    def look() -> list[DeploymentKey]:
        described = engine.accounting.deployments
        return [
            catalog.resolve_key(described[key].owner.workspace if key in described else None, *key)
            for key in engine.accounting.owners_seen(limit)
        ]

    try:
        return await asyncio.wrap_future(engine.call(look))
    except QueryError:
        return None


def _described(entry: ListedDeployment, seen_at: float, told: DeploymentInfo | None) -> DeploymentInfo:
    """The later of both descriptions; what the list lacks is taken from ``told``."""
    if told is not None and told.seen_at > seen_at:
        return replace(told, packages=entry.packages)
    usual = told or DeploymentInfo(entry.owner)
    return DeploymentInfo(
        owner=entry.owner,
        execution_mode=entry.execution_mode,
        engine_version=entry.engine_version,
        creator=entry.creator,
        labels=usual.labels if entry.labels is None else entry.labels,
        jobs_by_state=usual.jobs_by_state if entry.jobs_by_state is None else entry.jobs_by_state,
        seen_at=seen_at,
        packages=entry.packages,
    )
