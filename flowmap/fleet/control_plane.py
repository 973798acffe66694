"""A control plane whose calls the hosts of a fleet share: the port, with a member of the fleet behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from flowmap.control.port import ControlPlane, ControlStatus, ListedDeployment, Listing, OwnersAnswer
from flowmap.fleet.member import Member
from flowmap.fleet.requests import Kind, Request
from flowmap.model.address import Endpoint
from flowmap.model.deployment import Job

EndpointPair = tuple[str, str, Endpoint | None, Endpoint | None]
"""Workspace, namespace, source and destination of a question, as ``find_owners`` takes them."""


class SharedControlPlane:
    """Implements ``flowmap.control.port.ControlPlane``."""

    def __init__(self, control: ControlPlane, member: Member, *, label: str) -> None:
        """``control`` makes the calls of this host. ``label`` narrows its listing of deployments."""
        self.label = label
        self.member = member
        self._control = control

    @property
    def endpoint(self) -> str:
        return self._control.endpoint

    @property
    def workspace(self) -> str:
        return self._control.workspace

    def start(self) -> None:
        self._control.start()
        self.member.start()

    async def find_owners(
        self, workspace: str, namespace: str, source: Endpoint | None, destination: Endpoint | None
    ) -> OwnersAnswer:
        """The answer of this host's call or of another's; its instants say when that was."""
        return cast(OwnersAnswer, await self.member.get(self._request(workspace, namespace, source, destination)))

    async def list_deployments(self, workspace: str, namespace: str) -> Listing[ListedDeployment]:
        """A listing by this host or another; ``asked_at`` says when."""
        request = Request(Kind.DEPLOYMENTS, workspace or self.workspace, namespace, detail=self.label)
        return cast(Listing[ListedDeployment], await self.member.get(request))

    async def list_jobs(self, workspace: str, namespace: str, deployment_id: str) -> Listing[Job]:
        """A listing by this host or another; ``asked_at`` says when."""
        request = Request(Kind.JOBS, workspace or self.workspace, namespace, detail=deployment_id)
        return cast(Listing[Job], await self.member.get(request))

    def status(self) -> ControlStatus:
        """As of this host's calls, without their pauses: other hosts may be answered meanwhile."""
        return replace(self._control.status(), resting_for=0.0)

    async def aclose(self) -> None:
        await self.member.aclose()
        await self._control.aclose()

    def set_traffic(self, traffic: Mapping[EndpointPair, float]) -> None:
        """See :meth:`Member.set_traffic`."""
        self.member.set_traffic({self._request(*pair): amount for pair, amount in traffic.items()})

    def _request(
        self, workspace: str, namespace: str, source: Endpoint | None, destination: Endpoint | None
    ) -> Request:
        return Request(Kind.OWNERS, workspace or self.workspace, namespace, source, destination)
