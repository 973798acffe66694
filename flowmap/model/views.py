"""Answers to questions of users: flows, attributions, traffic by peer. All values are immutable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowmap.model.address import Endpoint
from flowmap.model.deployment import DeploymentInfo, Owner, State

if TYPE_CHECKING:
    from flowmap.model.explanation import Explanation


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answer an attribution rests on."""

    shape: str
    """``client``, ``sink``, ``source``, ``link`` or ``exact``."""
    confidence: str
    """``exact``, ``strong`` or ``candidate``."""
    asked_at: float | None
    """Seconds since the epoch; None if it was never asked."""
    answered_at: float | None
    origin: str
    """``live``, ``cached``, ``stale``, ``history`` or ``none``; of captures also ``catalog``, and ``assumed``: today's
    answer, taken for the capture's time."""
    rule: str = ""
    """Which rule of time let the answer count: ``inside``, ``around``, ``grace``, ``fast``, ``assumed``; empty if
    none did."""
    owners: tuple[Owner, ...] = ()
    error: str | None = None
    """Why there is no answer, where the last try failed."""


@dataclass(frozen=True, slots=True)
class FlowView:
    """One flow as told to people and programs. Counters are what flowmap observed of it."""

    protocol: str
    client: Endpoint
    server: Endpoint
    translated: tuple[Endpoint, Endpoint] | None
    """Client and server end as the server sees them, where NAT changed either."""
    started_at: float | None
    """Seconds since the epoch; None if the flow is older than the daemon and the kernel does not tell."""
    ended_at: float | None
    transmit_bytes: int
    receive_bytes: int
    transmit_packets: int
    receive_packets: int
    state: State
    deployments: tuple[DeploymentInfo, ...]
    guessed: bool
    """Whether the orientation (which end is the client) is a guess."""
    source: str


@dataclass(frozen=True, slots=True)
class AttributionView:
    """The answer to "who owns this connection?"."""

    state: State
    deployments: tuple[DeploymentInfo, ...]
    evidence: tuple[Evidence, ...]
    flow: FlowView | None
    cause: str | None = None
    """One line on why there is no name, where there is none."""
    explanation: Explanation | None = None
    """Where it was asked for."""


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """Which flows to list; None lets everything through."""

    deployment: str | None = None
    """Deployment id or name."""
    peer: str | None = None
    """Configured peer name, ``ip:port`` of the service end, or its address alone."""
    client: str | None = None
    """Client address, or ``ip:port``."""
    state: State | None = None
    protocol: str | None = None
    since: float | None = None
    """Seconds since the epoch; with either of these, flows of the past are listed, too."""
    until: float | None = None

    @property
    def of_past(self) -> bool:
        """Whether more is asked for than what is tracked now."""
        return self.since is not None or self.until is not None


@dataclass(frozen=True, slots=True)
class FlowPage:
    """A part of a listing; ``next_cursor`` is None on the last part."""

    flows: tuple[FlowView, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Running totals: bytes and packets as seen from the deployment's end."""

    transmit_bytes: int = 0
    receive_bytes: int = 0
    transmit_packets: int = 0
    receive_packets: int = 0
    connections: int = 0
    open_connections: int = 0


@dataclass(frozen=True, slots=True)
class PeerTraffic:
    """Traffic with one peer: of one deployment, or of all (``owners`` then says who)."""

    peer: str
    protocol: str
    traffic: Traffic
    owners: tuple[Owner, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerSeen:
    """Traffic of a deployment with one peer in a window of time: of the flows open in it, each whole."""

    peer: str
    protocol: str
    traffic: Traffic
    owners: tuple[Owner, ...]
    """The deployment, or the set it cannot be told from."""
    first_seen: float
    """Seconds since the epoch: earliest start."""
    last_seen: float
    """Latest end, or when it was asked for where a flow is open."""

    def joined(self, other: PeerSeen) -> PeerSeen:
        """Both together; they are of the same peer and owners."""
        traffic = Traffic(
            self.traffic.transmit_bytes + other.traffic.transmit_bytes,
            self.traffic.receive_bytes + other.traffic.receive_bytes,
            self.traffic.transmit_packets + other.traffic.transmit_packets,
            self.traffic.receive_packets + other.traffic.receive_packets,
            self.traffic.connections + other.traffic.connections,
            self.traffic.open_connections + other.traffic.open_connections,
        )
        first, last = min(self.first_seen, other.first_seen), max(self.last_seen, other.last_seen)
        return PeerSeen(self.peer, self.protocol, traffic, self.owners, first, last)


@dataclass(frozen=True, slots=True)
class PeerWindow:
    """The peers of a deployment in a window of time."""

    since: float
    until: float
    peers: tuple[PeerSeen, ...]


@dataclass(frozen=True, slots=True)
class PeerChanges:
    """Which peers came and went between two windows."""

    before: PeerWindow
    now: PeerWindow
    new: tuple[PeerSeen, ...]
    """Seen in the later window only."""
    vanished: tuple[PeerSeen, ...]
    """Seen in the earlier window only."""


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A deployment seen in traffic, with its totals by peer (its own, and what it shares with others)."""

    info: DeploymentInfo
    traffic: Traffic
    peers: tuple[PeerTraffic, ...]
    shared: tuple[PeerTraffic, ...] = ()
