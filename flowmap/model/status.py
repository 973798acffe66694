"""The state of the daemon: sources, attribution, control plane. All values are immutable.

The answer of /api/v1/status has these fields, with their docstrings as descriptions. Fields named ``…_at`` are seconds
since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from flowmap.model.address import Endpoint
from flowmap.model.deployment import Owner
from flowmap.model.source import SourceStatus
from flowmap.model.views import ByteCount


class Contradiction(NamedTuple):
    """An answer that denies an attribution, which stays unchanged."""

    asked_at: float
    answered_at: float
    question: str
    """Shape and endpoint of the question: ``client 10.0.0.1``."""
    namespace: str
    attributed: tuple[Owner, ...]
    """Owners of the flows, or of the ownership interval."""
    answered: tuple[Owner, ...]
    """Owners in the answer."""
    flows: int
    """Number of open flows whose owners the answer denies; 0 if it denies an ownership interval only."""
    client: Endpoint | None
    """Client endpoint of one of the flows."""
    server: Endpoint | None
    """Server endpoint of the same flow."""


class ShapeReport(NamedTuple):
    """Counts of the questions of one shape since the start."""

    shape: str
    asked: int
    answered: int
    named: int
    """Answers that named a deployment."""
    never_names: bool
    """Whether the shape never names a deployment, so that its questions are repeated less often."""


class PendingFor(NamedTuple):
    """Pending flows by what they wait for. The sum is the number of pending flows at the same moment."""

    answer: int = 0
    """An answer of the control plane about the client or the service endpoint, which is under way or not due yet."""
    budget: int = 0
    """Such an answer that is due, but ``control_plane.rate`` allows too few calls."""
    outage: int = 0
    """Such an answer, while the control plane does not answer or calls to it are suspended."""
    proof: int = 0
    """Traffic of the client, as proof that it was there when the answer was given."""
    narrowing: int = 0
    """Answers about both endpoints together, which may leave fewer of several possible owners."""
    judging: int = 0
    """Nothing more: they are decided within the next turns of the engine."""


class AttributionReport(NamedTuple):
    """State of the attribution."""

    shapes: tuple[ShapeReport, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    """The newest 100, the latest first."""
    narrowing_pairs: int = 0
    """Pairs of endpoints with flows that have several candidates."""
    narrowing_waiting: int = 0
    """Questions about both endpoints of such pairs that were due and got no call."""
    hint: str | None = None
    """Advice about the settings, from the answers so far."""
    pending_for: PendingFor = PendingFor()
    """Pending flows by what they wait for."""


@dataclass(frozen=True, slots=True)
class CatalogStatus:
    """State of the deployment catalog."""

    deployments: int
    left_out: int
    """Deployments left out because the catalog is full."""
    listed_at: float | None
    """When every namespace had last been listed completely."""
    age_seconds: float | None
    """Age of that listing."""
    suspicious: str | None
    """Namespaces whose last listing lost more than half of the deployments and is not applied yet."""
    error: str | None
    """Cause of the last failure; None if the last listing succeeded."""


@dataclass(frozen=True, slots=True)
class QuestionCounts:
    """Questions to the control plane since the start."""

    answers: int = 0
    """Questions answered."""
    last_answer_at: float | None = None
    last_error: str | None = None
    """Cause of the last failure."""
    unreadable_elements: int = 0
    """Elements of answers that could not be read."""
    questions_cached: int = 0
    """Questions whose answers are kept."""
    questions_waiting: int = 0
    """Questions that are due and not yet asked."""


@dataclass(frozen=True, slots=True)
class ControlPlaneStatus:
    """State of the control plane as the daemon sees it, and of the questions to it."""

    endpoint: str
    questions: QuestionCounts
    breaker_open: bool
    """Whether calls are suspended after failures."""
    clock_skew_seconds: float | None
    """Seconds by which the control plane's clock is ahead of this host's."""
    catalog: CatalogStatus | None = None
    """None without a catalog."""


@dataclass(frozen=True, slots=True)
class FlinkClusterStatus:
    """State of one cluster of open-source Flink, as its last reading shows it."""

    name: str
    url: str
    """The JobManager that answered last."""
    up: bool
    """Whether the last reading was good."""
    error: str | None
    """Why it was not."""
    version: str
    """Empty before the first good reading."""
    read_at: float | None
    """When the last good reading was done."""
    jobs: int
    """Jobs that have not ended."""
    task_managers: int
    silent_task_managers: int
    """Those without a heartbeat for 30 s: their connections stay pending."""
    local_task_managers: int
    """Those on this host whose cgroup is known."""
    registering: bool
    """Whether TaskManagers from before an outage have not registered again."""
    clock_skew_seconds: float | None
    """Seconds by which the JobManager's clock is ahead of this host's; None until a job has run."""
    calls: dict[str, int]
    """Calls of its REST interface since the start, by path."""


@dataclass(frozen=True, slots=True)
class FlowCounts:
    """Numbers of flows."""

    open: int
    """Open flows without ignored ones."""
    pending: int
    """Flows whose owner is not decided yet, open or closed."""
    tracked: int
    """Flows in the table."""
    limit: int
    """``collect.max_flows``."""


@dataclass(frozen=True, slots=True)
class ByteTotals:
    """All counted bytes: ``observed`` is the sum of the others, exactly, in both directions."""

    observed: ByteCount
    attributed: ByteCount
    shared: ByteCount
    unattributed: ByteCount
    internal: ByteCount
    """Of connections that belong to clusters of open-source Flink themselves."""
    expired: ByteCount
    pending: ByteCount


@dataclass(frozen=True, slots=True)
class ConfigurationStatus:
    """The running configuration, and the result of the last reload."""

    pid: int
    file: str | None
    """None if all settings are from the environment."""
    reloads: int
    last_reload_successful: bool
    applied_at: float
    """When the running configuration was applied."""
    last_error: str | None
    """Why the last reload was rejected; None if it was applied."""


@dataclass(frozen=True, slots=True)
class RecordingReport:
    """State of the recording (``run --record``)."""

    path: str
    size: int
    """Bytes written."""
    active: bool
    ended: str
    """Why it ended: ``stopped``, ``size``, ``disk``, ``behind``, ``defect``; empty while it runs."""


@dataclass(frozen=True, slots=True)
class HistoryStatus:
    """State of the history file."""

    up: bool
    """Whether the file can be written."""
    flows: int
    oldest_at: float | None
    """When the oldest flow ended; None without flows."""
    flows_written: int
    flows_lost: int
    flows_queued: int
    size_bytes: int
    limit_bytes: int
    files_set_aside: int
    """Files of another version, or damaged ones, that were renamed."""
    blocks_unreadable: int
    notes: str | None
    """What is wrong, in one line; None if nothing is."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """State of what is sent to the store of all hosts."""

    server: str
    """Its URL."""
    up: bool
    """Whether the last exchange succeeded, and none has been under way for over 10 s."""
    flows_sent: int
    flows_waiting: int
    """Flows in the history file that are still to be sent."""
    flows_lost: int
    """Flows that will never be sent."""
    oldest_waiting_at: float | None
    """When the oldest flow that is still to be sent ended; None without one."""
    complete_until: float | None
    """Every flow that ended before this was sent, or counts as lost."""
    error: str | None
    """Why the last exchange failed, or what else is wrong."""


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """State of the fleet as this host sees it."""

    server: str
    """Its URL, without a password."""
    up: bool
    """Whether the server answered the last exchange."""
    hosts: int | None
    """None, as the other figures of the server, while it does not answer."""
    hosts_missing: int | None
    questions_queued: int | None
    """Of all hosts."""
    oldest_question_seconds: float | None
    questions_waiting: int
    """Of this host."""
    calls_saved: int
    """Questions that the answer of another host's call served."""
    answers_refused: int
    error: str | None
    """Why the server cannot be used, or not fully; None if it can."""


@dataclass(frozen=True, slots=True)
class StatusView:
    """The daemon's own state."""

    version: str
    started_at: float
    ready: bool
    sources: tuple[SourceStatus, ...]
    control_plane: ControlPlaneStatus
    flows: FlowCounts
    bytes: ByteTotals
    conserved: bool
    """Whether observed equals the sum of the others, exactly, in both directions."""
    configuration: ConfigurationStatus | None = None
    """None if the configuration cannot be reloaded."""
    recording: RecordingReport | None = None
    """None without a recording."""
    attribution: AttributionReport = AttributionReport()
    history: HistoryStatus | None = None
    """None without a history file."""
    fleet: FleetStatus | None = None
    """None without a fleet."""
    store: StoreStatus | None = None
    """None without ``history.clickhouse``."""
    problems: tuple[str, ...] = ()
    """What is degraded, in sentences, each with its cost or remedy."""
    flink: tuple[FlinkClusterStatus, ...] = ()
    """Clusters of open-source Flink."""
