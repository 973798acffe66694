"""What is wrong with open connections: stale ones, and more to one peer than is allowed. All values are immutable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from flowmap.model.deployment import Owner
from flowmap.model.views import FlowView


class ConnectionLimits(NamedTuple):
    """Limits of ``expect`` in the configuration; None: no limit."""

    connections: int | None = None
    """Open connections of one deployment to one peer."""
    idle: float | None = None
    """Seconds without traffic."""


class StaleReason(StrEnum):
    """Why an open connection is stale."""

    OLDER_THAN_RUN = "older_than_run"
    """It began before the job that now runs: an earlier run left it open."""
    JOB_ENDED = "job_ended"
    """No job of the deployment runs."""
    IDLE = "idle"
    """Nothing was sent in either direction for longer than the limit."""
    ABOVE_LIMIT = "above_limit"
    """Of the metric only: the deployment has more connections to one peer than the limit."""


@dataclass(frozen=True, slots=True)
class StaleConnection:
    """An open connection that is stale, with every reason."""

    flow: FlowView
    reasons: tuple[StaleReason, ...]
    idle_seconds: float | None
    """Least time without traffic; None if it is not known."""
    run_started_at: float | None
    """Start of the oldest job that runs, seconds since the epoch by this host's clock; None if none runs."""


@dataclass(frozen=True, slots=True)
class PeerAboveLimit:
    """A deployment, or the set that it is one of, with more open connections to a peer than the limit."""

    owners: tuple[Owner, ...]
    peer: str
    connections: int


@dataclass(frozen=True, slots=True)
class StaleView:
    """The stale connections of a selection."""

    connections: tuple[StaleConnection, ...]
    """The oldest first; at most as many as asked for."""
    total: int
    """Stale connections of the selection, also those that are not listed."""
    above_limit: tuple[PeerAboveLimit, ...]
    checked: int
    """Open connections of deployments in the selection."""
    unjudged: int
    """Those whose deployment's jobs are not known well enough to judge their age."""
    idle_known: bool
    """Whether the idle time of every checked connection is known."""
