"""What a plan is made of: services, deployments, and what happens when. ``schedule`` draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

End = tuple[str, int]

TCP, UDP = 6, 17


class Fate(StrEnum):
    """How a connection ends."""

    CLOSE = "close"
    ABORT = "abort"
    """Reset by the client."""
    VANISH = "vanish"
    """The client is gone and says nothing; the kernel of the router keeps the entry."""
    PUSHED = "pushed"
    """The same, and later the server sends data to the address's next owner."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service end, and the address clients call it by where that is another (DNAT)."""

    end: End
    called: End


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment and the services it talks to."""

    id: str
    services: tuple[int, ...]
    """Positions in the schedule's list."""
    exact: bool = False
    """The control plane knows each of its connections by the client's port."""
    late: bool = False
    """It exists from its first address on."""
    undeclared: tuple[int, ...] = ()
    """Those of its services that the control plane does not know of."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection, as somebody who has the address at that time."""

    at: float
    number: int
    address: str
    port: int
    protocol: int
    service: int
    owner: str | None
    """Deployment that makes it; None: a client that is not a deployment."""
    life: float
    pause: float
    """Seconds between two exchanges."""
    size: int
    """Bytes of a request; the answer has twice as many."""
    fate: Fate
    reuses: int | None = None
    """Number of the connection that had this tuple before."""
    stays: bool = False
    """Its client keeps it open when the address goes to a deployment: a program of the host itself."""


@dataclass(frozen=True, slots=True)
class Tenure:
    """The owners of an address from ``at`` on; empty: unowned."""

    at: float
    address: str
    owners: tuple[str, ...]
    stopped: tuple[str, ...] = ()
    """Deployments the control plane still lists there, without a running job."""
    told_after: float = 0.0
    """Seconds until the control plane knows."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Put these faults of the control plane in force, in place of those before."""

    at: float
    faults: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Storm:
    """Make so many unowned connections at once."""

    at: float
    datagrams: int


Action = Connect | Tenure | Faults | Storm


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is decided before a run."""

    seed: int
    duration: float
    mode: str
    """A key of ``modes.MODES``."""
    grace: float
    semantics: str
    services: tuple[Service, ...]
    deployments: tuple[Deployment, ...]
    addresses: tuple[str, ...]
    actions: tuple[Action, ...]
    """In order of time."""
    before: tuple[Connect, ...] = ()
    """Connections that are open when the daemon starts."""
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Deployments with a TaskManager on a service's host, by its address."""
