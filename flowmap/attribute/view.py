"""Values that leave the attribution: what answers, listings and metrics are made from. All are immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from flowmap.flows.address import Endpoint

if TYPE_CHECKING:
    from flowmap.attribute.explanation import Explanation


class State(StrEnum):
    """What is known about the owner of a flow (correctness rules: never the first of many)."""

    ATTRIBUTED = "attributed"
    SHARED = "shared"
    UNKNOWN = "unknown"
    AMBIGUOUS = "ambiguous"
    PENDING = "pending"
    FAILED = "failed"


class Owner(NamedTuple):
    """Identity of a deployment and the name it had when it was asked for."""

    workspace: str
    namespace: str
    deployment_id: str
    name: str


class JobsAre(StrEnum):
    """Which of a deployment's jobs are given beside it."""

    UNLISTED = "unlisted"
    """None: they were not listed yet."""
    LATEST = "latest"
    """Those that are not over, or else the last."""
    ALL = "all"
    """Every job that is kept."""
    AT_START = "atStart"
    """Of a flow: those that ran when it began. Several cannot be told apart; none means that none is known."""
    RUNNING = "running"
    """Of a flow: those that were not over when last listed. It is not known which of a deployment's jobs it was."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job instance of a deployment; times in seconds since the epoch, by the control plane's clock."""

    job_id: str
    status: str
    started_at: float | None = None
    ended_at: float | None = None
    """None while it is not over, or where that is not known."""
    over: bool = False


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs of one deployment, as they were listed; those not over first, the newest before older ones."""

    jobs: tuple[Job, ...]
    asked_at: float
    """Seconds since the epoch by our clock: of jobs that began later nothing is known."""
    complete: bool
    """Whether no job is missing that ended after ``known_from``."""
    known_from: float
    """Seconds since the epoch, by the control plane's clock."""
    skew: float | None
    """Seconds by which the control plane's clock was ahead of ours; None where that is not known."""


@dataclass(frozen=True, slots=True)
class DeploymentInfo:
    """What the control plane last said about a deployment."""

    owner: Owner
    execution_mode: str = ""
    engine_version: str = ""
    creator: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    jobs_by_state: Mapping[str, int] = field(default_factory=dict)
    """Number of jobs by state (``running``, ``failed``, …), from the answer's job summary; empty if it had none."""
    jobs: tuple[Job, ...] = ()
    seen_at: float = 0.0
    """Seconds since the epoch of the answer this came from."""
    jobs_are: JobsAre = JobsAre.UNLISTED
    listed: Jobs | None = None
    """What ``jobs`` is chosen from; None if the jobs were not listed."""
    packages: tuple[str, ...] = ()
    """URIs of the files it is made of."""


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
    """Which rule of time let the answer count: ``inside``, ``around``, ``grace``, ``fast``; empty if none did."""
    owners: tuple[Owner, ...] = ()
    error: str | None = None
    """Why there is no answer, where the last try failed."""


class Contradiction(NamedTuple):
    """An answer that denies what was attributed. Times are monotonic seconds, those of the status answer epoch ones."""

    asked_at: float
    answered_at: float
    question: str
    """The shape and what was asked about: ``client 10.0.0.1``."""
    namespace: str
    attributed: tuple[Owner, ...]
    """Whose the flows are, or whom the range named; this stays."""
    answered: tuple[Owner, ...]
    """Whom the answer names."""
    flows: int
    """Open flows it denies; 0: only a range."""
    flow: tuple[Endpoint, Endpoint] | None
    """Client and server end of one of them."""


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


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """State of one source, for the status answer."""

    name: str
    up: bool
    records: int
    overruns: int
    lost: Mapping[str, int]
    resyncs: Mapping[str, int]
    notes: Mapping[str, str]
    error: str | None = None
    role: str = "traffic"
    """``traffic``: its records are counted; ``health``: it measures what another source counts."""
    why: str = ""
    """Why it is read, where it was not named in the configuration."""
    special: Mapping[str, int] = field(default_factory=dict)
    """Packets that count unlike others, by reason."""


class ReadingView(NamedTuple):
    """What questions of one shape have brought since the start."""

    shape: str
    asked: int
    answered: int
    named: int
    """Answers that named somebody."""
    silent: bool
    """Whether the shape names nobody anywhere, so that what it was asked is repeated less often."""


class AttributionReport(NamedTuple):
    """How the attribution stands."""

    readings: tuple[ReadingView, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    """The newest, the last one first."""
    tied_pairs: int = 0
    """Pairs of ends between which flows have several candidates."""
    ties_waiting: int = 0
    """Questions about both ends of such pairs for which there was no call."""
    hint: str | None = None
    """What the answers say about the settings."""


@dataclass(frozen=True, slots=True)
class StatusView:
    """The daemon's own state."""

    version: str
    started_at: float
    ready: bool
    sources: tuple[SourceStatus, ...]
    control_plane: Mapping[str, object]
    """Endpoint, last success and last error (times in epoch seconds), questions known and waiting, budget left."""
    flows: Mapping[str, int]
    """Open, pending, tracked and the limit."""
    bytes: Mapping[str, Mapping[str, int]]
    """Transmit and receive of ``observed``, ``attributed``, ``shared``, ``unattributed``, ``pending``, ``expired``."""
    conserved: bool
    """Whether observed equals the sum of the others, exactly, in both directions."""
    configuration: Mapping[str, object] = field(default_factory=dict)
    """The daemon's process id and file, and how the last reload went (times in epoch seconds)."""
    recording: Mapping[str, object] | None = None
    """How the recording of what happens stands: path, size, whether it goes on or why it ended; None without one."""
    attribution: AttributionReport = AttributionReport()
    """Its times are epoch seconds."""
    history: Mapping[str, object] | None = None
    """How the history file stands (times in epoch seconds); None without one."""
