"""Who owns traffic: deployments, their jobs, and what is known of them. All values are immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    pass


ENDED = frozenset(("CANCELLED", "FINISHED", "FAILED"))
"""States of a job that has ended, in upper case."""


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


class JobSelection(StrEnum):
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
    job_selection: JobSelection = JobSelection.UNLISTED
    listed: Jobs | None = None
    """What ``jobs`` is chosen from; None if the jobs were not listed."""
    packages: tuple[str, ...] = ()
    """URIs of the files it is made of."""


def may_own(info: DeploymentInfo) -> bool:
    """Whether the deployment has a job that could hold connections. True if its jobs are not known."""
    running = sum(count for state, count in info.jobs_by_state.items() if state.upper() not in ENDED)
    return not info.jobs_by_state or running > 0
