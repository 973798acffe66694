"""The embedded control plane of a run: it knows who has which address, at once or as late as the mode says."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from flowmap.model.address import format_endpoint
from flowmap.sandbox.plane import SandboxControlPlane
from tests.ground_truth.modes import MODES
from tests.ground_truth.plan import Connect, Deployment, Plan, Tenure
from tests.support.host import WORKSPACE

EVERY = 0.1
"""Seconds between two changes of what a control plane with old data knows."""

Holders = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""By address: deployments that run there, and those that are only listed there, without a job that runs."""


class World:
    """Keeps the control plane's catalog as true as the mode wants it."""

    def __init__(self, plan: Plan, plane: SandboxControlPlane) -> None:
        self.plane = plane
        self.deployments: Mapping[str, Deployment] = {one.id: one for one in plan.deployments}
        self.data_age = MODES[plan.mode].data_age
        """The control plane's data is at most so many seconds old."""
        self._plan = plan
        self._tenures: dict[str, list[tuple[float, Tenure]]] = {}
        self._connections: set[Connect] = set()
        self._random = random.Random(plan.seed)

    def possible(self, wanted: Connect, owners: Sequence[str]) -> frozenset[str]:
        """Deployments that could have made this connection, as far as answers about each endpoint go.

        Where the control plane knows nothing of clients, each that uses the service.
        """
        known = self.deployments if MODES[self._plan.mode].scene == "dataflow" and wanted.owner else owners
        return frozenset(name for name in known if wanted.service in self.deployments[name].services)

    def hold(self, tenure: Tenure, now: float) -> None:
        """The tenure begins now; the control plane knows it after ``told_after``, and when its data is as new."""
        self._tenures.setdefault(tenure.address, []).append((now + tenure.told_after, tenure))

    def publish(self, age: float = 0.0) -> None:
        """Answer from data of ``age`` seconds before now."""
        moment = time.time() - age
        holders = {}
        for address, every in self._tenures.items():
            known = [tenure for at, tenure in every if at <= moment]
            if known:
                holders[address] = known[-1].owners, known[-1].stopped
        self.plane.set_catalog(self.catalog(holders))

    async def keep_publishing(self) -> None:
        """Where the control plane is late, answer from what it knows by and by."""
        late = any(tenure.told_after for tenure in self._plan.actions if isinstance(tenure, Tenure))
        while late or self.data_age:
            self.publish(self._random.choice((0.0, 0.5, 1.0)) * self.data_age)
            await asyncio.sleep(EVERY)

    def connected(self, connect: Connect) -> None:
        """This connection is about to be made."""
        if self._is_exact(connect.owner):
            self._connections.add(connect)
            self.publish()

    def disconnected(self, connect: Connect) -> None:
        """It is over."""
        if self._is_exact(connect.owner):
            self._connections.discard(connect)
            self.publish()

    def catalog(self, holders: Holders) -> dict[str, Any]:
        """What the control plane knows while ``holders`` have the addresses."""
        stopped = {name for _, names in holders.values() for name in names}
        known = {name for owners, _ in holders.values() for name in owners}
        known |= {one.id for one in self._plan.deployments if not one.late} | self._former()
        return {
            "workspace": WORKSPACE,
            "semantics": self._plan.semantics,
            "deployments": [self._entry(name, holders, running=name not in stopped) for name in sorted(known)],
        }

    def _former(self) -> set[str]:
        """Late deployments that had an address before."""
        now = time.time() - self.data_age
        return {name for every in self._tenures.values() for at, tenure in every if at <= now for name in tenure.owners}

    def _entry(self, name: str, holders: Holders, *, running: bool) -> dict[str, Any]:
        one = self.deployments[name]
        ends = [format_endpoint(*self._plan.services[n].end) for n in one.services if n not in one.undeclared]
        addresses = [address for address, (owners, listed) in holders.items() if name in (*owners, *listed)]
        addresses += [address for address, names in self._plan.hosts.items() if name in names]
        return {
            "id": name,
            "name": f"name-{name}",
            "addresses": addresses,
            "reads": ends[::2],
            "writes": ends[1::2],
            "connections": [self._ends(made) for made in self._connections if made.owner == name],
            "jobs": [{"id": f"job-{name}", "status": "RUNNING" if running else "CANCELLED"}],
        }

    def _ends(self, connect: Connect) -> dict[str, str]:
        server = self._plan.services[connect.service].end
        return {"client": format_endpoint(connect.address, connect.port), "server": format_endpoint(*server)}

    def _is_exact(self, owner: str | None) -> bool:
        return owner is not None and self.deployments[owner].exact
