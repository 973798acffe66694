"""Answers to questions of users: flows, attributions, traffic by peer. All values are immutable."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.workload import Local, Side, Workload

if TYPE_CHECKING:
    from flowmap.model.explanation import Explanation


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answer that an attribution is based on."""

    shape: str
    """``client``, ``sink``, ``source``, ``link`` or ``exact``."""
    confidence: str
    """``exact``, ``strong`` or ``candidate``."""
    asked_at: float | None
    """Seconds since the epoch; None if there is no answer."""
    answered_at: float | None
    origin: str
    """``live``, ``cached``, ``stale``, ``history`` or ``none``; ``continuity``: an earlier answer, as the same process
    has had the client's connections since; of captures also ``catalog``, and ``assumed``: today's answer, taken for
    the capture's time."""
    rule: str = ""
    """The rule of time by which the answer counts: ``inside``, ``around``, ``grace``, ``continuity``, ``fast``,
    ``assumed``; empty if none does."""
    owners: tuple[Owner, ...] = ()
    error: str | None = None
    """Cause of the last failure; None if the last call returned an answer."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one host of a fleet counted of a flow."""

    side: Side | None
    """The endpoint that the host has; None if it does not know."""
    host: str
    counts: str
    """``ip`` or ``payload``: what its bytes are."""
    started_at: float | None
    """Seconds since the epoch, as in :class:`FlowView`."""
    ended_at: float | None
    transmit_bytes: int
    receive_bytes: int
    transmit_packets: int
    receive_packets: int
    state: State
    source: str


@dataclass(frozen=True, slots=True)
class FlowView:
    """One flow as users see it; counters are what flowmap observed of it."""

    protocol: str
    client: Endpoint
    server: Endpoint
    translated: tuple[Endpoint, Endpoint] | None
    """Client and server endpoint as the server sees them, if NAT changed either; else None."""
    started_at: float | None
    """Seconds since the epoch; None if the flow is older than the daemon and the kernel does not report its start."""
    ended_at: float | None
    transmit_bytes: int
    receive_bytes: int
    transmit_packets: int
    receive_packets: int
    state: State
    deployments: tuple[DeploymentInfo, ...]
    guessed: bool
    """Whether the orientation (which endpoint is the client) is a guess."""
    source: str
    local: tuple[Local, ...] = ()
    """The workloads at the endpoints that are on this host, the client's first; of a fleet: on any host."""
    observations: tuple[Observation, ...] = ()
    """Of a fleet: what each host saw, the client's first. The counters above are the first one's, not a sum."""
    namespace: NetworkNamespace | None = None
    """The network namespace in which it was counted; None: the daemon's own."""


@dataclass(frozen=True, slots=True)
class AttributionView:
    """The owner of one connection, with the evidence."""

    state: State
    deployments: tuple[DeploymentInfo, ...]
    evidence: tuple[Evidence, ...]
    flow: FlowView | None
    cause: str | None = None
    """Why there is no name, in one line; None if there is one."""
    explanation: Explanation | None = None
    """The explanation, if the query asked for it."""
    matches: int = 0
    """Number of connections that match, if they are several and differ in their owners or network namespaces."""

    @property
    def observed(self) -> bool:
        """Whether flowmap saw the connection; else the owners are those of its endpoints."""
        return self.flow is not None or self.matches > 0


class Connection(NamedTuple):
    """A connection as a user names it; port None means any."""

    source: Address
    source_port: int | None
    destination: Address
    destination_port: int | None
    protocol: int
    """IANA number."""
    netns: str | None = None
    """Network namespace, by name or inode; None: any."""

    @property
    def ends(self) -> tuple[Address, int | None, Address, int | None, int]:
        """Both endpoints and the protocol."""
        return self.source, self.source_port, self.destination, self.destination_port, self.protocol

    @property
    def lookup(self) -> Lookup:
        """The same, in the form of a connection that may be known in part."""
        client = EndpointFilter(self.source, self.source_port)
        return Lookup(client, EndpointFilter(self.destination, self.destination_port), self.protocol, self.netns)


class EndpointFilter(NamedTuple):
    """An address, and a port or any."""

    address: Address
    port: int | None


class Lookup(NamedTuple):
    """A connection by as much of it as is known: a process list of a database has client endpoints only."""

    client: EndpointFilter
    server: EndpointFilter | None
    protocol: int
    """IANA number."""
    netns: str | None = None
    """Network namespace, by name or inode; None: any."""

    @property
    def service(self) -> Endpoint | None:
        """The server endpoint, with port 0 for any; None if it is not known."""
        return None if self.server is None else Endpoint(self.server.address, self.server.port or 0)

    @property
    def is_exact(self) -> bool:
        """Whether both endpoints are complete."""
        return self.client.port is not None and self.server is not None and self.server.port is not None


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """Which flows to list; None passes every flow."""

    deployment: str | None = None
    """Deployment id or name."""
    peer: str | None = None
    """Configured peer name, ``ip:port`` of the service endpoint, or its address alone."""
    client: EndpointFilter | None = None
    state: State | None = None
    protocol: int | None = None
    """IANA number."""
    since: float | None = None
    """Seconds since the epoch; with ``since`` or ``until``, closed flows are listed too."""
    until: float | None = None
    container: str | None = None
    """Id of a container, or the start of it, or its name; at either endpoint, as for ``unit``."""
    unit: str | None = None
    """Name of a systemd unit, with or without ``.service``."""
    netns: str | None = None
    """Network namespace, by name or inode, in which the flow was counted or has an endpoint."""

    @property
    def of_past(self) -> bool:
        """Whether closed flows are wanted too."""
        return self.since is not None or self.until is not None

    @property
    def of_workload(self) -> bool:
        """Whether the workload of a flow matters."""
        return self.container is not None or self.unit is not None

    def admits(self, workload: Workload) -> bool:
        """Whether flows of the workload pass, as far as container and unit are concerned."""
        inside = self.container is None or workload.is_called(self.container)
        return inside and (self.unit is None or workload.unit in (self.unit, f"{self.unit}.service"))

    @property
    def window(self) -> tuple[float, float]:
        """``since`` and ``until``; infinite where they are None."""
        return -math.inf if self.since is None else self.since, math.inf if self.until is None else self.until


@dataclass(frozen=True, slots=True)
class FlowPage:
    """One page of a listing; ``next_cursor`` is None on the last page."""

    flows: tuple[FlowView, ...]
    next_cursor: str | None
    incomplete: tuple[str, ...] = ()
    """What is missing in the answer, a line each."""


@dataclass(frozen=True, slots=True)
class FlowChanges:
    """The flows that changed between two looks at the table."""

    flows: tuple[FlowView, ...]
    """New flows, and those with another state, other owners, or an end; the newest last."""
    left_out: int
    """Number of further flows that changed."""
    gone: tuple[FlowView, ...]
    """Flows that were reported before and are not listed any more, as last reported: their end is not known here."""
    marks: object
    """What to compare the next look with."""


class ByteCount(NamedTuple):
    """Exact bytes in both directions."""

    transmit: int = 0
    receive: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Running totals of bytes and packets, as seen from the deployment."""

    transmit_bytes: int = 0
    receive_bytes: int = 0
    transmit_packets: int = 0
    receive_packets: int = 0
    connections: int = 0
    open_connections: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.transmit_bytes + other.transmit_bytes,
            self.receive_bytes + other.receive_bytes,
            self.transmit_packets + other.transmit_packets,
            self.receive_packets + other.receive_packets,
            self.connections + other.connections,
            self.open_connections + other.open_connections,
        )


class Health(NamedTuple):
    """How well TCP does between a deployment and a peer, as the kernel of this host reports it."""

    retransmits: int
    """Segments that this host sent again, since the daemon started."""
    round_trip: float | None
    """Mean smoothed round-trip time of the open connections, in seconds; None if there is none with a sample."""


@dataclass(frozen=True, slots=True)
class PeerTraffic:
    """Traffic with one peer, of one deployment or of all; ``owners`` are the deployments."""

    peer: str
    protocol: str
    traffic: Traffic
    owners: tuple[Owner, ...] = ()
    health: Health | None = None
    """Of one deployment; None if no source reports it."""


@dataclass(frozen=True, slots=True)
class PeerSeen:
    """Traffic of a deployment with one peer in a time window: all bytes of the flows that were open in it."""

    peer: str
    protocol: str
    traffic: Traffic
    owners: tuple[Owner, ...]
    """The deployment, or the set of candidates that it is one of."""
    first_seen: float
    """Earliest start of a flow, seconds since the epoch."""
    last_seen: float
    """Latest end of a flow, or the time of the query if a flow is open."""
    state: State = State.ATTRIBUTED
    counts: str = ""
    """Of a fleet: ``ip`` or ``payload``, what the bytes are. Hosts may count differently; the two are not added."""

    @property
    def place(self) -> tuple[str, str, State, tuple[Owner, ...], str]:
        """What the traffic of one entry has in common."""
        return self.peer, self.protocol, self.state, self.owners, self.counts

    def joined(self, other: PeerSeen) -> PeerSeen:
        """The sum of both, which have the same :attr:`place`."""
        first, last = min(self.first_seen, other.first_seen), max(self.last_seen, other.last_seen)
        return replace(self, traffic=self.traffic + other.traffic, first_seen=first, last_seen=last)


@dataclass(frozen=True, slots=True)
class PeerWindow:
    """The peers of a deployment in a time window."""

    since: float
    until: float
    peers: tuple[PeerSeen, ...]
    incomplete: tuple[str, ...] = ()
    """What is missing in the answer, a line each."""
    sums_until: float | None = None
    """Of a fleet: connections that ended before are sums by hour or day, and count in the one in which they ended."""


@dataclass(frozen=True, slots=True)
class PeerChanges:
    """The peers that appeared and vanished between two time windows."""

    before: PeerWindow
    now: PeerWindow
    new: tuple[PeerSeen, ...]
    """Seen in the later window only."""
    vanished: tuple[PeerSeen, ...]
    """Seen in the earlier window only."""

    @property
    def incomplete(self) -> tuple[str, ...]:
        """What is missing in either window, a line each."""
        return tuple(dict.fromkeys((*self.before.incomplete, *self.now.incomplete)))


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A deployment with traffic, and its totals by peer: its own, and those that it shares with others."""

    info: DeploymentInfo
    traffic: Traffic
    peers: tuple[PeerTraffic, ...]
    shared: tuple[PeerTraffic, ...] = ()
