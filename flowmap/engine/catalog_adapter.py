"""Connects the catalog, which is refreshed on the event loop, with the engine's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from flowmap.attribute.calls.budget import Permits
from flowmap.attribute.jobs import latest
from flowmap.attribute.questions import UNREADABLE
from flowmap.control.catalog.catalog import DeploymentCatalog
from flowmap.control.port import ListedDeployment
from flowmap.engine.accounting import FlowAccounting
from flowmap.engine.engine import Engine
from flowmap.errors import QueryError
from flowmap.export.snapshot import CatalogReport
from flowmap.model.deployment import FLINK_ROLES, DeploymentInfo, DeploymentKey, JobSelection


class Gate:
    """Delays HTTP exchanges until the engine's call budget allows them. Used in one event loop."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits

    async def admit(self, is_question: bool, exchange: int) -> Callable[[], None]:
        """As ``flowmap.control.port.Admit``. The engine has charged the first exchange of a question."""
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
    """Descriptions from the catalog, from any thread; a ``flowmap.engine.accounting.DeploymentDirectory``."""

    def __init__(self, catalog: DeploymentCatalog) -> None:
        self._catalog = catalog

    @property
    def generation(self) -> int:
        """Grows whenever a description may have changed."""
        return self._catalog.generation

    def describe(self, key: DeploymentKey, reported: DeploymentInfo | None) -> DeploymentInfo | None:
        """The newer of a deployment's entry in the catalog and ``reported``, with its jobs.

        ``reported`` is from the last answer about an address that named it.
        """
        key = self._catalog.resolve_key(key)
        found = self._catalog.entry(key)
        info = reported if found is None else _described(*found, reported)
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

    def keys() -> list[DeploymentKey]:
        return list(dict.fromkeys(catalog.resolve_key(key) for key in owners_seen(engine.accounting, limit)))

    try:
        return await asyncio.wrap_future(engine.call(keys))
    except QueryError:
        return None


def owners_seen(accounting: FlowAccounting, limit: int) -> tuple[DeploymentKey, ...]:
    """At most ``limit`` deployments that own flows or have traffic, the last decided first."""
    seen: dict[DeploymentKey, None] = {}
    for decision in reversed(accounting.attribution.decisions.values()):
        seen.update(dict.fromkeys(owner.key for owner in decision.owners))
        if len(seen) >= limit:
            break
    described = (info.owner.key for info in accounting.described())
    keys = (key for key in (*seen, *described) if key.workspace != FLINK_ROLES)
    return tuple(key for key in keys if key.deployment_id != UNREADABLE)[:limit]


def _described(entry: ListedDeployment, seen_at: float, reported: DeploymentInfo | None) -> DeploymentInfo:
    """The newer of both descriptions; what the list lacks is taken from ``reported``."""
    if reported is not None and reported.seen_at > seen_at:
        return replace(reported, packages=entry.packages)
    usual = reported or DeploymentInfo(entry.owner)
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
