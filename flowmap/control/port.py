"""The port to a control plane: what flowmap asks and the values it gets. The folders beside it implement it.

All calls raise a ``ControlError`` if there is no usable answer. Times are epoch seconds of this host's clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from flowmap.model.address import Endpoint
from flowmap.model.deployment import DeploymentInfo, Job, Owner
from flowmap.model.status import FlinkClusterStatus
from flowmap.model.tenure import Holders

T = TypeVar("T")

Admit = Callable[[bool, int], Awaitable[Callable[[], None]]]
"""Waited for before every exchange with a control plane. Arguments: whether it serves :meth:`ControlPlane.find_owners`,
and its number within its call, from 1. The result is called when the exchange has ended."""


@dataclass(frozen=True, slots=True)
class OwnersAnswer:
    """The deployments that have a connection with the given endpoints."""

    deployments: tuple[DeploymentInfo, ...]
    asked_at: float
    """The answer was true at a moment between this and ``answered_at``. An implementation that answers from data it has
    read before gives the time at which that reading began."""
    answered_at: float
    unreadable: int = 0
    """Elements that could not be read. Other deployments than the given ones may then be owners, too."""
    roles: frozenset[Owner] = frozenset()
    """What the endpoint is to clusters of open-source Flink; see :class:`flowmap.model.deployment.Role`."""
    holders: Holders | None = None
    """The owners of the endpoint over time, from a control plane that reads it repeatedly. For every moment since the
    first reading, the answer says which owners certainly had it, which perhaps, and which certainly did not."""
    instants: tuple[float, float] | None = None
    """``asked_at`` and ``answered_at`` as monotonic seconds, from an implementation that knows them: the call may be
    another one than that which returns the answer."""


@dataclass(frozen=True, slots=True)
class ListedDeployment:
    """A deployment as a listing describes it."""

    owner: Owner
    execution_mode: str = ""
    engine_version: str = ""
    creator: str = ""
    labels: Mapping[str, str] | None = None
    """None if the listing has no labels of it, which differs from a deployment without labels."""
    jobs_by_state: Mapping[str, int] | None = None
    """Number of jobs by state in lower case; None if the listing does not give it."""
    packages: tuple[str, ...] = ()
    """URIs of the files it uses."""


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A listing, as far as it could be read."""

    items: tuple[T, ...]
    gap: str = ""
    """Why items may be missing; empty if the listing is complete."""
    asked_at: float | None = None
    """When it was asked for, if that was before the call that returned it."""


@dataclass(frozen=True, slots=True)
class ControlStatus:
    """State of the connection to a control plane."""

    breaker_open: bool = False
    """Whether calls are suspended because too many failed in a row."""
    resting_for: float = 0.0
    """Seconds until the next call makes sense: a pause the server asked for, or an open breaker."""
    clock_skew: float | None = None
    """Seconds by which the server's clock is ahead of that of this host; None before the first answer."""
    clusters: tuple[FlinkClusterStatus, ...] = ()
    """Clusters of open-source Flink that are known now."""


class ControlPlane(Protocol):
    """A service that knows which deployments have which connections. Used in one event loop."""

    @property
    def endpoint(self) -> str:
        """Where it is, for people."""

    @property
    def workspace(self) -> str:
        """The workspace that an empty ``workspace`` stands for."""

    def start(self) -> None:
        """Begin what runs in the background, in the running loop. Later calls do nothing."""

    async def find_owners(
        self, workspace: str, namespace: str, source: Endpoint | None, destination: Endpoint | None
    ) -> OwnersAnswer:
        """Deployments with a connection from ``source`` to ``destination``. None is any; port 0 is any port."""

    async def list_deployments(self, workspace: str, namespace: str) -> Listing[ListedDeployment]:
        """All deployments of a namespace, or those that the configuration selects."""

    async def list_jobs(self, workspace: str, namespace: str, deployment_id: str) -> Listing[Job]:
        """All jobs of a deployment."""

    def status(self) -> ControlStatus:
        """State of the connection now. May be called from any thread."""

    async def aclose(self) -> None:
        """Close the connections."""
