"""Which deployment reads from and writes to which peer, as observed. All values are immutable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flowmap.model.deployment import DeploymentInfo
from flowmap.model.views import Traffic


class Direction(StrEnum):
    """What a deployment does with a peer."""

    READS = "reads"
    WRITES = "writes"
    BOTH = "reads and writes"


@dataclass(frozen=True, slots=True)
class LineageEdge:
    """A deployment, or the set that it is one of, and a peer that it talked to."""

    deployments: tuple[DeploymentInfo, ...]
    peer: str
    protocol: str
    endpoints: tuple[str, ...]
    """Server endpoints of the peer that are tracked now, ``ip:port``, at most a few."""
    direction: Direction
    guessed: bool
    """Whether the direction is a guess from the bytes, because no answer of the control plane shows it."""
    traffic: Traffic
    first_seen: float | None
    """Seconds since the epoch; None without a window."""
    last_seen: float | None
    counts: str = ""
    """Of a fleet: ``ip`` or ``payload``, what the bytes are."""


@dataclass(frozen=True, slots=True)
class LineageView:
    """The edges of a selection, in order of deployment and peer."""

    since: float | None
    """Seconds since the epoch; None: since the daemon started."""
    until: float
    edges: tuple[LineageEdge, ...]
    incomplete: tuple[str, ...] = ()
    """What is missing in the answer, a line each."""
