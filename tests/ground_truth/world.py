"""The embedded control plane of a run: it knows at every instant who has which address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowmap.model.address import format_endpoint
from flowmap.sandbox.plane import SandboxControlPlane
from tests.ground_truth.schedule import Connect, Deployment, Plan
from tests.support.host import WORKSPACE

Holders = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""By address: deployments that run there, and those that are only listed there, without a job that runs."""


class World:
    """Keeps the control plane's catalog true."""

    def __init__(self, plan: Plan, plane: SandboxControlPlane) -> None:
        self.plane = plane
        self.deployments: Mapping[str, Deployment] = {one.id: one for one in plan.deployments}
        self._plan = plan
        self._known = {one.id for one in plan.deployments if not one.late}
        self._connections: set[Connect] = set()

    def tell(self, holders: Holders) -> None:
        """From now on this is so."""
        self._known.update(name for owners, _ in holders.values() for name in owners)
        self.plane.set_catalog(self.catalog(holders))

    def connected(self, connect: Connect, holders: Holders) -> None:
        """This connection is about to be made."""
        if self._is_exact(connect.owner):
            self._connections.add(connect)
            self.tell(holders)

    def disconnected(self, connect: Connect, holders: Holders) -> None:
        """It is over."""
        if self._is_exact(connect.owner):
            self._connections.discard(connect)
            self.tell(holders)

    def catalog(self, holders: Holders) -> dict[str, Any]:
        """What the control plane knows while ``holders`` have the addresses."""
        stopped = {name for _, names in holders.values() for name in names}
        return {
            "workspace": WORKSPACE,
            "semantics": self._plan.semantics,
            "deployments": [self._entry(name, holders, running=name not in stopped) for name in sorted(self._known)],
        }

    def _entry(self, name: str, holders: Holders, *, running: bool) -> dict[str, Any]:
        ends = [format_endpoint(*self._plan.services[n].end) for n in self.deployments[name].services]
        return {
            "id": name,
            "name": f"name-{name}",
            "addresses": [address for address, (owners, listed) in holders.items() if name in (*owners, *listed)],
            "reads": ends[::2],
            "writes": ends[1::2],
            "connections": [self._ends(one) for one in self._connections if one.owner == name],
            "jobs": [{"id": f"job-{name}", "status": "RUNNING" if running else "CANCELLED"}],
        }

    def _ends(self, connect: Connect) -> dict[str, str]:
        server = self._plan.services[connect.service].end
        return {"client": format_endpoint(connect.address, connect.port), "server": format_endpoint(*server)}

    def _is_exact(self, owner: str | None) -> bool:
        return owner is not None and self.deployments[owner].exact
