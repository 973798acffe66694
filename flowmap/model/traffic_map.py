"""The traffic map: deployments on one side, peers on the other, and the links between them. Values are immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from flowmap.model.deployment import Owner, State

OTHERS = "others"
"""Id and kind of the node that sums up all but the largest."""


class Order(StrEnum):
    """What makes a node large. A rate is bytes a second."""

    RATE = "rate"
    TRANSMIT_RATE = "transmitRate"
    RECEIVE_RATE = "receiveRate"
    BYTES = "bytes"
    TRANSMIT_BYTES = "transmitBytes"
    RECEIVE_BYTES = "receiveBytes"
    OPEN_CONNECTIONS = "openConnections"


@dataclass(frozen=True, slots=True)
class MapQuery:
    """Which traffic to show; None passes everything."""

    text: str = ""
    """Words between spaces. Each must occur in the name, the id or the namespace of a deployment, or in the peer."""
    namespace: str | None = None
    label: tuple[str, str] | None = None
    """Key and value of a deployment's label."""
    state: State | None = None
    deployment: str | None = None
    """Id or name."""
    peer: str | None = None
    order: Order = Order.RATE
    limit: int = 30
    """Nodes of each side; the rest is summed up in ``others``."""
    counts: str | None = None
    """``ip`` or ``payload``: the traffic whose bytes are counted so. None: what most connections have."""

    @property
    def by_owner(self) -> bool:
        """Whether to leave out traffic without owner and peer, such as that of pending flows."""
        return bool(self.text or self.namespace or self.label or self.deployment or self.peer)


class Figures(NamedTuple):
    """Traffic as seen from the deployment. Rates are bytes a second, None if they are not known."""

    transmit_bytes: int = 0
    receive_bytes: int = 0
    transmit_rate: float | None = None
    receive_rate: float | None = None
    connections: int = 0
    open_connections: int = 0


@dataclass(frozen=True, slots=True)
class MapDeployment:
    """One node on the side of the deployments: also a set of them, or traffic without an owner."""

    id: str
    """Stays the same over restarts of the daemon."""
    kind: str
    """``deployment``, ``shared``, ``unattributed``, ``internal``, ``pending`` or ``others``."""
    name: str
    reason: str
    """Why there is no owner (``unknown``, ``ambiguous``, …); else empty."""
    owners: tuple[Owner, ...]
    labels: Mapping[str, str]
    figures: Figures
    folded: int = 0
    """Number of nodes summed up in this one; 0: it is one itself."""


@dataclass(frozen=True, slots=True)
class MapPeer:
    """One node on the side of the peers."""

    id: str
    peer: str
    protocol: str
    figures: Figures
    folded: int = 0


@dataclass(frozen=True, slots=True)
class MapLink:
    """Traffic between two nodes, by their ids."""

    deployment: str
    peer: str
    figures: Figures
    change: str = ""
    """Of a comparison: ``new``, ``gone`` or empty."""
    before: Figures | None = None
    """The figures of the earlier window; None without a comparison."""


@dataclass(frozen=True, slots=True)
class TrafficMap:
    """What a query found. Links, deployments and peers have the same sums, exactly."""

    since: float | None
    """Start of the window, seconds since the epoch; live: of the time that the rates are of. None: no rates yet."""
    until: float
    """End of that time: when the counters were read."""
    live: bool
    deployments: tuple[MapDeployment, ...]
    """The largest first; nodes without an owner follow, then ``others``."""
    peers: tuple[MapPeer, ...]
    links: tuple[MapLink, ...]
    total: Figures
    namespaces: tuple[str, ...] = ()
    """All namespaces, also those that the query leaves out."""
    new: int = 0
    """Of a comparison: pairs of deployment and peer in the later window only."""
    gone: int = 0
    """Pairs in the earlier window only."""
    counts: str = ""
    """Of a fleet: ``ip`` or ``payload``, what the bytes are."""
    incomplete: tuple[str, ...] = ()
    """What is missing on the map, a line each."""
