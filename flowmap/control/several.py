"""Several control planes as one: the workspace of a question selects the plane."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from flowmap.control.port import ControlPlane, ControlStatus, ListedDeployment, Listing, OwnersAnswer
from flowmap.model.address import Endpoint
from flowmap.model.deployment import Job


class SeveralControlPlanes:
    """Implements ``flowmap.control.port.ControlPlane``. Owners carry the workspace of the plane that named them."""

    def __init__(self, first: ControlPlane, others: Mapping[str, ControlPlane]) -> None:
        """``first`` has every workspace that is not a key of ``others``; its pauses are those of the status."""
        self._first = first
        self._others = others

    @property
    def endpoint(self) -> str:
        return ", ".join(plane.endpoint for plane in (self._first, *self._others.values()))

    @property
    def workspace(self) -> str:
        return self._first.workspace

    def start(self) -> None:
        for plane in (self._first, *self._others.values()):
            plane.start()

    async def find_owners(
        self, workspace: str, namespace: str, source: Endpoint | None, destination: Endpoint | None
    ) -> OwnersAnswer:
        return await self._of(workspace).find_owners(workspace, namespace, source, destination)

    async def list_deployments(self, workspace: str, namespace: str) -> Listing[ListedDeployment]:
        return await self._of(workspace).list_deployments(workspace, namespace)

    async def list_jobs(self, workspace: str, namespace: str, deployment_id: str) -> Listing[Job]:
        return await self._of(workspace).list_jobs(workspace, namespace, deployment_id)

    def status(self) -> ControlStatus:
        found = self._first.status()
        others = (cluster for plane in self._others.values() for cluster in plane.status().clusters)
        return replace(found, clusters=(*found.clusters, *others))

    async def aclose(self) -> None:
        await asyncio.gather(self._first.aclose(), *(plane.aclose() for plane in self._others.values()))

    def _of(self, workspace: str) -> ControlPlane:
        return self._others.get(workspace, self._first)
