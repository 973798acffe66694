"""Owners of traffic: deployments, their descriptions and their jobs. All values are immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

ENDED = frozenset(("CANCELLED", "FINISHED", "FAILED"))
"""States of a job that has ended, in upper case."""


class State(StrEnum):
    """The state of a flow's attribution."""

    ATTRIBUTED = "attributed"
    """One deployment owns the flow."""
    SHARED = "shared"
    """One of a few deployments (``attribute.owners_limit``) owns the flow."""
    UNKNOWN = "unknown"
    """No deployment owns the flow."""
    AMBIGUOUS = "ambiguous"
    """More deployments than ``attribute.owners_limit`` may own the flow."""
    PENDING = "pending"
    """No answer counts for the flow yet."""
    FAILED = "failed"
    """The flow ended, and no answer that counts arrived in time."""
    INTERNAL = "internal"
    """The flow belongs to a Flink cluster itself: between its processes, or to a service that they coordinate by."""


class DeploymentKey(NamedTuple):
    """Identity of a deployment: ids are unique within a namespace of a workspace."""

    workspace: str
    namespace: str
    deployment_id: str


class Owner(NamedTuple):
    """Identity of a deployment and the name it had in the answer that named it."""

    workspace: str
    namespace: str
    deployment_id: str
    name: str

    @property
    def key(self) -> DeploymentKey:
        """The identity without the name: a renamed deployment is the same."""
        return DeploymentKey(*self[:3])

    def is_called(self, deployment: str) -> bool:
        """Whether ``deployment`` is its id or its name."""
        return deployment in (self.deployment_id, self.name)


FLINK = "flink.apache.org"
"""Workspace of what open-source Flink clusters run. The namespace is the cluster. No workspace id of Realtime Compute
has a dot."""

FLINK_ROLES = "flink.apache.org/role"
"""Workspace of owners that stand for a :class:`Role` in a cluster: they have no deployment."""


class Role(StrEnum):
    """What an address or an endpoint is to a Flink cluster, as the ``deployment_id`` of an owner in that workspace."""

    JOB_MANAGER = "jobmanager"
    """An address of a JobManager."""
    TASK_MANAGER = "taskmanager"
    """An address of a TaskManager."""
    SERVICE = "service"
    """An endpoint that belongs to the cluster: RPC, blob, REST or data port."""
    COORDINATION = "coordination"
    """An endpoint that the cluster's processes use, and perhaps others: ZooKeeper."""
    LEADER = "leader"
    """An address where an unknown port may belong to the leading JobManager, which was not read itself."""
    UNREAD = "unread"
    """An endpoint that may belong to the cluster, whose own endpoints are not known at present."""
    HOST = "host"
    """The address is shared: other programs than the TaskManager may have connections from it."""

    def of(self, cluster: str, process: str = "") -> Owner:
        """The owner that stands for this role in the cluster; ``process`` distinguishes TaskManagers."""
        return Owner(FLINK_ROLES, cluster, self.value, f"({self.value}{process and ' '}{process})")


class JobSelection(StrEnum):
    """How the jobs beside a deployment were selected."""

    UNLISTED = "unlisted"
    """The jobs were not listed yet."""
    LATEST = "latest"
    """Jobs that have not ended, or else the newest one."""
    ALL = "all"
    """Every job that is kept."""
    AT_START = "atStart"
    """For a flow: jobs that may have run when it began; none if no such job is known."""
    RUNNING = "running"
    """For a flow whose start or jobs are not known well enough: jobs that had not ended when last listed."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job instance of a deployment; times in seconds since the epoch, by the control plane's clock."""

    job_id: str
    status: str
    started_at: float | None = None
    ended_at: float | None = None
    """None while the job runs, or if the end is not known."""
    over: bool = False


@dataclass(frozen=True, slots=True)
class Jobs:
    """The listed jobs of one deployment: those that have not ended first, newer before older."""

    jobs: tuple[Job, ...]
    asked_at: float
    """When they were listed, seconds since the epoch by this host's clock. Later jobs are missing."""
    complete: bool
    """Whether every job that ended after ``known_from`` is listed."""
    known_from: float
    """Seconds since the epoch, by the control plane's clock."""
    skew: float | None
    """Seconds by which the control plane's clock was ahead of this host's; None if not known."""


@dataclass(frozen=True, slots=True)
class DeploymentInfo:
    """The newest description of a deployment by the control plane."""

    owner: Owner
    execution_mode: str = ""
    engine_version: str = ""
    creator: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    jobs_by_state: Mapping[str, int] = field(default_factory=dict)
    """Number of jobs by state (``running``, ``failed``, …), from the answer's job summary; empty without one."""
    jobs: tuple[Job, ...] = ()
    seen_at: float = 0.0
    """Seconds since the epoch of the answer that described it."""
    job_selection: JobSelection = JobSelection.UNLISTED
    listed: Jobs | None = None
    """The list that ``jobs`` was selected from; None if the jobs were not listed."""
    packages: tuple[str, ...] = ()
    """URIs of the files that the deployment consists of."""
    own_cluster: bool = False
    """Whether its processes are known to run nothing but this deployment: not so in a session cluster."""


def may_own(info: DeploymentInfo) -> bool:
    """Whether the deployment may hold connections: a job has not ended, or its jobs are not known."""
    running = sum(count for state, count in info.jobs_by_state.items() if state.upper() not in ENDED)
    return not info.jobs_by_state or running > 0
